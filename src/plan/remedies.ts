// What can be changed so that a training needs less memory, and how much each change would save. Pure.
import { KTO_MICRO_BATCH_MIN, type Recipe } from '../contracts/spec.ts';
import { isCheckpointed, type MemoryQuestion, predictMemory, totalOf } from './memory.ts';

export interface Remedy {
  /** Settings of the spec, such as `train.microBatch: 2`. */
  change: string;
  /** What the training would need then. */
  bytes: number;
}

/** Smaller savings are within the error of the prediction, share. */
const WORTH_IT = 0.03;

interface Candidate {
  change: string;
  recipe: Partial<Recipe>;
  /** Share of the tokens of a row. */
  length?: number;
}

export interface Need {
  /** Of one process. */
  limitBytes: number;
  /** What it takes with the recipe as it is; predictions of other recipes are scaled by it. */
  bytes: number;
  /** With so many rows at once, where that was measured. */
  atRows: (rows: number) => number | null;
}

/** The most saving first. */
export function findRemedies(question: MemoryQuestion, { limitBytes, bytes, atRows }: Need): Remedy[] {
  const scale = bytes / bytesWith(question, {});
  const bytesAt = (rows: number) => atRows(rows) ?? scale * bytesWith(question, { rows });
  const remedies = candidates(question, limitBytes, bytesAt).map(({ change, recipe, length }) => {
    const rows = recipe.microBatch;
    return { change, bytes: rows === undefined ? scale * bytesWith(question, { recipe, length }) : bytesAt(rows) };
  });
  const worthIt = remedies.filter((remedy) => remedy.bytes < (1 - WORTH_IT) * bytes);
  return worthIt.toSorted((a, b) => a.bytes - b.bytes);
}

interface Change {
  rows?: number;
  recipe?: Partial<Recipe>;
  length?: number | undefined;
}

function bytesWith(question: MemoryQuestion, { rows, recipe = {}, length = 1 }: Change): number {
  const { batch } = question;
  const changed = { ...batch, rows: rows ?? batch.rows, tokens: Math.ceil(batch.tokens * length) };
  return totalOf(predictMemory({ ...question, recipe: { ...question.recipe, ...recipe }, batch: changed }));
}

function candidates(
  { recipe, batch, shape }: MemoryQuestion,
  limitBytes: number,
  bytesAt: (rows: number) => number,
): Candidate[] {
  const { microBatch, accumulation, tuning, method } = recipe;
  const least = method === 'kto' ? KTO_MICRO_BATCH_MIN : 1;
  const smaller = smallerBatch(microBatch, least, limitBytes, bytesAt);
  const keeps = `train.accumulation: ${(accumulation * microBatch) / smaller}`;
  return [
    ...when(smaller < microBatch, {
      change: `train.microBatch: ${smaller} with ${keeps}`,
      recipe: { microBatch: smaller },
    }),
    ...when(!isCheckpointed(recipe), {
      change: 'train.gradientCheckpointing: true',
      recipe: { gradientCheckpointing: true },
    }),
    ...when(recipe.optimizer === 'adamw', { change: 'train.optimizer: adamw8bit', recipe: { optimizer: 'adamw8bit' } }),
    ...when(tuning === 'full', { change: 'train.tuning: lora', recipe: { tuning: 'lora' } }),
    ...when(tuning === 'lora' && !shape.readsImages, {
      change: 'train.tuning: qlora',
      recipe: { tuning: 'qlora', qlora: { bits: 4 } },
    }),
    ...when(microBatch === 1, { change: `data.maxLength: ${Math.ceil(batch.tokens / 2)}`, recipe: {}, length: 0.5 }),
  ];
}

function when(holds: boolean, candidate: Candidate): Candidate[] {
  return holds ? [candidate] : [];
}

/** The largest divisor that fits, so that accumulation keeps the effective batch; the least when none does. */
function smallerBatch(
  microBatch: number,
  least: number,
  limitBytes: number,
  bytesAt: (rows: number) => number,
): number {
  const divisors = Array.from({ length: microBatch }, (_, i) => i + 1).filter(
    (n) => microBatch % n === 0 && n >= least,
  );
  return divisors.findLast((rows) => rows < microBatch && bytesAt(rows) <= limitBytes) ?? divisors[0] ?? microBatch;
}
