// The exactness matrix: each configuration is trained twice, undisturbed and with its trainer killed again and again, through the
// product's own supervision on this host: claims, warm parent, order of resume. Weights and logs must come out the same.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileSet, Training } from '../../contracts/records.ts';
import { PROTOCOL_VERSION, type TrainJob } from '../../contracts/trainer-protocol.ts';
import { seededRandom } from '../../evaluation/seeded-random.ts';
import { digestOf } from '../../storage/digest.ts';
import { putFolder } from '../../storage/file-set.ts';
import { createFileStore } from '../../storage/file-store.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { type BaseModel, openBaseModel } from '../../trainer/base-model.ts';
import { type PythonConfig, startChild } from '../../trainer/child.ts';
import { train } from '../../trainer/training.ts';
import { createWarmParent, type WarmParent } from '../../trainer/warm-parent.ts';
import { openWarmRoot } from '../../trainer/warm-state.ts';
import { CliError } from '../failures.ts';
import { readEvents } from './events.ts';
import { type Cell, type Control, selectCells, selectControls } from './matrix-cells.ts';
import { chooseLastShots, chooseShots, evenShots, type Shot, shoot } from './matrix-kills.ts';
import { areLogsEqual, type RunLog, readRunLog } from './matrix-logs.ts';

export interface MatrixOptions {
  /** Cells by name; all where empty. */
  cells: string[];
  kills: number;
  seed: number;
  python: PythonConfig;
  /** Folder of base models. */
  models: string;
  signal: AbortSignal;
  /** Called when a row changes; `report` holds the rows that are done. */
  onProgress(report: MatrixReport, running: string): void;
}

export interface CellReport {
  name: string;
  /** Shots that hit. */
  kills: number;
  weightsEqual: boolean;
  logsEqual: boolean;
  /** Tries that went on from a saved state of the cell's kind. */
  resumed: number;
  seconds: number;
}

export interface ControlReport {
  name: string;
  hole: string;
  different: boolean;
}

export interface MatrixReport {
  cells: CellReport[];
  /** Cells that came out the same. */
  exact: number;
  /** Cells to be run. */
  total: number;
  controls: ControlReport[];
}

const BASE = 'tiny';
const SHARED_MEMORY = '/dev/shm';

export async function runMatrix(options: MatrixOptions): Promise<MatrixReport> {
  const cells = selectCells(options.cells);
  const controls = selectControls(options.cells);
  const report: MatrixReport = { cells: [], exact: 0, total: cells.length, controls: [] };
  await withBench(options, async (bench) => {
    for (const cell of cells) {
      options.onProgress(report, cell.name);
      report.cells.push(await runCell(bench, cell));
      report.exact = report.cells.filter(isExact).length;
    }
    for (const control of controls) {
      options.onProgress(report, `${control.name} with the hole ${control.hole}`);
      report.controls.push(await runControl(bench, control));
    }
    options.onProgress(report, '');
  });
  return report;
}

/** A trainer that resumed more often than it was shot died by itself, which is a fault however equal its end. */
export function isExact({ weightsEqual, logsEqual, kills, resumed }: CellReport): boolean {
  return weightsEqual && logsEqual && kills > 0 && resumed <= kills;
}

export function isPassed({ exact, total, controls }: MatrixReport): boolean {
  return exact === total && controls.every(({ different }) => different);
}

/** What all cells share. */
interface Bench extends MatrixOptions {
  state: string;
  store: ObjectStore;
  warmParent: WarmParent | null;
  base: BaseModel;
  /** Shards that were made already, by kind and number of rows. */
  datasets: Map<string, Promise<FileSet>>;
}

async function withBench(options: MatrixOptions, work: (bench: Bench) => Promise<void>): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), 'anneal-matrix-'));
  const warmParent = process.platform === 'linux' ? createWarmParent(options.python, join(state, 'warm-parent')) : null;
  try {
    const base = await openBaseModel(BASE, options.models);
    const store = createFileStore(join(state, 'store'));
    await work({ ...options, state, store, warmParent, base, datasets: new Map() });
  } finally {
    await warmParent?.close();
    const warmRoot = await openWarmRoot(SHARED_MEMORY, state);
    if (warmRoot !== null) rmSync(warmRoot, { recursive: true, force: true });
    rmSync(state, { recursive: true, force: true });
  }
}

