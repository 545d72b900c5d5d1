// Makes plans on this machine: no stack is needed; one that runs is asked for its hosts, and how fast trainings like these were.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gatewayProblems } from '../activities/base-problems.ts';
import type { Environment } from '../contracts/environment.ts';
import { AnnealError, isFinal, type Problem } from '../contracts/failure.ts';
import type { PoolHost } from '../contracts/pool.ts';
import type { Spec } from '../contracts/spec.ts';
import type { ProbeResult } from '../contracts/trainer-protocol.ts';
import { probeJob } from '../plan/admission.ts';
import { type DataRead, type PlannedData, readPlannedData } from '../plan/data.ts';
import { describeHost, type Host } from '../plan/host.ts';
import { questionOf, strategyFor, wantsProbe } from '../plan/memory-check.ts';
import { type ModelShape, readModelShape } from '../plan/model-shape.ts';
import { makePlan, type Plan } from '../plan/plan.ts';
import { lackOfGpus, smallestHost } from '../plan/pool-hosts.ts';
import { type Prices, readPrices } from '../plan/prices.ts';
import { runProbe } from '../plan/probe.ts';
import { readSpeeds, type Speed } from '../plan/speed.ts';
import { digestOf } from '../storage/digest.ts';
import { PROJECT_FOLDER } from '../telemetry/code-identity.ts';
import { findBaseModel } from '../trainer/base-model.ts';
import type { StrategyChoice } from '../trainer/strategy.ts';
import { visionProblems } from '../trainer/vision.ts';
import { describeLackOfHosts } from '../workflows/policies/grants.ts';
import { locateLocal } from './drill/local.ts';
import { createLocalSources, findEnvironment } from './local-sources.ts';
import { findParent } from './parent.ts';
import { stateFolder } from './settings.ts';

export interface LocalPlanOptions {
  /** Measure the memory by short trainings. */
  probe: boolean;
  /** What is being done. */
  say: (line: string) => void;
}

export interface Planner {
  /** Problems are part of it: it is made as far as they let it. What plans have in common is read once. */
  plan(spec: Spec): Promise<Plan>;
}

/** Sweeps may try settings of the data; each of them is read and tokenised on its own, which takes seconds. */
const DATA_READ_MAX = 4;
/** A stack that is not there any more is not waited for, ms. */
const POOL_MS_MAX = 5_000;

export async function planLocally(spec: Spec, options: LocalPlanOptions): Promise<Plan> {
  return await withPlanner(options, (planner) => planner.plan(spec));
}

