// Scores models that were trained on preferences: does the better answer get the higher reward? Everything is computed from the predictions.
import type { Evaluation, FileSet, Rewards, VariantScore } from '../contracts/records.ts';
import type { JudgedRow, Message, PairRow } from '../contracts/rows.ts';
import type { Spec } from '../contracts/spec.ts';
import type { Prediction } from '../contracts/trainer-protocol.ts';
import { digestOf } from '../storage/digest.ts';
import { decideGate, decidePreferenceGate, type Preferred, UNTUNED } from './gate.ts';
import { wilsonInterval } from './statistics.ts';

export type PreferenceRow = PairRow | JudgedRow;

export interface PreferencesScored {
  method: 'dpo' | 'kto' | 'reward';
  spec: Spec['evaluate'];
  rows: PreferenceRow[];
  predictions: Prediction[];
  stored: FileSet;
  /** Name of the version that the run continues, whose predictions are those of the variant `parent`; absent = none. */
  parent?: string | null;
}

/** The loss of a pair to whom both answers are alike. */
const EVEN_LOSS = Math.LN2;

type ByRow = Map<string, Prediction>;

/** One answer: its reward, or null where a result is missing, and whether it is one that is wanted. */
interface Rewarded {
  reward: number | null;
  wanted: boolean;
}

export function summarisePreferences(scored: PreferencesScored): Evaluation {
  const { method, spec, rows, predictions, stored, parent = null } = scored;
  const of = (variant: string): ByRow =>
    new Map(predictions.filter((p) => p.variant === variant).map((p) => [p.id, p]));
  const [base, candidate] = [of('base'), of('candidate')];
  // What the training was held to.
  const reference = parent === null ? base : of('parent');
  const confidence = spec.gate.confidence;
  const rewarded = rows.map((row) => rewardsOf(method, row, reference.get(row.id), candidate.get(row.id)));
  const preferred = method === 'kto' ? countAnswers(rewarded.flat()) : countPairs(rewarded);
  const gate =
    spec.gate.metric === 'loss'
      ? spec.gate.against === 'parent' && parent !== null
        ? decideByLoss(scored, parent, reference, candidate)
        : decideByLoss(scored, UNTUNED, base, candidate)
      : decidePreferenceGate(spec.gate, { method, reference: parent ?? UNTUNED }, preferred);
  return {
    rows: rows.length,
    rowsDigest: digestOf(rows.map((row) => row.id)),
    matchKind: 'none',
    base: method === 'reward' ? chance() : scoreVariant('base', rows, base, confidence),
    control: null,
    candidate: scoreVariant('candidate', rows, candidate, confidence),
    rewards: describeRewards(preferred, rewarded.flat(), confidence),
    gate,
    parent:
      parent === null || method === 'reward'
        ? null
        : {
            ...scoreVariant(parent, rows, reference, confidence),
            comparison: decideByLoss(scored, parent, reference, candidate),
          },
    examples: describeExamples(rows, base, candidate),
    predictions: stored,
  };
}

/** Of a pair the chosen answer's, then the rejected one's. */
function rewardsOf(
  method: PreferencesScored['method'],
  row: PreferenceRow,
  base: Prediction | undefined,
  candidate: Prediction | undefined,
): Rewarded[] {
  const given = candidate?.rewards;
  if (method === 'reward')
    return [
      { reward: given?.chosen ?? null, wanted: true },
      { reward: given?.rejected ?? null, wanted: false },
    ];
  const first = { reward: gainOf(base, candidate), wanted: isPair(row) || row.label };
  return isPair(row) ? [first, { reward: gainOf(base?.rejected, candidate?.rejected), wanted: false }] : [first];
}

type Likelihood = Pick<Prediction, 'loss' | 'tokens'> | undefined;

/** How much likelier the tuned model finds the answer, nats. */
function gainOf(base: Likelihood, candidate: Likelihood): number | null {
  return base === undefined || candidate === undefined ? null : logLikelihood(candidate) - logLikelihood(base);
}

function logLikelihood({ loss, tokens }: NonNullable<Likelihood>): number {
  return -loss * tokens;
}

function countPairs(pairs: Rewarded[][]): Preferred {
  const margins = pairs.map(([chosen, rejected]) =>
    chosen?.reward == null || rejected?.reward == null ? null : chosen.reward - rejected.reward,
  );
  return { kind: 'pairs', missing: count(margins, null), ...signs(margins) };
}

