// How many parameters a model has and how many of them a recipe trains. Pure; the trainer's own count is the same.
import type { Recipe } from '../contracts/spec.ts';
import type { ModelShape } from './model-shape.ts';

export interface ParameterCount {
  trainable: number;
  /** Of the base model and what is added to it. */
  total: number;
  /** Numbers of linear layers other than the output's, which quantisation makes smaller. */
  linear: number;
}

/** Attention and MLP projections as the families of transformers name them; the same list as in `adapters.py`. */
const PROJECTIONS = new Set([
  ...['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'qkv_proj', 'gate_up_proj'],
  ...['out_proj', 'dense', 'fc1', 'fc2', 'fc_in', 'fc_out'],
  ...['query_key_value', 'dense_h_to_4h', 'dense_4h_to_h'],
  ...['c_attn', 'c_proj', 'c_fc', 'Wqkv'],
]);
/** Two-dimensional, and no linear layers to the trainer: embeddings, the output layer, and experts, of which it makes one tensor a layer. */
const NOT_ADAPTED = /(embed|wte|wpe|lm_head|embed_out|score|\.experts\.)/;
/** What `auto` and `all-linear` leave out of a model with experts: PEFT would adapt these, too; as `adapters.py` has it. */
const OF_EXPERTS = new Set(['gate_proj', 'up_proj', 'down_proj', 'gate_up_proj']);

/** State-space models, of which `out_proj` cannot be adapted and `auto` adapts the mixers' projections; as `adapters.py` has it. */
const MAMBA = new Set(['falcon_h1', 'falcon_mamba', 'mamba', 'mamba2', 'nemotron_h']);
const PAST_ADAPTERS = 'out_proj';
const MIXERS = new Set(['in_proj', 'x_proj']);

/** What sees, and what hands it to the language model: frozen, as the trainer's `freeze_sight` says. */
const SIGHT = /(^|\.)(vision_tower|vision_model|vision_encoder|visual|embed_vision|multi_modal_projector|connector)\./;

/** Which of the model's layers a tensor lies in. */
const LAYER = /\.(\d+)\./;

function isTrainedIn(shape: ModelShape, name: string): boolean {
  return !shape.readsImages || !SIGHT.test(name);
}

type Tuned = Pick<Recipe, 'method' | 'tuning' | 'lora'>;

export function countParameters(shape: ModelShape, recipe: Tuned): ParameterCount {
  const base = shape.weights.reduce((sum, weight) => sum + product(weight.shape), 0);
  const linear = linearLayers(shape).reduce((sum, layer) => sum + layer.rows * layer.columns, 0);
  // One output instead of the vocabulary's.
  const head = recipe.method === 'reward' ? shape.hidden : 0;
  if (recipe.tuning === 'full') {
    const trained = shape.weights.filter(({ name }) => isTrainedIn(shape, name));
    return {
      trainable: trained.reduce((sum, weight) => sum + product(weight.shape), head),
      total: base + head,
      linear,
    };
  }
  const adapter =
    adaptedLayers(shape, recipe).reduce((sum, layer) => sum + adapterSize(layer, recipe), 0) +
    (recipe.lora.experts ? expertsOf(shape, recipe.lora.firstLayer) * recipe.lora.rank : 0);
  return { trainable: adapter + head, total: base + adapter + head, linear };
}

interface Layer {
  name: string;
  /** Last part of its name. */
  module: string;
  /** Which of the model's layers it lies in; null outside of them. */
  index: number | null;
  rows: number;
  columns: number;
}

export function adaptedLayers(shape: ModelShape, { lora }: Tuned): Layer[] {
  const { targets, firstLayer } = lora;
  const isMixture = hasExperts(shape);
  return linearLayers(shape).filter(({ name, module, index }) => {
    if (!isTrainedIn(shape, name)) return false;
    if (firstLayer > 0 && (index === null || index < firstLayer)) return false;
    if (typeof targets !== 'string') return targets.includes(module);
    if ((isMixture && OF_EXPERTS.has(module)) || cannotAdapt(shape, module)) return false;
    return targets === 'all-linear' || PROJECTIONS.has(module) || (isMamba(shape) && MIXERS.has(module));
  });
}

/** Its kernels read the module's weights past any adapter. */
export function cannotAdapt(shape: ModelShape, module: string): boolean {
  return isMamba(shape) && module === PAST_ADAPTERS;
}

function isMamba({ kind = '' }: ModelShape): boolean {
  return MAMBA.has(kind);
}

export function hasExperts(shape: ModelShape): boolean {
  return shape.weights.some(({ name }) => name.includes('.experts.'));
}

/** Of a whole tensor, or of the half that a second one shares: the trainer puts an expert's gate and what it gates together. */
const EXPERT = /\.experts\.(?:\d+\.)?(?<module>gate_proj|up_proj|down_proj|gate_up_proj|w1|w2|w3)(?:\.weight)?$/;
const SECOND_HALVES = ['up_proj', 'w3'];

/** Numbers of experts' adapters of rank 1. */
function expertsOf(shape: ModelShape, firstLayer: number): number {
  return shape.weights.reduce((sum, { name, shape: sizes }) => {
    const module = EXPERT.exec(name)?.groups?.module;
    if (module === undefined || Number(LAYER.exec(name)?.[1] ?? 0) < firstLayer) return sum;
    const [columns, rows, experts = 1] = sizes.toReversed() as [number, number, number?];
    return sum + experts * (rows + (SECOND_HALVES.includes(module) ? 0 : columns));
  }, 0);
}

/** Names that `lora.targets` may hold. */
export function moduleNames(shape: ModelShape): string[] {
  const layers = linearLayers(shape).filter(({ name }) => isTrainedIn(shape, name));
  return [...new Set(layers.map(({ module }) => module))].sort();
}

function linearLayers(shape: ModelShape): Layer[] {
  return shape.weights.flatMap(({ name, shape: [rows, columns, ...rest] }) => {
    const path = name.endsWith('.weight') ? name.slice(0, -'.weight'.length) : null;
    if (path === null || rows === undefined || columns === undefined || rest.length > 0) return [];
    if (NOT_ADAPTED.test(path)) return [];
    const index = LAYER.exec(name)?.[1];
    const module = path.slice(path.lastIndexOf('.') + 1);
    return [{ name, module, index: index === undefined ? null : Number(index), rows, columns }];
  });
}

function adapterSize({ rows, columns }: Layer, { lora }: Tuned): number {
  return lora.rank * (rows + columns) + (lora.dora ? rows : 0);
}

function product(shape: number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}