export async function withPlanner<T>(options: LocalPlanOptions, work: (planner: Planner) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-plan-'));
  try {
    const surroundings = await lookAround(options, folder);
    return await work({ plan: (spec) => planOne(spec, surroundings) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is the same for all plans. */
interface Surroundings extends LocalPlanOptions {
  folder: string;
  environment: Environment;
  hasStack: boolean;
  /** The stack's workers may be on machines that have what this one lacks. */
  isElsewhere: boolean;
  /** null where it does not answer, or there is no stack. */
  pool: PoolHost[] | null;
  here: Host;
  /** By what decides them. */
  dataRead: Map<string, Promise<DataRead>>;
}

async function lookAround(options: LocalPlanOptions, folder: string): Promise<Surroundings> {
  const found = await findEnvironment();
  const [pool, here] = await Promise.all([
    found.hasStack ? poolHosts(found.environment) : null,
    describeHost(locateLocal().python.environment.CUDA_VISIBLE_DEVICES),
  ]);
  return { ...options, ...found, folder, pool, here, dataRead: new Map() };
}

async function planOne(spec: Spec, surroundings: Surroundings): Promise<Plan> {
  const { environment, hasStack, probe, say } = surroundings;
  const found: Found = { problems: [], notes: [], isElsewhere: surroundings.isElsewhere };
  const base = await attempt('model.base', () => findBaseModel(spec.model.base, locateLocal().models), found);
  const shape = base === null ? null : await attempt('model.base', () => readModelShape(base), found);
  found.problems.push(...(base === null ? [] : await visionProblems(base, spec)));
  if (hasStack) found.problems.push(...(await stackProblems(spec, surroundings)));
  const read = base === null ? null : await attempt('data', () => planDataOnce(spec, surroundings), found);
  const { data, notes } = read ?? { data: null, notes: [] };
  const host = hostFor(spec, surroundings);
  const fits = shape && data && couldFit(spec, shape, data, host);
  if (probe && fits) say('Measuring memory by two short trainings.');
  const measured =
    probe && base && shape && data && fits
      ? await attempt('train', () => measure(spec, base, data, strategyFor(shape, spec.train, host)), found)
      : null;
  const prices = await attempt('prices', findPrices, found);
  const speeds = hasStack ? await findSpeeds(spec, environment) : [];
  const continued = await parentNotes(spec, surroundings, found);
  const facts = { spec, shape, data, host, probe: measured, prices, speeds, problems: found.problems };
  return makePlan({ ...facts, notes: [...found.notes, ...notes, ...continued], nowMs: Date.now() });
}

/** Of the version that it continues: the registry is the stack's, wherever its workers are. */
async function parentNotes(spec: Spec, surroundings: Surroundings, found: Found): Promise<string[]> {
  const { from } = spec.train;
  if (from === null) return [];
  if (!surroundings.hasStack) return [`Whether ${from} can be continued is known where a stack runs: none runs here.`];
  const look = () => findParent(spec, surroundings.environment);
  const parent = await attempt('train.from', look, { ...found, isElsewhere: false });
  return parent === null ? [] : [`Continues ${parent.model}@${parent.version}, digest ${parent.digest.slice(0, 12)}.`];
}

/** The pool's, unless memory is to be measured here. */
function hostFor({ train }: Spec, { pool, here, probe, isElsewhere }: Surroundings): Host {
  if (probe) return here;
  return smallestHost(pool ?? [], train) ?? (isElsewhere ? { ...here, isStandIn: true } : here);
}

interface Found {
  problems: Problem[];
  notes: string[];
  isElsewhere: boolean;
}

/** What a worker may have, or may get by waiting, is no problem of the run: the plan only says that it goes without. */
async function attempt<T>(path: string, work: () => Promise<T>, found: Found): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    const { kind, message, problems } = error;
    const isOfHere = found.isElsewhere && kind !== 'data_rejected';
    if (isOfHere) found.notes.push(`This machine cannot look into \`${path}\`, its workers may: ${message}`);
    else if (!isFinal(kind)) found.notes.push(`The plan does without \`${path}\`: ${message}`);
    else found.problems.push(...(problems.length > 0 ? problems : [{ path, message }]));
    return null;
  }
}

/** What the stack's pool and gateway say. */
async function stackProblems(spec: Spec, { pool, environment }: Surroundings): Promise<Problem[]> {
  const { train } = spec;
  const lack = train.hosts > 1 && pool !== null ? lackOfHosts(spec, pool) : null;
  return [
    ...(lack === null ? [] : [{ path: 'train.hosts', message: lack }]),
    ...lackOfGpus(pool ?? [], train),
    ...(await gatewayProblems(environment.ANNEAL_GATEWAY_URL, spec, new AbortController().signal)),
  ];
}

async function planDataOnce(spec: Spec, surroundings: Surroundings): Promise<DataRead> {
  const { data, model, train } = spec;
  const { dataRead, folder, environment, say } = surroundings;
  const key = digestOf({ data, base: model.base, method: train.method, packing: train.packing });
  const known = dataRead.get(key);
  if (known !== undefined) return await known;
  if (dataRead.size >= DATA_READ_MAX)
    return { data: null, notes: [`Rows are counted for the first ${DATA_READ_MAX} settings of \`data\` only.`] };
  say('Counting rows and tokens.');
  const reading = planData(spec, environment, join(folder, key));
  dataRead.set(key, reading);
  return await reading;
}

async function planData(spec: Spec, environment: Environment, folder: string): Promise<DataRead> {
  const { makeDataset } = await import('../activities/preprocess.ts');
  const { python, models } = locateLocal();
  const examples = resolve(environment.ANNEAL_EXAMPLES);
  const parts = { python, models, examples, state: folder, host: 'local', gatewayUrl: '' };
  const context = {
    signal: new AbortController().signal,
    report: () => undefined,
    progress: () => ({ stage: 'preprocess', phase: 'plan' }) as const,
  };
  const sources = await createLocalSources(environment, folder);
  const options = { sources, pseudonymKey: environment.ANNEAL_PSEUDONYM_KEY ?? null };
  return await readPlannedData({
    ...{ spec, folder, sources },
    makeDataset: async (input, store) => {
      const { dataset } = await makeDataset({ ...parts, store }, options, { run: 'plan', ...input }, context);
      return dataset;
    },
  });
}

function couldFit(spec: Spec, shape: ModelShape, data: PlannedData, host: Host): boolean {
  const tokens = data.splits.train;
  return tokens !== undefined && wantsProbe(questionOf(shape, spec.train, tokens, host), host, 0);
}

async function measure(spec: Spec, base: string, data: PlannedData, strategy: StrategyChoice): Promise<ProbeResult> {
  const { python } = locateLocal();
  const folder = mkdtempSync(join(tmpdir(), 'anneal-probe-'));
  const model = { name: spec.model.base, folder: base };
  const job = probeJob(model, data.train, join(folder, 'steps'), spec.train, strategy);
  try {
    return await runProbe({ python, warmParent: null, job, folder, onProgress: () => undefined });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `ANNEAL_PRICES`, else `prices.yaml` of the state folder, else the example. */
async function findPrices(): Promise<Prices> {
  const own = join(stateFolder(), 'prices.yaml');
  const given = process.env.ANNEAL_PRICES;
  if (given) return await readPrices(resolve(given));
  if (existsSync(own)) return await readPrices(own);
  return { ...(await readPrices(join(PROJECT_FOLDER, 'examples', 'prices.yaml'))), isExample: true };
}

/** Those that are there now. */
async function poolHosts(environment: Environment): Promise<PoolHost[] | null> {
  const { connect } = await import('../client/connect.ts');
  try {
    const client = await connect(environment);
    const patience = new Promise<null>((resolve) => setTimeout(resolve, POOL_MS_MAX, null).unref());
    const state = await Promise.race([client.pool.describe(), patience]).finally(() => client.close());
    return state?.hosts ?? null;
  } catch {
    return null;
  }
}

function lackOfHosts({ name, train, queue }: Spec, hosts: PoolHost[]): string | null {
  const request = {
    ...{ id: name, workflowId: '', workflowRunId: '', run: name, team: queue.team ?? '', priority: 3, prefer: [] },
    ...{ hosts: train.hosts, processes: train.processes, device: train.device },
  };
  return describeLackOfHosts(request, hosts);
}

/** Hints: without an answer the time is unknown. */
async function findSpeeds(spec: Spec, environment: Environment): Promise<Speed[]> {
  const { createStoreFromEnvironment } = await import('../storage/open-store.ts');
  const store = createStoreFromEnvironment(environment);
  try {
    return await readSpeeds(store, spec.model.base, spec.train);
  } catch {
    return [];
  } finally {
    await store.close();
  }
}
