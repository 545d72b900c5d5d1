// What a base model is made of: the tensors in the headers of its weights, and the sizes in its configuration. No weight is read.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readHeader } from '../storage/safetensors.ts';

export interface ModelShape {
  /** Tied tensors once. */
  weights: { name: string; shape: number[] }[];
  /** `model_type` of its configuration; absent = nobody knows. */
  kind?: string;
  layers: number;
  hidden: number;
  /** It has a part that sees, which is never trained. */
  readsImages: boolean;
  /** Sizes of that part; null = there is none, or its configuration does not say. */
  sight: Sight | null;
  /** Width inside the MLP, of all experts that a token meets together. */
  intermediate: number;
  /** Width of queries, and of keys and of values, over all heads. */
  queries: number;
  keys: number;
  vocabulary: number;
}

/** What a part that sees makes of an image. */
export interface Sight {
  /** Of the image, for each token that the language model reads of it. */
  patchesPerToken: number;
  /** Colours of a patch, as the processor hands them over. */
  numbersPerPatch: number;
  hidden: number;
  intermediate: number;
}

/** Tensors that are no parameters: masks and frequencies that old files hold. */
const BUFFER = /(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$/;

/** @throws AnnealError `bad_request` when the folder's files are not what they should be. */
export async function readModelShape(folder: string): Promise<ModelShape> {
  const whole = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Config;
  const config = textConfigOf(whole);
  const headers = await Promise.all((await weightFiles(folder)).map((file) => readHeader(join(folder, file))));
  const tensors = new Map(headers.flatMap(({ tensors }) => Object.entries(tensors)));
  if (config.tie_word_embeddings !== false && tensors.size > 1) tensors.delete('lm_head.weight');
  const weights = [...tensors].flatMap(([name, { shape }]) => (BUFFER.test(name) ? [] : [{ name, shape }]));
  const sees = { readsImages: 'vision_config' in config, sight: sightOf(whole) };
  return { weights, ...sees, ...kindOf(config), ...sizesOf(config) };
}

interface Config {
  text_config?: Config;
  vision_config?: Config;
  tie_word_embeddings?: boolean;
  [size: string]: unknown;
}

function kindOf({ model_type: kind }: Config): Pick<ModelShape, 'kind'> {
  return typeof kind === 'string' ? { kind } : {};
}

/** Models that see or hear keep the sizes of their language model apart. */
function textConfigOf(config: Config): Config {
  return config.text_config === undefined ? config : { ...config, ...config.text_config };
}

function sizesOf(config: Config): Omit<ModelShape, 'weights' | 'readsImages' | 'sight'> {
  const size = (...names: string[]) => {
    const value = names.map((name) => config[name]).find((found) => typeof found === 'number');
    return typeof value === 'number' ? value : 0;
  };
  const hidden = size('hidden_size', 'n_embd', 'd_model');
  const heads = size('num_attention_heads', 'n_head', 'n_heads') || 1;
  const headWidth = size('head_dim') || hidden / heads;
  const experts = size('num_experts_per_tok') || 1;
  return {
    hidden,
    layers: size('num_hidden_layers', 'n_layer', 'n_layers'),
    intermediate:
      experts * (size('moe_intermediate_size') || size('intermediate_size', 'n_inner', 'ffn_dim') || 4 * hidden),
    queries: heads * headWidth,
    keys: (size('num_key_value_heads') || heads) * headWidth,
    vocabulary: size('vocab_size'),
  };
}

/** As the families name it. A side of patches is one number, or InternVL's two. */
function sightOf({ vision_config: vision, ...config }: Config): Sight | null {
  if (vision === undefined) return null;
  const size = (from: Config, ...names: string[]) => {
    const values = names.map((name) => (Array.isArray(from[name]) ? (from[name] as unknown[])[0] : from[name]));
    return values.find((value): value is number => typeof value === 'number' && value > 0) ?? null;
  };
  const side = size(vision, 'patch_size');
  const hidden = size(vision, 'embed_dim', 'hidden_size');
  if (side === null || hidden === null) return null;
  const patches = ((size(vision, 'image_size') ?? side) / side) ** 2;
  const merged = size(vision, 'spatial_merge_size') ?? size(config, 'scale_factor');
  const tokens = size(config, 'mm_tokens_per_image');
  const kept = size(config, 'downsample_ratio');
  return {
    patchesPerToken: merged ? merged ** 2 : tokens ? patches / tokens : kept ? 1 / kept ** 2 : 1,
    numbersPerPatch: 3 * side ** 2 * (size(vision, 'temporal_patch_size') ?? 1),
    hidden,
    intermediate: size(vision, 'intermediate_size') ?? hidden * (size(vision, 'mlp_ratio') ?? 4),
  };
}

/** By the index where there is one: some folders hold the same weights a second time under another name. */
async function weightFiles(folder: string): Promise<string[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.safetensors'));
  const index = await readFile(join(folder, 'model.safetensors.index.json'), 'utf8').catch(() => null);
  if (index !== null)
    return [...new Set(Object.values((JSON.parse(index) as { weight_map: Record<string, string> }).weight_map))];
  return files.includes('model.safetensors') ? ['model.safetensors'] : files;
}
