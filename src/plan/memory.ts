// How much memory a training will take, by arithmetic alone: what lives at once when the forward pass of a micro-batch ends, or its way
// back begins. Pure. On CPUs it was fitted to the peaks of one small model (`bench memory`); a probe says more than any formula.
import type { Recipe } from '../contracts/spec.ts';
import type { ModelShape } from './model-shape.ts';
import { countParameters } from './parameters.ts';

export const MEMORY_PARTS = [
  'parameters',
  'gradients',
  'optimizer',
  'activations',
  'logits',
  'program',
  'recovery',
] as const;
export type MemoryParts = Record<(typeof MEMORY_PARTS)[number], number>;

/** What goes through the model at once. */
export interface Batch {
  rows: number;
  /** Tokens of the longest row: shorter ones are padded to it. */
  tokens: number;
  /** Share of the tokens that have a label. */
  labels: number;
}

/** What each of several ranks keeps for itself: everything (`ddp`), or a part of some things. */
export type Sharding = 'none' | 'ddp' | 'fsdp' | 'zero2' | 'zero3';

export interface MemoryQuestion {
  shape: ModelShape;
  recipe: Recipe;
  batch: Batch;
  device: 'cpu' | 'gpu';
  sharding: Sharding;
  /** Ranks that train together. */
  ranks: number;
}

/** Python, torch and transformers on a CPU (measured); a CUDA context on a GPU, bytes. */
const PROGRAM_BYTES = { cpu: 430e6, gpu: 600e6 };
/** AdamW's two moments in fp32; in 8 bits with a scale of 4 bytes for each 256 numbers. */
const MOMENT_BYTES = { adamw: 8, adamw8bit: 2 + 8 / 256 };
/** NF4 with double quantisation (arXiv 2305.14314, section 3); LLM.int8() with its scales. */
const QUANTISED_BYTES = { 4: 0.516, 8: 1.01 };
/** Logits, their logarithms and their gradient, in fp32. */
const LOGITS_COPIES = 3;
/**
 * Peak ÷ what is alive: the C library keeps holes between freed blocks, and an adapter's many small tensors make many (measured). GPU memory
 * is torch's own and denser.
 */
const HOLES_SHARE = { cpu: { full: 1.05, lora: 1.45, qlora: 1.45 }, gpu: { full: 1.1, lora: 1.1, qlora: 1.1 } };

/** What checkpointing leaves of the activations on a CPU, most of it holes (measured); on a GPU it is one tensor a layer, and one layer. */
const CHECKPOINTED_SHARE = 0.5;

/** Of one process, and of its GPU where it has one. */
export function predictMemory(question: MemoryQuestion): MemoryParts {
  const { shape, recipe, batch, device, sharding, ranks } = question;
  const { trainable } = countParameters(shape, recipe);
  const shared = (of: Sharding[]) => (of.includes(sharding) ? 1 / ranks : 1);
  // Each rank of DDP puts its gradients together in buckets of their own.
  const copies = sharding === 'ddp' ? 2 : 1;
  const tokens = batch.rows * batch.tokens * sequencesOf(recipe);
  const languageBytes = tokens * activationBytes(shape, recipe, device) * HOLES_SHARE[device][recipe.tuning];
  const logits = logitsBytes(shape, recipe, tokens * batch.labels);
  return {
    parameters: parameterBytes(question) * shared(['fsdp', 'zero3']),
    gradients: 4 * trainable * copies * shared(['fsdp', 'zero2', 'zero3']),
    optimizer: momentBytes(question) * shared(['fsdp', 'zero2', 'zero3']),
    activations: languageBytes + imageBytes(question, languageBytes + logits),
    logits,
    program: PROGRAM_BYTES[device],
    recovery: device === 'cpu' ? recoveryBytes(question, shared(['fsdp', 'zero2', 'zero3'])) : 0,
  };
}

/**
 * In the host's memory, beside a training that lives there too: a copy of the trained weights and their moments in warm state, and, where
 * all weights change, those that the job parent keeps for this host's ranks to fork from. With FSDP it keeps none: each rank takes its part
 * from the files.
 */
function recoveryBytes(question: MemoryQuestion, share: number): number {
  const { shape, recipe, ranks, sharding } = question;
  const { trainable, total } = countParameters(shape, recipe);
  const kept = recipe.tuning === 'full' && sharding !== 'fsdp' ? (4 * total) / Math.min(ranks, recipe.processes) : 0;
  return (4 * trainable + momentBytes(question)) * share + kept;
}

export function totalOf(parts: MemoryParts): number {
  return Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
}

