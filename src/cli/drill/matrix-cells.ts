// The configurations of the exactness matrix: by name, how each differs from a small common recipe and how its trainer is killed.
import { type Recipe, RecipeSchema, type SpecInput } from '../../contracts/spec.ts';
import type { DrillDataJob, TrainJob } from '../../contracts/trainer-protocol.ts';

export interface Cell {
  name: string;
  recipe: Recipe;
  /** Of the training shard; the validation shard has a fifth of them. */
  rows: number;
  data: DrillDataJob['kind'];
  /** Resumes from warm state alone, otherwise from checkpoints on disk alone. */
  isWarm: boolean;
  signal: 'SIGKILL' | 'SIGTERM';
  /** Killed after its last step only, while it finishes. */
  atEnd: boolean;
}

/** A cell with a known hole of exactness left open: it must come out different, or the matrix could not fail. */
export interface Control {
  name: string;
  hole: NonNullable<TrainJob['hole']>;
  cell: Cell;
}

type TrainInput = NonNullable<SpecInput['train']>;
type CellInput = { train?: TrainInput } & Partial<Pick<Cell, 'rows' | 'data' | 'isWarm' | 'signal' | 'atEnd'>>;

/** Rows of 6 to 40 tokens in micro-batches of 2, 15 an epoch: two full epochs and a part of the next. */
const COMMON = {
  epochs: 100,
  maxSteps: 40,
  microBatch: 2,
  learningRate: 1e-3,
  saveSteps: 3,
  evalSteps: 5,
  keep: 2,
  threads: 1,
  lora: { rank: 4 },
} satisfies TrainInput;
const ROWS = 30;

/** No checkpoint before the last step. */
const WITHOUT_CHECKPOINTS = { saveSteps: 1_000, evalSteps: 1_000 };

const FULL: CellInput = { train: { tuning: 'full' } };
const LORA: CellInput = { train: { lora: { ...COMMON.lora, dropout: 0.1 } } };
const OPTIMIZER_8BIT: CellInput = { train: { tuning: 'full', optimizer: 'adamw8bit' } };
/** 14 micro-batches an epoch by fours: the last step of an epoch has two, the last of which has one row. */
const ACCUMULATION: CellInput = { rows: 27, train: { accumulation: 4, maxSteps: 26 } };
/** Some 55 packed rows. */
const PACKING: CellInput = { rows: 90, train: { packing: true } };
const WORKERS: CellInput = { train: { dataloaderWorkers: 2, tokenDropout: 0.2 } };
const RANDOM_COLLATOR: CellInput = { train: { tokenDropout: 0.3 } };
const SIGTERM: CellInput = {
  ...ACCUMULATION,
  signal: 'SIGTERM',
  train: { ...ACCUMULATION.train, ...WITHOUT_CHECKPOINTS },
};
/** A rate so high that the validation loss soon grows. */
const EARLY_STOPPING: CellInput = {
  rows: 20,
  train: {
    tuning: 'full',
    learningRate: 0.2,
    maxSteps: 80,
    saveSteps: 2,
    evalSteps: 2,
    earlyStopping: { patience: 8, threshold: 0 },
  },
};
/** 13 is no epoch's edge, where transformers would stop by itself; with another schedule a step too many would have the rate 0. */
const TERMINAL: CellInput = { atEnd: true, train: { maxSteps: 13, schedule: 'constant' } };

const warm = (input: CellInput): CellInput => ({
  ...input,
  isWarm: true,
  train: { ...input.train, ...WITHOUT_CHECKPOINTS },
});
/** Twice the rows for twice the ranks. */
const ddp = (input: CellInput): CellInput => ({
  ...input,
  rows: 2 * (input.rows ?? ROWS) - 1,
  train: { ...input.train, processes: 2 },
});

/** Each rank holds a part of the state. */
function shared(how: 'fsdp' | 'zero2' | 'zero3', input: CellInput): CellInput {
  const cell = ddp(input);
  const strategy: TrainInput = how === 'fsdp' ? { strategy: how } : { strategy: 'deepspeed', deepspeed: how };
  return { ...cell, train: { ...cell.train, ...strategy } };
}

