// The gate: may the candidate go on? Three answers, and only `pass` lets it.
import type { Evaluation } from '../contracts/records.ts';
import type { Spec } from '../contracts/spec.ts';
import {
  bootstrapInterval,
  mcnemarPValue,
  meanProportionInterval,
  pairedInterval,
  wilsonInterval,
} from './statistics.ts';

/** One row's scores under two models; `null` = no result. */
export interface PairedScore {
  candidate: { correct: boolean | null; loss: number | null };
  other: { correct: boolean | null; loss: number | null };
}

/** Fewest rows on which `auto` trusts counts of right answers; below it the loss says more. */
export const MATCH_ROWS_MIN = 30;

/** What a candidate is compared with, in sentences. */
export const UNTUNED = 'the untuned model';

type Gate = Evaluation['gate'];

/** @param against what `other` is, for the sentence. */
export function decideGate(
  gate: Spec['evaluate']['gate'],
  scores: { against: string; rows: PairedScore[]; hasMatch: boolean },
): Gate {
  const wanted = gate.metric === 'match' || gate.metric === 'loss' ? gate.metric : null;
  const metric = wanted ?? (scores.hasMatch && scores.rows.length >= MATCH_ROWS_MIN ? 'match' : 'loss');
  const base = { metric, against: scores.against, confidence: gate.confidence, minGain: gate.minGain } as const;
  const missing = scores.rows.filter((row) => !isComplete(row, metric)).length;
  if (missing > 0 || scores.rows.length === 0) {
    const reason =
      scores.rows.length === 0
        ? 'No row was scored; a missing result is never a pass.'
        : `${missing} of ${scores.rows.length} rows have no result; a missing result is never a pass.`;
    return undecided(base, reason);
  }
  return metric === 'match' ? decideByMatch(base, scores.rows) : decideByLoss(base, scores.rows);
}

/** How many answers have the reward that they should; the rest are wrong, ties or (`missing`) without a result. */
export type Preferred = { missing: number } & (
  | { kind: 'pairs'; right: number; wrong: number; n: number }
  | { kind: 'answers'; wanted: Side; unwanted: Side }
);
interface Side {
  right: number;
  n: number;
}

/**
 * A model prefers neither answer to what it does itself, so that half of them are right by chance: the share of right ones must surely lie
 * above it. @param reference what rewards are measured from, for the sentence.
 */
export function decidePreferenceGate(
  gate: Spec['evaluate']['gate'],
  { method, reference }: { method: 'dpo' | 'kto' | 'reward'; reference: string },
  preferred: Preferred,
): Gate {
  const base: Decided = {
    metric: 'preference',
    against: method === 'reward' ? 'chance' : reference,
    confidence: gate.confidence,
    minGain: gate.minGain,
  };
  const nothing = whyNothing(preferred);
  if (nothing !== null) return undecided(base, nothing);
  return preferred.kind === 'pairs' ? decideByPairs(base, method, preferred) : decideByAnswers(base, preferred);
}

function whyNothing(preferred: Preferred): string | null {
  if (preferred.missing > 0) return `${preferred.missing} answers have no result; a missing result is never a pass.`;
  if (preferred.kind === 'pairs')
    return preferred.n === 0 ? 'No pair was scored; a missing result is never a pass.' : null;
  const absent = preferred.wanted.n === 0 ? 'true' : preferred.unwanted.n === 0 ? 'false' : null;
  return absent === null
    ? null
    : `No held-out answer has the label ${absent}; hold out more with \`data.split.test\` or \`evaluate.rows\`.`;
}

type Pairs = Extract<Preferred, { kind: 'pairs' }>;

function decideByPairs(base: Decided, method: 'dpo' | 'kto' | 'reward', { right, wrong, n }: Pairs): Gate {
  const interval = wilsonInterval(right, n, base.confidence);
  const [difference, low, high] = [right / n - EVEN, interval.low - EVEN, interval.high - EVEN];
  const pValue = mcnemarPValue(right, wrong);
  const verdict = pValue < 1 - base.confidence ? decideVerdict(low, high, base.minGain) : 'inconclusive';
  const what =
    method === 'reward'
      ? 'The reward model gives the chosen answer more'
      : `The tuned model leans to the chosen answer, more than ${briefly(base.against)} does,`;
  const reason = `${what} in ${right} of ${n} pairs: ${aboveEven(difference, low, high)}, sign test p = ${pValue.toPrecision(2)}${gainClause(verdict, `${points(base.minGain)} points`)}.`;
  return { ...base, difference, low, high, pValue, verdict, reason };
}

