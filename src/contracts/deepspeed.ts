// What a user's own DeepSpeed configuration says against a recipe, and which of its settings have no place in a run. Pure.
// Names are those of DeepSpeed 0.19; an unknown one is refused, because DeepSpeed passes over it without a word.
import { z } from 'zod';

/** As JSON, characters: what people write has a few thousand. */
const LENGTH_MAX = 20_000;

export const DeepSpeedConfigurationSchema = z
  .record(z.string(), z.json())
  .refine((value) => JSON.stringify(value).length <= LENGTH_MAX, `must have at most ${LENGTH_MAX} characters as JSON`);

type Json = z.infer<ReturnType<typeof z.json>>;
type Configuration = z.infer<typeof DeepSpeedConfigurationSchema>;

/** What the configuration must agree with. */
export interface Recipe {
  microBatch: number;
  accumulation: number;
  processes: number;
  hosts: number;
  maxGradNorm: number;
  precision: string;
  learningRate: number;
  weightDecay: number;
}

interface Problem {
  path: string[];
  message: string;
}

/** What a run can do without, or does as it says. */
const SECTIONS = new Set([
  ...['train_batch_size', 'train_micro_batch_size_per_gpu', 'gradient_accumulation_steps', 'gradient_clipping'],
  ...['bf16', 'fp16', 'data_types', 'optimizer', 'zero_optimization', 'zero_allow_untested_optimizer'],
  ...['zero_force_ds_cpu_optimizer', 'communication_data_type', 'prescale_gradients', 'gradient_predivide_factor'],
  ...['steps_per_print', 'wall_clock_breakdown', 'memory_breakdown', 'dump_state', 'log_level', 'timers'],
  ...['comms_logger', 'disable_allgather', 'disable_python_gc', 'aio'],
]);

const DATA = '`data` and `seed` decide what is read when';
const METRICS = 'steps and losses are events of the run, which `anneal watch` shows';
const STATE = 'checkpoints are written by Anneal, verified and fenced';
const MODEL = 'models are not cut that way here';

/** What would do what the recipe decides, change what is saved, or do nothing without a word. Where it is not `enabled`, it may stand. */
const SECTIONS_REFUSED: Record<string, string> = {
  scheduler: '`schedule`, `warmupRatio` and `warmupSteps` decide (`WarmupDecayLR` is `schedule: linear`)',
  activation_checkpointing: 'models here do not look at it; `gradientCheckpointing: true` is what saves that memory',
  amp: '`precision` decides',
  torch_autocast: '`precision` decides',
  elasticity: '`processes` decides',
  autotuning: 'it starts trainings of its own; `anneal plan --probe` measures what fits',
  data_efficiency: DATA,
  dataloader_drop_last: DATA,
  tensorboard: METRICS,
  wandb: METRICS,
  comet: METRICS,
  csv_monitor: METRICS,
  flops_profiler: 'it takes the model apart at a step; `anneal watch` shows tokens per second',
  checkpoint: STATE,
  nebula: STATE,
  datastates: STATE,
  tensor_parallel: MODEL,
  expert_parallel: MODEL,
  pipeline: MODEL,
  sequence_parallel_size: MODEL,
  hybrid_engine: 'it is for methods that make their own answers',
  compile: 'compiled models were not proved to resume exactly',
  compression_training: 'weights are trained as they are',
  weight_quantization: 'weights are trained as they are',
  gradient_allreduce_op: 'ranks’ gradients are averaged',
};

const OFFLOADS = ['offload_optimizer', 'offload_param'];

const ZERO = new Set([
  ...['stage', 'contiguous_gradients', 'reduce_scatter', 'reduce_bucket_size', 'use_multi_rank_bucket_allreduce'],
  ...['allgather_partitions', 'allgather_bucket_size', 'overlap_comm', 'load_from_fp32_weights', 'sub_group_size'],
  ...['stage3_prefetch_bucket_size', 'stage3_param_persistence_threshold', 'stage3_model_persistence_threshold'],
  ...['stage3_max_live_parameters', 'stage3_max_reuse_distance', 'stage3_gather_16bit_weights_on_model_save'],
  ...['stage3_gather_fp16_weights_on_model_save', 'stage3_module_granularity_threshold', 'stage3_allgather_sequential'],
  ...['stage3_use_all_reduce_for_fetch_params', 'ignore_unused_parameters', 'round_robin_gradients'],
  ...['memory_efficient_linear', 'override_module_apply', 'log_trace_cache_warnings', 'enable_sanity_checks'],
  ...['leaf_module', ...OFFLOADS],
]);

const QUANTISED = 'what ranks send each other is not rounded here';

const ZERO_REFUSED: Record<string, string> = {
  cpu_offload: 'DeepSpeed now says `offload_optimizer: { device: cpu }`',
  cpu_offload_param: 'DeepSpeed now says `offload_param: { device: cpu }`',
  cpu_offload_use_pin_memory: 'DeepSpeed now says `offload_optimizer: { pin_memory: true }`',
  compute_grad_norm: '`maxGradNorm` needs the norm, and the run shows it',
  elastic_checkpoint: STATE,
  pipeline_loading_checkpoint: STATE,
  legacy_stage1: 'it is for stage 1',
  parameter_alignment: 'parts could not be cut anew for another number of ranks',
  zenflow: 'its optimizer keeps a state that is not saved',
  zero_hpz_partition_size: 'the second copy that it keeps is not saved',
  zero_quantized_weights: QUANTISED,
  zero_quantized_nontrainable_weights: QUANTISED,
  zero_quantized_gradients: QUANTISED,
};