const CELLS: Record<string, CellInput> = {
  'sft-full': FULL,
  'lora-dropout': LORA,
  'accumulation-remainder': ACCUMULATION,
  packing: PACKING,
  workers: WORKERS,
  streaming: { train: { streaming: true } },
  // Ten steps an epoch, and every checkpoint at the end of one.
  'epoch-edge': { rows: 20, train: { saveSteps: 10 } },
  'early-stopping': EARLY_STOPPING,
  'random-collator': RANDOM_COLLATOR,
  'sigterm-accumulation': SIGTERM,
  qlora: { train: { tuning: 'qlora' } },
  'dpo-lora': { data: 'preference', train: { method: 'dpo', maxSteps: 30 } },
  'dpo-full': { data: 'preference', train: { method: 'dpo', tuning: 'full', maxSteps: 30 } },
  'kto-lora': { data: 'judged', train: { method: 'kto', maxSteps: 30 } },
  'reward-lora': { data: 'preference', train: { method: 'reward', maxSteps: 30 } },
  'gradient-checkpointing': { train: { ...LORA.train, gradientCheckpointing: true } },
  'optimizer-8bit': OPTIMIZER_8BIT,
  terminal: TERMINAL,
  'sft-full-warm': warm(FULL),
  'lora-warm': warm(LORA),
  'accumulation-warm': warm(ACCUMULATION),
  'qlora-warm': warm({ train: { tuning: 'qlora' } }),
  'optimizer-8bit-warm': warm(OPTIMIZER_8BIT),
  'ddp-full': ddp(FULL),
  'ddp-lora': ddp(LORA),
  'ddp-accumulation': ddp(ACCUMULATION),
  'ddp-packing': ddp(PACKING),
  'ddp-workers': ddp(WORKERS),
  'ddp-random-collator': ddp(RANDOM_COLLATOR),
  'ddp-sigterm': ddp(SIGTERM),
  'ddp-warm': ddp(warm(FULL)),
  'fsdp-full': shared('fsdp', FULL),
  'fsdp-lora': shared('fsdp', LORA),
  'fsdp-accumulation': shared('fsdp', ACCUMULATION),
  'fsdp-warm': shared('fsdp', warm(FULL)),
  'zero2-full': shared('zero2', FULL),
  'zero2-lora': shared('zero2', LORA),
  'zero3-full': shared('zero3', FULL),
  'zero3-lora': shared('zero3', LORA),
  'zero3-warm': shared('zero3', warm(FULL)),
};

/** Each hole, and the cell that shows it. */
const HOLES: Record<Control['hole'], string> = {
  'unkeyed-collator': 'random-collator',
  'no-callback-state': 'early-stopping',
  'no-terminal-flag': 'terminal',
};

export const CELL_NAMES = Object.keys(CELLS);

/** DeepSpeed is an optional part of the set-up. */
const ON_REQUEST = /^zero\d-/;

/** @param names where empty, all but those that run on request only. */
export function selectCells(names: string[]): Cell[] {
  return CELL_NAMES.filter((name) => (names.length === 0 ? !ON_REQUEST.test(name) : names.includes(name))).map(
    makeCell,
  );
}

/** Those of the named cells; all where no cell is named. */
export function selectControls(names: string[]): Control[] {
  return Object.entries(HOLES)
    .filter(([, name]) => names.length === 0 || names.includes(name))
    .map(([hole, name]) => ({ name, hole: hole as Control['hole'], cell: makeCell(name) }));
}

function makeCell(name: string): Cell {
  const { train, ...input } = CELLS[name] as CellInput;
  const recipe = RecipeSchema.parse({ ...COMMON, ...train });
  return { name, recipe, rows: ROWS, data: 'sft', isWarm: false, signal: 'SIGKILL', atEnd: false, ...input };
}