/** Both kinds count alike, whatever their numbers: a model that makes every answer likelier has learned nothing. */
function decideByAnswers(base: Decided, { wanted, unwanted }: Extract<Preferred, { kind: 'answers' }>): Gate {
  const { mean, low: lowest, high: highest } = meanProportionInterval(wanted, unwanted, base.confidence);
  const [difference, low, high] = [mean - EVEN, lowest - EVEN, highest - EVEN];
  const verdict = decideVerdict(low, high, base.minGain);
  const reason = `The tuned model finds ${wanted.right} of ${wanted.n} wanted answers likelier than ${briefly(base.against)} does, and ${unwanted.right} of ${unwanted.n} unwanted ones less likely: ${aboveEven(difference, low, high)}, both kinds counted alike${gainClause(verdict, `${points(base.minGain)} points`)}.`;
  return { ...base, difference, low, high, pValue: null, verdict, reason };
}

function briefly(against: string): string {
  return against === UNTUNED ? 'the untuned one' : against;
}

/** The share of right ones where nothing is preferred. */
const EVEN = 0.5;

function aboveEven(difference: number, low: number, high: number): string {
  return `${points(difference)} points above an even half (${points(low)} to ${points(high)})`;
}

function points(share: number): string {
  return (share * 100).toFixed(1);
}

function undecided(base: Decided, reason: string): Gate {
  return { ...base, difference: 0, low: 0, high: 0, pValue: null, verdict: 'inconclusive', reason };
}

type Decided = Pick<Gate, 'metric' | 'against' | 'confidence' | 'minGain'>;

function decideByMatch(base: Decided, rows: PairedScore[]): Gate {
  const differences = rows.map((row) => Number(row.candidate.correct) - Number(row.other.correct));
  const { mean, low, high } = bootstrapInterval(differences, base.confidence);
  const gained = differences.filter((d) => d > 0).length;
  const lost = differences.filter((d) => d < 0).length;
  const pValue = mcnemarPValue(gained, lost);
  const significant = pValue < 1 - base.confidence;
  const verdict = !significant ? 'inconclusive' : decideVerdict(low, high, base.minGain);
  const reason = `The candidate has ${gained} rows right that ${base.against} has wrong and ${lost} the other way, of ${rows.length}: ${points(mean)} points (${points(low)} to ${points(high)}), McNemar p = ${pValue.toPrecision(2)}${gainClause(verdict, `${points(base.minGain)} points`)}.`;
  return { ...base, difference: mean, low, high, pValue, verdict, reason };
}

function decideByLoss(base: Decided, rows: PairedScore[]): Gate {
  const saved = rows.map((row) => (row.other.loss as number) - (row.candidate.loss as number));
  const { mean, low, high } = pairedInterval(saved, base.confidence);
  const verdict = decideVerdict(low, high, base.minGain);
  const reason = Number.isFinite(low)
    ? `The candidate's loss is ${mean.toFixed(4)} nats a token below that of ${base.against} (${low.toFixed(4)} to ${high.toFixed(4)}) on ${rows.length} rows${gainClause(verdict, `${base.minGain} nats`)}.`
    : `${rows.length} row is too few to compare losses on; hold out more with \`data.split.test\`.`;
  // JSON has no infinity: an interval that says nothing is written as a very wide one.
  const finite = (value: number) => Math.max(-1e9, Math.min(1e9, value));
  return { ...base, difference: mean, low: finite(low), high: finite(high), pValue: null, verdict, reason };
}

/** `pass`: surely a gain that matters. `fail`: surely worse. */
function decideVerdict(low: number, high: number, minGain: number): Gate['verdict'] {
  if (low > minGain) return 'pass';
  return high < 0 ? 'fail' : 'inconclusive';
}

function gainClause(verdict: Gate['verdict'], minGain: string): string {
  if (verdict === 'pass') return `; the least gain is ${minGain}`;
  return `; to pass, it must surely lie above ${minGain} (\`evaluate.gate.minGain\`)`;
}

function isComplete(row: PairedScore, metric: 'match' | 'loss'): boolean {
  const values = metric === 'match' ? [row.candidate.correct, row.other.correct] : [row.candidate.loss, row.other.loss];
  return values.every((value) => value !== null && (typeof value === 'boolean' || Number.isFinite(value)));
}
