// The workers of `bench preprocess`, who share the ranges of one snapshot; one of them can be killed in the middle.
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CleanedPiece, RangePlan, Resolution } from '../src/contracts/ranges.ts';
import type { PreparationInput } from '../src/data/preparation/host.ts';
import type { RangeLimits } from '../src/data/preparation/plan.ts';
import { NODE_FLAGS } from '../src/dev/worker-process.ts';
import type { Answer, Busy, Order, Usage } from './preprocess-worker.ts';

export interface Work {
  store: string;
  folder: string;
  input: PreparationInput;
  limits: RangeLimits | null;
  workers: number;
  /** Kill the first worker in the middle of its first range. */
  isOneKilled: boolean;
  signal: AbortSignal;
}

export interface WorkDone {
  plan: RangePlan;
  pieces: CleanedPiece[];
  resolution: Resolution;
  seconds: number;
  /** Of all workers together, those that were killed left out. */
  cpuSeconds: number;
  /** Of the largest. */
  peakBytes: number;
}

class Killed extends Error {}

interface CrewMember {
  ask(order: Order): Promise<Answer>;
  usage(): Usage;
  leave(): void;
}

function hire({ store, folder, signal, isOneKilled }: Work, number: number): CrewMember {
  const own = join(folder, `worker-${number}`);
  mkdirSync(own, { recursive: true });
  const child: ChildProcess = fork(join(import.meta.dirname, 'preprocess-worker.ts'), [store, own], {
    execArgv: NODE_FLAGS,
    signal,
  });
  // An abort is an error of the child; its exit tells the same.
  child.on('error', () => undefined);
  const isToDie = isOneKilled && number === 0;
  let last: Usage = { cpuSeconds: 0, peakBytes: 0 };
  return {
    ask: (order) =>
      new Promise((resolve, reject) => {
        const onExit = () => reject(new Killed());
        const onMessage = (message: Answer | Busy) => {
          if ('busy' in message) return void (isToDie && order.step === 'clean' && child.kill('SIGKILL'));
          child.off('exit', onExit);
          child.off('message', onMessage);
          last = message.usage;
          if ('error' in message) reject(new Error(message.error));
          else resolve(message);
        };
        child.on('exit', onExit);
        child.on('message', onMessage);
        child.send(order);
      }),
    usage: () => last,
    leave: () => {
      if (child.connected) child.disconnect();
    },
  };
}

/** Plans, cleans and resolves. */
export async function doWork(work: Work): Promise<WorkDone> {
  const { input, limits, workers } = work;
  const start = performance.now();
  const crew = Array.from({ length: workers }, (_, number) => hire(work, number));
  const first = crew[0] as CrewMember;
  try {
    const { plan } = (await first.ask({ step: 'plan', input, limits })) as { plan: RangePlan };
    const pieces = await cleanAll(work, plan, crew);
    const living = crew.at(-1) as CrewMember;
    const { resolution } = (await living.ask({ step: 'resolve', input, plan, pieces })) as { resolution: Resolution };
    const used = crew.map(({ usage }) => usage());
    return {
      ...{ plan, pieces, resolution },
      seconds: (performance.now() - start) / 1000,
      cpuSeconds: used.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
      peakBytes: Math.max(...used.map(({ peakBytes }) => peakBytes)),
    };
  } finally {
    for (const member of crew) member.leave();
  }
}

/** Each worker takes the next range; the range of one that was killed is another's. */
async function cleanAll(work: Work, plan: RangePlan, crew: CrewMember[]): Promise<CleanedPiece[]> {
  const todo = plan.ranges.map((_, range) => range);
  const done: CleanedPiece[][] = [];
  const labour = async (member: CrewMember): Promise<void> => {
    for (let range = todo.shift(); range !== undefined; range = todo.shift()) {
      try {
        const order: Order = { step: 'clean', input: work.input, plan, pieces: plan.ranges[range] ?? [] };
        done[range] = ((await member.ask(order)) as { pieces: CleanedPiece[] }).pieces;
      } catch (error) {
        work.signal.throwIfAborted();
        if (!(error instanceof Killed)) throw error;
        todo.unshift(range);
        const successor = hire(work, crew.length);
        crew.push(successor);
        return await labour(successor);
      }
    }
  };
  await Promise.all(crew.slice(0, work.workers).map(labour));
  return done.flat();
}
