// A small Llama, as a shape and as a folder, and recipes for it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Recipe, RecipeSchema } from '../../src/contracts/spec.ts';
import type { Host } from '../../src/plan/host.ts';
import type { MemoryQuestion } from '../../src/plan/memory.ts';
import type { ModelShape } from '../../src/plan/model-shape.ts';

export const GIB = 1024 ** 3;

const LAYERS = 32;
const HIDDEN = 4096;
const INTERMEDIATE = 14336;
const KEYS = 1024;
const VOCABULARY = 128_256;

/** The sizes of Llama 3.1 8B. */
export function llama8b(): ModelShape {
  const layer = (i: number): [string, number[]][] => [
    [`model.layers.${i}.self_attn.q_proj.weight`, [HIDDEN, HIDDEN]],
    [`model.layers.${i}.self_attn.k_proj.weight`, [KEYS, HIDDEN]],
    [`model.layers.${i}.self_attn.v_proj.weight`, [KEYS, HIDDEN]],
    [`model.layers.${i}.self_attn.o_proj.weight`, [HIDDEN, HIDDEN]],
    [`model.layers.${i}.mlp.gate_proj.weight`, [INTERMEDIATE, HIDDEN]],
    [`model.layers.${i}.mlp.up_proj.weight`, [INTERMEDIATE, HIDDEN]],
    [`model.layers.${i}.mlp.down_proj.weight`, [HIDDEN, INTERMEDIATE]],
    [`model.layers.${i}.input_layernorm.weight`, [HIDDEN]],
    [`model.layers.${i}.post_attention_layernorm.weight`, [HIDDEN]],
  ];
  const tensors: [string, number[]][] = [
    ['model.embed_tokens.weight', [VOCABULARY, HIDDEN]],
    ...Array.from({ length: LAYERS }, (_, i) => layer(i)).flat(),
    ['model.norm.weight', [HIDDEN]],
    ['lm_head.weight', [VOCABULARY, HIDDEN]],
  ];
  return {
    weights: tensors.map(([name, shape]) => ({ name, shape })),
    ...{
      readsImages: false,
      sight: null,
      layers: LAYERS,
      hidden: HIDDEN,
      intermediate: INTERMEDIATE,
      queries: HIDDEN,
      keys: KEYS,
      vocabulary: VOCABULARY,
    },
  };
}

/** A folder with the configuration and weights of nothing but zeros: headers are what is read. */
export function writeModel(
  folder: string,
  { weights, ...sizes }: ModelShape,
  config: Record<string, unknown> = {},
): string {
  mkdirSync(folder, { recursive: true });
  const file = {
    ...{ hidden_size: sizes.hidden, num_hidden_layers: sizes.layers, intermediate_size: sizes.intermediate },
    ...{ num_attention_heads: 32, num_key_value_heads: 8, vocab_size: sizes.vocabulary, ...config },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(file));
  const header = Buffer.from(
    JSON.stringify({
      __metadata__: { format: 'pt' },
      ...Object.fromEntries(weights.map(({ name, shape }) => [name, { dtype: 'BF16', shape, data_offsets: [0, 0] }])),
    }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, header]));
  return folder;
}

export function recipeOf(fields: object = {}): Recipe {
  return RecipeSchema.parse(fields);
}

export const CPU_HOST: Host = { memoryBytes: 64 * GIB, gpus: [] };
export const H100: Host = { memoryBytes: 512 * GIB, gpus: [{ name: 'NVIDIA H100 80GB HBM3', memoryBytes: 80 * GIB }] };

export function question(fields: object = {}, more: Partial<MemoryQuestion> = {}): MemoryQuestion {
  const recipe = recipeOf(fields);
  return {
    ...{ shape: llama8b(), recipe, device: 'gpu', sharding: 'none', ranks: 1 },
    batch: { rows: recipe.microBatch, tokens: 1024, labels: 0.5 },
    ...more,
  };
}