function countAnswers(answers: Rewarded[]): Preferred {
  const of = (wanted: boolean) =>
    signs(answers.filter((answer) => answer.wanted === wanted).map(({ reward }) => reward));
  const [wanted, unwanted] = [of(true), of(false)];
  return {
    kind: 'answers',
    missing: count(
      answers.map(({ reward }) => reward),
      null,
    ),
    wanted: { right: wanted.right, n: wanted.n },
    unwanted: { right: unwanted.wrong, n: unwanted.n },
  };
}

function signs(values: (number | null)[]): { right: number; wrong: number; n: number } {
  const of = (sign: number) => values.filter((value) => value !== null && Math.sign(value) === sign).length;
  return { right: of(1), wrong: of(-1), n: values.length };
}

function count<T>(values: T[], wanted: T): number {
  return values.filter((value) => value === wanted).length;
}

function describeRewards(preferred: Preferred, answers: Rewarded[], confidence: number): Rewards {
  const share = ({ right, n }: { right: number; n: number }) => ({
    correct: right,
    n,
    ...wilsonInterval(right, n, confidence),
  });
  const mean = (wanted: boolean) => meanOf(answers.flatMap((a) => (a.wanted === wanted ? (a.reward ?? []) : [])));
  const [good, bad] = [mean(true), mean(false)];
  const margin = good === null || bad === null ? null : good - bad;
  if (preferred.kind === 'pairs') return { right: share(preferred), wanted: null, unwanted: null, margin };
  const { wanted, unwanted } = preferred;
  const all = { right: wanted.right + unwanted.right, n: wanted.n + unwanted.n };
  return { right: share(all), wanted: share(wanted), unwanted: share(unwanted), margin };
}

function meanOf(values: number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Losses of wanted answers; the rejected and unwanted ones are not to become likelier. */
function scoreVariant(name: string, rows: PreferenceRow[], predictions: ByRow, confidence: number): VariantScore {
  const wanted = rows.filter(isWanted).flatMap((row) => predictions.get(row.id) ?? []);
  const tokens = wanted.reduce((sum, p) => sum + p.tokens, 0);
  const loss = wanted.reduce((sum, p) => sum + p.loss * p.tokens, 0) / Math.max(1, tokens);
  const pairs = wanted.flatMap((p) => (p.rejected === undefined ? [] : [logLikelihood(p) - logLikelihood(p.rejected)]));
  const { right, n } = signs(pairs);
  const likelier = n === 0 ? null : { correct: right, n, ...wilsonInterval(right, n, confidence) };
  return { name, shots: 0, match: null, likelier, loss, perplexity: Math.exp(Math.min(loss, 700)) };
}

/** A reward model before its training: its head knows nothing. */
function chance(): VariantScore {
  return { name: 'chance', shots: 0, match: null, likelier: null, loss: EVEN_LOSS, perplexity: Math.exp(EVEN_LOSS) };
}

function decideByLoss(
  { method, spec, rows }: PreferencesScored,
  against: string,
  other: ByRow,
  candidate: ByRow,
): Evaluation['gate'] {
  const lossIn = (predictions: ByRow, row: PreferenceRow) => ({
    correct: null,
    loss: predictions.get(row.id)?.loss ?? null,
  });
  return decideGate(spec.gate, {
    against: method === 'reward' ? 'a model that knows nothing' : against,
    rows: rows.filter(isWanted).map((row) => ({
      candidate: lossIn(candidate, row),
      other: method === 'reward' ? { correct: null, loss: EVEN_LOSS } : lossIn(other, row),
    })),
    hasMatch: false,
  });
}

/** Held-out prompts with a wanted answer, where both models wrote one. */
function describeExamples(rows: PreferenceRow[], base: ByRow, candidate: ByRow): Evaluation['examples'] {
  return rows
    .filter((row) => isWanted(row) && (candidate.get(row.id)?.output ?? null) !== null)
    .map((row) => ({
      prompt: lastUserText(row.prompt),
      reference: (isPair(row) ? row.chosen : row.completion).content,
      before: base.get(row.id)?.output ?? null,
      after: candidate.get(row.id)?.output ?? null,
      correct: null,
    }));
}

function lastUserText(prompt: Message[]): string {
  return prompt.findLast(({ role }) => role === 'user')?.content ?? '';
}

function isPair(row: PreferenceRow): row is PairRow {
  return 'chosen' in row;
}

function isWanted(row: PreferenceRow): boolean {
  return isPair(row) || row.label;
}
