// The gate: may the candidate go on? Three answers, and only `pass` lets it.
import type { Evaluation } from '../contracts/records.ts';
import type { Spec } from '../contracts/spec.ts';
import { bootstrapInterval, mcnemarPValue, pairedInterval } from './statistics.ts';

/** One row's scores under two models; `null` = no result. */
export interface PairedScore {
  candidate: { correct: boolean | null; loss: number | null };
  other: { correct: boolean | null; loss: number | null };
}

/** Fewest rows on which `auto` trusts counts of right answers; below it the loss says more. */
export const MATCH_ROWS_MIN = 30;

type Gate = Evaluation['gate'];

/** @param against what `other` is, for the sentence. */
export function decideGate(
  gate: Spec['evaluate']['gate'],
  scores: { against: string; rows: PairedScore[]; hasMatch: boolean },
): Gate {
  const metric =
    gate.metric === 'auto' ? (scores.hasMatch && scores.rows.length >= MATCH_ROWS_MIN ? 'match' : 'loss') : gate.metric;
  const base = { metric, against: scores.against, confidence: gate.confidence, minGain: gate.minGain } as const;
  const missing = scores.rows.filter((row) => !isComplete(row, metric)).length;
  if (missing > 0 || scores.rows.length === 0) {
    const reason =
      scores.rows.length === 0
        ? 'No row was scored; a missing result is never a pass.'
        : `${missing} of ${scores.rows.length} rows have no result; a missing result is never a pass.`;
    return { ...base, difference: 0, low: 0, high: 0, pValue: null, verdict: 'inconclusive', reason };
  }
  return metric === 'match' ? decideByMatch(base, scores.rows) : decideByLoss(base, scores.rows);
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
  const points = (share: number) => `${(share * 100).toFixed(1)}`;
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
