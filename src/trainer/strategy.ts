// Which strategy `auto` is: everything on each GPU while that fits, a part on each where it does not. Pure.
import { type Recipe, RecipeSchema } from '../contracts/spec.ts';

export interface StrategyFacts {
  /** Of the base model. */
  parameters: number;
  trainable: number;
  tuning: Recipe['tuning'];
  precision: Recipe['precision'];
  /** Of all hosts. */
  processes: number;
  /** Of the smallest GPU; null where there is none or nobody knows. */
  gpuMemoryBytes: number | null;
  readsImages?: boolean;
}

export interface StrategyChoice {
  strategy: 'none' | 'ddp' | 'fsdp' | 'deepspeed';
  /** A sentence for people. */
  why: string;
}

/** The rest is for activations, which grow with the micro-batch and not with the strategy. */
const MEMORY_SHARE_MAX = 0.7;
/** A parameter that is trained: its gradient in fp32, once more in DDP's buckets, and AdamW's two moments. */
const TRAINED_BYTES = 4 + 4 + 8;
/** NF4 with double quantisation (arXiv 2305.14314, section 3), rounded up to whole projections in 8 bits. */
const QUANTISED_BYTES = 1;

export function chooseStrategy(facts: StrategyFacts): StrategyChoice {
  const { processes, gpuMemoryBytes, tuning } = facts;
  if (processes === 1) return { strategy: 'none', why: 'There is one process, and it has everything.' };
  if (gpuMemoryBytes === null) {
    return { strategy: 'ddp', why: 'Without a known GPU each process keeps the whole model.' };
  }
  const bytes = wholeBytes(facts);
  const fits = bytes <= MEMORY_SHARE_MAX * gpuMemoryBytes;
  const sizes = `Model and optimizer take ${inGiB(bytes)} whole, and ${Math.round(100 * MEMORY_SHARE_MAX)} % of a GPU are ${inGiB(MEMORY_SHARE_MAX * gpuMemoryBytes)}`;
  if (fits) return { strategy: 'ddp', why: `${sizes}: each process keeps all of it.` };
  if (facts.readsImages)
    return { strategy: 'ddp', why: `${sizes}; a model that reads images is kept whole all the same.` };
  if (tuning === 'qlora') return { strategy: 'ddp', why: `${sizes}; quantised weights cannot be shared all the same.` };
  return { strategy: 'fsdp', why: `${sizes}: each process keeps a part.` };
}

/** What a spec says, or what `auto` is where it goes together with the rest of the recipe. */
export function strategyOf(
  recipe: Recipe,
  facts: Pick<StrategyFacts, 'parameters' | 'trainable' | 'gpuMemoryBytes' | 'readsImages'>,
): StrategyChoice {
  const processes = recipe.processes * recipe.hosts;
  const { tuning, precision, strategy } = recipe;
  const chosen = chooseStrategy({ ...facts, tuning, precision, processes });
  if (chosen.strategy === 'none') return chosen;
  if (strategy !== 'auto') return { strategy, why: 'The spec says so.' };
  if (chosen.strategy === 'ddp') return chosen;
  const refused = RecipeSchema.safeParse({ ...recipe, strategy: chosen.strategy }).error?.issues[0];
  return refused === undefined ? chosen : { strategy: 'ddp', why: `${chosen.why} But it ${refused.message}.` };
}

function wholeBytes({ parameters, trainable, tuning, precision }: StrategyFacts): number {
  const narrow = precision === 'fp32' ? 4 : 2;
  const weights = { full: 4 + (precision === 'fp32' ? 0 : 2), lora: narrow, qlora: QUANTISED_BYTES }[tuning];
  return weights * parameters + TRAINED_BYTES * trainable;
}

function inGiB(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
