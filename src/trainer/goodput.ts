// Where a run's wall time goes: every moment since its first claim is either productive or lost to one cause.
// Productive are the steps that count, each once, and the evaluations that the recipe asks for.
import type { Goodput } from '../contracts/records.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';

export interface GoodputLedger {
  /** Time until now goes to what is being done; from now on `cause` is. */
  begin(cause: 'start' | 'load' | 'wait' | 'finish', nowMs: number): void;
  observe(event: TrainerEvent, nowMs: number): void;
  /** Time from the last event to the next new step is lost to this recovery. */
  recover(kind: string, nowMs: number): void;
  snapshot(nowMs: number): Goodput;
}

export interface GoodputStart {
  /** What was counted up to the state that the attempt resumes from, or null. */
  carried: Goodput | null;
  runStartedMs: number;
  nowMs: number;
  /** Where the time since then belongs: `start`, `paused`, or the recovery that this attempt is. */
  cause: string;
  /** The GPU time of this attempt. */
  gpu: { ranks: number; sinceMs: number; secondsBefore: number };
}

export function createGoodput({ carried, runStartedMs, nowMs, cause: first, gpu }: GoodputStart): GoodputLedger {
  const gpuSecondsBefore = Math.max(gpu.secondsBefore, carried?.gpuSeconds ?? 0);
  let productive = carried?.productiveSeconds ?? 0;
  const lost: Record<string, number> = { ...carried?.lostSeconds };
  let highest = carried?.step ?? 0;
  let cause = first;
  // Clocks of hosts differ: what was counted elsewhere may seem to lie ahead.
  let markMs = Math.min(carried?.atMs ?? runStartedMs, nowMs);

  const lose = (what: string, seconds: number) => {
    if (seconds > 0) lost[what] = (lost[what] ?? 0) + seconds;
  };
  /** Seconds since the last mark, of which `busy` belong to the event itself. */
  const advance = (nowAtMs: number, busy = 0) => {
    const passed = Math.max(0, nowAtMs - markMs) / 1000;
    const itself = Math.min(busy, passed);
    lose(cause, passed - itself);
    markMs = Math.max(markMs, nowAtMs);
    return { passed, itself };
  };
  const isRecovering = () => cause.startsWith('recovery:');
  if (first === 'paused') {
    advance(nowMs);
    cause = 'start';
  }

  return {
    begin(next, at) {
      advance(at);
      if (!isRecovering() || next === 'finish') cause = next;
    },
    observe(event, at) {
      if (event.ev === 'step') {
        const { itself } = advance(at, event.seconds);
        if (event.step > highest) {
          highest = event.step;
          productive += itself;
          cause = 'wait';
        } else lose('redone', itself);
      } else if (event.ev === 'metrics') {
        // An evaluation takes all the time since the step before it.
        const { passed } = advance(at, Number.POSITIVE_INFINITY);
        if (isRecovering()) lose(cause, passed);
        else productive += passed;
      } else if (event.ev === 'checkpoint_saved') {
        lose('checkpoint', advance(at, event.seconds).itself);
      }
    },
    recover(kind, at) {
      // What was under way when it died is lost to it too.
      cause = `recovery:${kind}`;
      advance(at);
    },
    snapshot(at) {
      const pending = Math.max(0, at - markMs) / 1000;
      const lostSeconds = pending > 0 ? { ...lost, [cause]: (lost[cause] ?? 0) + pending } : { ...lost };
      const gpuSeconds = gpuSecondsBefore + (gpu.ranks * Math.max(0, at - gpu.sinceMs)) / 1000;
      return {
        startedMs: runStartedMs,
        atMs: at,
        step: highest,
        productiveSeconds: productive,
        gpuSeconds,
        lostSeconds,
      };
    },
  };
}

/** 0 to 1. Time in which the run was paused does not count. */
export function shareOf({ startedMs, atMs, productiveSeconds, lostSeconds }: Goodput): number {
  const wall = (atMs - startedMs) / 1000 - (lostSeconds.paused ?? 0);
  return wall > 0 ? Math.min(1, productiveSeconds / wall) : 1;
}
