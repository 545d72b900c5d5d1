// Measures what a training needs, by trainings of two steps in processes of their own, and draws the line through them.
import { type ProbeJob, type ProbeResult, ProbeResultSchema } from '../contracts/trainer-protocol.ts';
import { type ChildOptions, requireDone, startChild } from '../trainer/child.ts';
import type { WarmParent } from '../trainer/warm-parent.ts';

export interface ProbeOptions extends Pick<ChildOptions, 'python' | 'folder'> {
  /** null = a cold start. */
  warmParent: WarmParent | null;
  job: ProbeJob;
  signal?: AbortSignal;
  /** Called when something changed. */
  onProgress: (phase: string) => void;
}

/** There is nothing to save, ms. */
const GRACE_MS = 1_000;
/** Loading the model and two steps; a probe that takes longer says less than the training itself, ms. */
const SILENCE_MS_MAX = 15 * 60_000;

/** @throws AnnealError when a short training fails for another reason than memory, as the long one would. */
export async function runProbe(options: ProbeOptions): Promise<ProbeResult> {
  const { python, warmParent, job, folder, signal, onProgress } = options;
  const supervised = {
    ...{ job, folder, graceMs: GRACE_MS, silenceMsMax: () => SILENCE_MS_MAX },
    ...(signal && { signal }),
    onEvent: (event: { ev: string; detail?: string | undefined }) => {
      if (event.ev === 'phase') onProgress(`measure memory, ${event.detail ?? ''}`);
    },
  };
  const child = (await warmParent?.run(supervised)) ?? startChild({ ...supervised, python });
  const end = await child.ended;
  signal?.throwIfAborted();
  requireDone(end, 'Measuring the memory');
  return ProbeResultSchema.parse(end.result);
}

/** Peak with so many rows at once, bytes, on the line through what was measured; null when no more rows than these did not fit. */
export function extrapolate({ points }: ProbeResult, rows: number): number | null {
  const measured = points.flatMap(({ bytes, ...point }) => (bytes === null ? [] : [{ ...point, bytes }]));
  const last = measured.at(-1);
  const tooMany = points.find(({ bytes }) => bytes === null)?.rows ?? Number.POSITIVE_INFINITY;
  if (last === undefined || rows >= tooMany) return null;
  const first = measured[0] as typeof last;
  // A save takes the same with any number of rows; where it is no more than the training's own peak, that hides it.
  const saves = measured.map(({ bytes, saveBytes }) => (saveBytes !== null && saveBytes > bytes ? saveBytes : 0));
  return Math.max(last.bytes + bytesPerRow(first, last) * (rows - last.rows), ...saves);
}

function bytesPerRow(first: { rows: number; bytes: number }, last: { rows: number; bytes: number }): number {
  return first.rows === last.rows ? 0 : Math.max(0, (last.bytes - first.bytes) / (last.rows - first.rows));
}

/** Of the larger of the short trainings; null when none was done. */
export function speedOf({ points }: ProbeResult): number | null {
  const last = points.findLast(({ bytes }) => bytes !== null);
  return last === undefined || last.seconds === 0 ? null : last.tokens / last.seconds;
}
