// Starts the trainers of one claim: forks of a job parent, or cold ones when there is no warm parent or it cannot be trusted any more.
import type { Resume, TrainerEvent, TrainJob } from '../contracts/trainer-protocol.ts';
import { type Child, type PythonConfig, type SuperviseOptions, startChild } from './child.ts';
import type { JobParent, WarmParent } from './warm-parent.ts';

export interface LauncherOptions {
  python: PythonConfig;
  /** null = every start is cold. */
  warmParent: WarmParent | null;
  job: TrainJob;
  folder: string;
  signal: AbortSignal;
  /** While the job parent is built. */
  silenceMsMax: () => number;
  onEvent: (event: TrainerEvent) => unknown;
  onColdStart: (why: string) => void;
}

export interface Launcher {
  /** @param began called right before the trainer starts. */
  start(resume: Resume, options: SuperviseOptions, began: (isFork: boolean) => void): Promise<Launched>;
  /** The next starts are cold. */
  distrust(why: string): Promise<void>;
  close(): Promise<void>;
}

export interface Launched {
  child: Child;
  isFork: boolean;
}

export function createLauncher({ python, warmParent, job, folder, signal, ...options }: LauncherOptions): Launcher {
  let isWarm = warmParent !== null;
  let parent: JobParent | null = null;

  const close = async () => {
    const closing = parent;
    parent = null;
    await closing?.close();
  };

  const prepare = async () =>
    (await warmParent?.prepare(job, {
      folder,
      signal,
      silenceMsMax: options.silenceMsMax,
      // Its children report for themselves.
      onEvent: (event) => event.ev !== 'phase' || options.onEvent(event),
    })) ?? null;

  const distrust = async (why: string) => {
    if (!isWarm) return;
    isWarm = false;
    options.onColdStart(why);
    await close();
  };

  return {
    close,
    distrust,
    async start(resume, supervise, began) {
      began(false);
      if (isWarm) parent ??= await prepare();
      signal.throwIfAborted();
      if (parent !== null) began(true);
      const forked = (await parent?.attempt(resume, { ...supervise, folder })) ?? null;
      if (forked !== null) return { child: forked, isFork: true };
      if (isWarm) {
        await distrust('the warm parent does not answer; its log says why');
        began(false);
      }
      const child = startChild({ ...supervise, python, job: { ...job, resume }, folder });
      return { child, isFork: false };
    },
  };
}
