// Makes a plan on this machine: no stack is needed, and one that runs is only asked how fast trainings like this one were.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Environment } from '../contracts/environment.ts';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Spec } from '../contracts/spec.ts';
import type { ProbeResult } from '../contracts/trainer-protocol.ts';
import { probeJob } from '../plan/admission.ts';
import { type DataRead, type PlannedData, readPlannedData } from '../plan/data.ts';
import { describeHost, type Host } from '../plan/host.ts';
import { questionOf, strategyFor, wantsProbe } from '../plan/memory-check.ts';
import { type ModelShape, readModelShape } from '../plan/model-shape.ts';
import { makePlan, type Plan } from '../plan/plan.ts';
import { type Prices, readPrices } from '../plan/prices.ts';
import { runProbe } from '../plan/probe.ts';
import { readSpeeds, type Speed } from '../plan/speed.ts';
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

/** Problems are part of it: it is made as far as they let it. */
export async function planLocally(spec: Spec, { probe, say }: LocalPlanOptions): Promise<Plan> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-plan-'));
  const problems: Problem[] = [];
  const attempt = <T>(path: string, work: () => Promise<T>) => orProblem(path, work, problems);
  try {
    const local = locateLocal();
    const { environment, hasStack } = await findEnvironment();
    const base = await attempt('model.base', () => findBaseModel(spec.model.base, local.models));
    problems.push(...(base === null ? [] : await visionProblems(base, spec)));
    const shape = base === null ? null : await attempt('model.base', () => readModelShape(base));
    say('Counting rows and tokens.');
    const read = base === null ? null : await attempt('data', () => planData(spec, environment, folder));
    const { data, notes } = read ?? { data: null, notes: [] };
    const host = await describeHost(local.python.environment.CUDA_VISIBLE_DEVICES);
    const fits = shape && data && couldFit(spec, shape, data, host);
    if (probe && fits) say('Measuring memory by two short trainings.');
    const measured =
      probe && base && shape && data && fits
        ? await attempt('train', () => measure(spec, base, data, folder, strategyFor(shape, spec.train, host)))
        : null;
    const prices = await attempt('prices', findPrices);
    const speeds = hasStack ? await findSpeeds(spec, environment) : [];
    const unchecked = await parentNotes(spec, environment, hasStack, problems);
    if (hasStack && spec.train.hosts > 1) problems.push(...(await lackOfHosts(spec, environment)));
    return makePlan({
      spec,
      shape,
      data,
      host,
      probe: measured,
      prices,
      speeds,
      notes: [...notes, ...unchecked],
      problems,
      nowMs: Date.now(),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns what could not be looked at. */
async function parentNotes(
  spec: Spec,
  environment: Environment,
  hasStack: boolean,
  problems: Problem[],
): Promise<string[]> {
  const { from } = spec.train;
  if (from === null) return [];
  if (!hasStack) return [`Whether ${from} can be continued is known where a stack runs: none runs here.`];
  const parent = await orProblem('train.from', () => findParent(spec, environment), problems);
  return parent === null ? [] : [`Continues ${parent.model}@${parent.version}, digest ${parent.digest.slice(0, 12)}.`];
}

async function orProblem<T>(path: string, work: () => Promise<T>, problems: Problem[]): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    problems.push(...(error.problems.length > 0 ? error.problems : [{ path, message: error.message }]));
    return null;
  }
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

async function measure(
  spec: Spec,
  base: string,
  data: PlannedData,
  folder: string,
  strategy: StrategyChoice,
): Promise<ProbeResult> {
  const { python } = locateLocal();
  const model = { name: spec.model.base, folder: base };
  const job = probeJob(model, data.train, join(folder, 'probe', 'steps'), spec.train, strategy);
  return await runProbe({ python, warmParent: null, job, folder: join(folder, 'probe'), onProgress: () => undefined });
}

/** `ANNEAL_PRICES`, else `prices.yaml` of the state folder, else the example. */
async function findPrices(): Promise<Prices> {
  const own = join(stateFolder(), 'prices.yaml');
  const given = process.env.ANNEAL_PRICES;
  if (given) return await readPrices(resolve(given));
  if (existsSync(own)) return await readPrices(own);
  return { ...(await readPrices(join(PROJECT_FOLDER, 'examples', 'prices.yaml'))), isExample: true };
}

/** Of the hosts that are there now; a pool that does not answer lacks nothing. */
async function lackOfHosts({ name, train, queue }: Spec, environment: Environment): Promise<Problem[]> {
  const { connect } = await import('../client/connect.ts');
  const request = {
    ...{ id: name, workflowId: '', workflowRunId: '', run: name, team: queue.team ?? '', priority: 3, prefer: [] },
    ...{ hosts: train.hosts, processes: train.processes, device: train.device },
  };
  try {
    const client = await connect(environment);
    const { hosts } = await client.pool.describe().finally(() => client.close());
    const lack = describeLackOfHosts(request, hosts);
    return lack === null ? [] : [{ path: 'train.hosts', message: lack }];
  } catch {
    return [];
  }
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