/** What is there before the first row: if this does not fit, no micro-batch is small enough. */
export function fixedOf({ parameters, gradients, optimizer, program, recovery }: MemoryParts): number {
  return parameters + gradients + optimizer + program + recovery;
}

/** bitsandbytes keeps the moments of embeddings in 32 bits. */
function momentBytes({ shape, recipe }: MemoryQuestion): number {
  const { trainable, total, linear } = countParameters(shape, recipe);
  const precise = recipe.tuning === 'full' ? total - linear : 0;
  return MOMENT_BYTES.adamw * precise + MOMENT_BYTES[recipe.optimizer] * (trainable - precise);
}

/** A pair is two sequences; KTO compares each answer with another one. */
function sequencesOf({ method }: Recipe): number {
  return method === 'sft' ? 1 : 2;
}

/**
 * Of a micro-batch whose tokens are all images': at most as many are. What sees is frozen and keeps nothing for the way back, so that one of
 * its layers lives at once, and is gone before the language model has what it keeps.
 * @param later what the language model has then.
 */
function imageBytes({ shape: { sight }, recipe, batch, device }: MemoryQuestion, later: number): number {
  if (sight === null) return 0;
  const { patchesPerToken, numbersPerPatch, hidden, intermediate } = sight;
  const patches = batch.rows * batch.tokens * patchesPerToken;
  // In fp32, and once more as the model takes them in.
  const pixels = patches * numbersPerPatch * (4 + widthOf(recipe, device));
  // Input, normed input, queries, keys, values and output; both sides of the activation, and what it computes with.
  const layer = patches * widthOf(recipe, device) * (6 * hidden + 3 * intermediate);
  return pixels + Math.max(0, layer - later);
}

/** By a second adapter; a run that continues nothing is held to the model without one. */
export function isHeldToParent({ method, tuning, from }: Recipe): boolean {
  return from !== null && tuning !== 'full' && (method === 'dpo' || method === 'kto');
}

function parameterBytes({ shape, recipe, device }: MemoryQuestion): number {
  const { trainable, total, linear } = countParameters(shape, recipe);
  const width = widthOf(recipe, device);
  // Weights in fp32 have a narrow copy where it computes in fewer bits. Frozen ones are put into these on a GPU.
  const precise = width === 4 ? 4 : 6;
  if (recipe.tuning === 'full') {
    const reference = recipe.method === 'dpo' || recipe.method === 'kto' ? width : 0;
    return total * (precise + reference);
  }
  const wide = device === 'cpu' ? precise : width;
  // One that is continued stays, frozen, what preferences are compared with.
  const adapter = 4 * trainable * (isHeldToParent(recipe) ? 2 : 1);
  const base = total - trainable;
  if (recipe.tuning === 'lora') return wide * base + adapter;
  return QUANTISED_BYTES[recipe.qlora.bits] * linear + wide * (base - linear) + adapter;
}

/** Of a number that is computed with, bytes. */
function widthOf({ precision }: Recipe, device: 'cpu' | 'gpu'): number {
  if (precision === 'auto') return device === 'cpu' ? 4 : 2;
  return precision === 'fp32' ? 4 : 2;
}

/** Kept for the way back, a token: of every layer, or one tensor of each and everything of a single one. */
function activationBytes(shape: ModelShape, recipe: Recipe, device: 'cpu' | 'gpu'): number {
  const { hidden, intermediate, queries, keys } = shape;
  const layers = Math.max(1, shape.layers - (recipe.tuning === 'full' ? 0 : recipe.lora.firstLayer));
  const wide = widthOf(recipe, device);
  // Two norms with input, normed and scaled output, which they compute in fp32; attention with its rotated inputs and its output in two
  // layouts; the MLP with both projections, the activation and their product.
  const norms = 2 * hidden * (wide + 4 + wide);
  const attention = wide * (3 * queries + 2 * keys + queries);
  const mlp = wide * 4 * intermediate;
  const layer = norms + attention + mlp;
  if (!isCheckpointed(recipe)) return layers * layer;
  return device === 'cpu' ? CHECKPOINTED_SHARE * layers * layer : layers * wide * hidden + layer;
}

export function isCheckpointed({
  gradientCheckpointing,
  tuning,
}: Pick<Recipe, 'gradientCheckpointing' | 'tuning'>): boolean {
  return gradientCheckpointing || tuning === 'qlora';
}

/** The output layer runs where there is a label and nowhere else; a reward model has one output. */
function logitsBytes(shape: ModelShape, { method }: Recipe, labels: number): number {
  return method === 'reward' ? 0 : LOGITS_COPIES * 4 * shape.vocabulary * labels;
}