/** @returns every problem at once, with its path below the configuration. */
export function configurationProblems(recipe: Recipe, configuration: Configuration): Problem[] {
  return [
    ...contradictions(recipe, configuration),
    ...precisionProblems(recipe, configuration),
    ...optimizerProblems(recipe, configuration),
    ...nameProblems(configuration, [], SECTIONS, SECTIONS_REFUSED),
    ...zeroProblems(configuration),
    ...switchProblems(configuration),
  ];
}

function contradictions(recipe: Recipe, configuration: Configuration): Problem[] {
  const { microBatch, accumulation, processes, hosts, maxGradNorm } = recipe;
  const wanted: [string[], Json, string][] = [
    [['train_micro_batch_size_per_gpu'], microBatch, '`microBatch`'],
    [['gradient_accumulation_steps'], accumulation, '`accumulation`'],
    [
      ['train_batch_size'],
      microBatch * accumulation * processes * hosts,
      '`microBatch` × `accumulation` × `processes` × `hosts`',
    ],
    [['gradient_clipping'], maxGradNorm, '`maxGradNorm`'],
  ];
  return wanted.flatMap(([path, value, source]) => {
    const given = valueAt(configuration, path);
    if (given === undefined || given === 'auto' || given === value) return [];
    return [{ path, message: `must be \`auto\` or ${JSON.stringify(value)} as ${source} says` }];
  });
}

function precisionProblems({ precision }: Recipe, configuration: Configuration): Problem[] {
  return ['bf16', 'fp16'].flatMap((name) => {
    const path = [name, 'enabled'];
    const given = valueAt(configuration, path);
    if (given === true && precision !== name) return [{ path, message: `needs \`precision: ${name}\`` }];
    if (given === false && precision === name) return [{ path, message: 'must be `auto` or true as `precision` says' }];
    return [];
  });
}

/** AdamW with the recipe's own settings is what trains anyway. */
function optimizerProblems({ learningRate, weightDecay }: Recipe, configuration: Configuration): Problem[] {
  const { optimizer } = configuration;
  if (optimizer === undefined) return [];
  const type = valueAt(optimizer, ['type']);
  if (type !== 'AdamW' && type !== 'Adam')
    return [{ path: ['optimizer', 'type'], message: 'must be `AdamW`, which is what trains here' }];
  const wanted: Record<string, Json> = {
    ...{ lr: learningRate, weight_decay: weightDecay, betas: [0.9, 0.999], eps: 1e-8 },
    ...{ torch_adam: true, adam_w_mode: true, bias_correction: true, amsgrad: false },
  };
  const given = valueAt(optimizer, ['params']);
  return Object.entries(isObject(given) ? given : {}).flatMap(([name, value]) => {
    if (value === 'auto' || JSON.stringify(value) === JSON.stringify(wanted[name])) return [];
    const path = ['optimizer', 'params', name];
    const right = wanted[name];
    return [
      { path, message: right === undefined ? 'must be left out' : `must be \`auto\` or ${JSON.stringify(right)}` },
    ];
  });
}

function nameProblems(
  section: Json | undefined,
  path: string[],
  known: Set<string>,
  refused: Record<string, string>,
): Problem[] {
  return Object.entries(isObject(section) ? section : {}).flatMap(([name, value]) => {
    const reason = refused[name];
    if (known.has(name) || (reason !== undefined && isOff(value))) return [];
    const message = reason === undefined ? 'is no setting of DeepSpeed 0.19' : `must be left out: ${reason}`;
    return [{ path: [...path, name], message }];
  });
}

function zeroProblems(configuration: Configuration): Problem[] {
  const path = ['zero_optimization'];
  const zero = configuration.zero_optimization;
  const stage = valueAt(zero, ['stage']);
  const isStage = stage === 2 || stage === 3;
  const devices = OFFLOADS.flatMap((name) => {
    const device = valueAt(zero, [name, 'device']);
    return device === undefined || device === 'cpu' || device === 'none' ? [] : [name];
  });
  const isIdle = stage === 2 && valueAt(zero, ['offload_param', 'device']) === 'cpu';
  return [
    ...(isStage ? [] : [{ path: [...path, 'stage'], message: 'must be 2 or 3; what they do less is `strategy: ddp`' }]),
    ...devices.map((name) => ({
      path: [...path, name, 'device'],
      message: 'must be `cpu` or `none`: what lies on a disk is not saved',
    })),
    ...(isIdle ? [{ path: [...path, 'offload_param'], message: 'needs `stage: 3`, which alone cuts parameters' }] : []),
    ...nameProblems(zero, path, ZERO, ZERO_REFUSED),
  ];
}

/** Settings that may stand, but not be turned on. */
function switchProblems(configuration: Configuration): Problem[] {
  const narrow = 'must be false: small updates are lost in narrow weights';
  const switches: [string[], string][] = [
    [['zero_force_ds_cpu_optimizer'], 'must be false: torch’s AdamW trains, on CPUs too'],
    [['fp16', 'fp16_master_weights_and_grads'], narrow],
    [['bf16', 'bf16_master_weights_and_grads'], narrow],
    [['bf16', 'bf16_optimizer_states'], narrow],
    [['fp16', 'auto_cast'], 'must be false: `precision` decides'],
    [['zero_optimization', 'offload_optimizer', 'super_offload'], 'must be false: its state is not saved'],
  ];
  return switches.flatMap(([path, message]) => (valueAt(configuration, path) === true ? [{ path, message }] : []));
}

/** A section that is there and does nothing. */
function isOff(value: Json): boolean {
  return value === false || (isObject(value) && value.enabled === false);
}

function isObject(value: Json | undefined): value is Record<string, Json> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function valueAt(value: Json | undefined, path: string[]): Json | undefined {
  return path.reduce<Json | undefined>((found, name) => (isObject(found) ? found[name] : undefined), value);
}
