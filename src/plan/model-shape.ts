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
  /** Width inside the MLP, of all experts that a token meets together. */
  intermediate: number;
  /** Width of queries, and of keys and of values, over all heads. */
  queries: number;
  keys: number;
  vocabulary: number;
}

/** Tensors that are no parameters: masks and frequencies that old files hold. */
const BUFFER = /(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$/;

/** @throws AnnealError `bad_request` when the folder's files are not what they should be. */
export async function readModelShape(folder: string): Promise<ModelShape> {
  const config = textConfigOf(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Config);
  const headers = await Promise.all((await weightFiles(folder)).map((file) => readHeader(join(folder, file))));
  const tensors = new Map(headers.flatMap(({ tensors }) => Object.entries(tensors)));
  if (config.tie_word_embeddings !== false && tensors.size > 1) tensors.delete('lm_head.weight');
  const weights = [...tensors].flatMap(([name, { shape }]) => (BUFFER.test(name) ? [] : [{ name, shape }]));
  return { weights, readsImages: 'vision_config' in config, ...kindOf(config), ...sizesOf(config) };
}

interface Config {
  text_config?: Config;
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

function sizesOf(config: Config): Omit<ModelShape, 'weights' | 'readsImages'> {
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

/** By the index where there is one: some folders hold the same weights a second time under another name. */
async function weightFiles(folder: string): Promise<string[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.safetensors'));
  const index = await readFile(join(folder, 'model.safetensors.index.json'), 'utf8').catch(() => null);
  if (index !== null)
    return [...new Set(Object.values((JSON.parse(index) as { weight_map: Record<string, string> }).weight_map))];
  return files.includes('model.safetensors') ? ['model.safetensors'] : files;
}