async function runCell(bench: Bench, cell: Cell): Promise<CellReport> {
  const startedMs = Date.now();
  const undisturbed = await trainOnce(bench, cell, { run: `${cell.name}-undisturbed`, hole: null });
  const { processes } = cell.recipe;
  const random = seededRandom(seedOf(bench.seed, cell.name));
  const shots = cell.atEnd
    ? chooseLastShots(bench.kills, processes, random)
    : chooseShots(bench.kills, undisturbed.steps, processes, random);
  const disturbed = await trainOnce(bench, cell, { run: cell.name, hole: null, shots, steps: undisturbed.steps });
  return {
    name: cell.name,
    kills: disturbed.hits,
    weightsEqual: disturbed.log.weightsSha256 === undisturbed.log.weightsSha256,
    logsEqual: areLogsEqual(undisturbed.log, disturbed.log),
    resumed: disturbed.log.resumed[cell.isWarm ? 'warm' : 'checkpoint'] ?? 0,
    seconds: (Date.now() - startedMs) / 1000,
  };
}

async function runControl(bench: Bench, { name, hole, cell }: Control): Promise<ControlReport> {
  const undisturbed = await trainOnce(bench, cell, { run: `${hole}-undisturbed`, hole });
  const { steps } = undisturbed;
  const shots = cell.atEnd ? [{ at: 'end' as const, into: 0, rank: null }] : evenShots(Math.min(3, bench.kills), steps);
  const disturbed = await trainOnce(bench, cell, { run: hole, hole, shots, steps });
  return { name, hole, different: disturbed.log.weightsSha256 !== undisturbed.log.weightsSha256 };
}

/** Each cell has moments of its own. */
function seedOf(seed: number, name: string): number {
  return Number.parseInt(digestOf({ seed, name }).slice(0, 8), 16);
}

interface Once {
  run: string;
  hole: TrainJob['hole'];
  shots?: Shot[];
  /** Of the undisturbed run. */
  steps?: number;
}

async function trainOnce(
  bench: Bench,
  cell: Cell,
  { run, hole, shots = [], steps = 0 }: Once,
): Promise<{ log: RunLog; steps: number; hits: number }> {
  const { state } = bench;
  const ended = new AbortController();
  const eventsFile = join(state, 'gpu', 'runs', run, 'events.ndjson');
  const hits = shoot(shots, { state, eventsFile, steps, signal: cell.signal }, ended.signal);
  const training = await runTraining(bench, cell, run, hole).finally(() => ended.abort());
  const log = readRunLog(readEvents(state, run), training.result);
  rmSync(join(state, 'gpu', 'runs', run), { recursive: true, force: true });
  return { log, steps: training.result.step, hits: await hits };
}

async function runTraining(bench: Bench, cell: Cell, run: string, hole: TrainJob['hole']): Promise<Training> {
  return await train({
    ...bench,
    sharedMemory: cell.isWarm ? SHARED_MEMORY : null,
    claimant: { run, workflowRunId: run, attemptScheduledMs: Date.now(), host: 'drill' },
    dataset: await datasetOf(bench, cell),
    recipe: cell.recipe,
    stepBefore: null,
    onProgress: () => undefined,
    drill: { hole, warmEverySteps: 1 },
  });
}

async function datasetOf(bench: Bench, { data, rows }: Cell): Promise<FileSet> {
  const key = `${data}-${rows}`;
  const known = bench.datasets.get(key) ?? makeDataset(bench, key, data, rows);
  bench.datasets.set(key, known);
  return await known;
}

async function makeDataset(bench: Bench, key: string, kind: Cell['data'], rows: number): Promise<FileSet> {
  const { python, warmParent, signal, base, seed } = bench;
  const output = join(bench.state, 'shards', key);
  const options = {
    job: { v: PROTOCOL_VERSION, command: 'drill-data', kind, baseModel: base.folder, rows, seed, output } as const,
    folder: join(bench.state, 'drill-data', key),
    signal,
    graceMs: 0,
    onEvent: () => undefined,
  };
  const child = (await warmParent?.run(options)) ?? startChild({ ...options, python });
  const { outcome, message } = await child.ended;
  signal.throwIfAborted();
  if (outcome !== 'done') throw new CliError('drill_failed', `The drill's data could not be made: ${message}`);
  return await putFolder(bench.store, output, signal);
}
