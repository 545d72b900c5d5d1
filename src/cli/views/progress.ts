// What a stage reports while it runs, in words. Training counts steps; other stages count bytes or rows, shown as a share.
import type { Progress } from '../../contracts/status.ts';
import { plural } from './format.ts';

/** Done and whole, or null where the stage cannot say. */
export function countsOf(progress: Progress): { done: number; of: number } | null {
  if (progress.step === undefined || !progress.of) return null;
  return { done: progress.step, of: progress.of };
}

/** `step 50 of 125`, `save, step 50 of 125`, `tokenise 40 %`, `load`. */
export function progressLabel(progress: Progress): string {
  const counts = countsOf(progress);
  if (counts === null) return progress.phase;
  if (progress.stage !== 'train') return `${progress.phase} ${Math.floor((counts.done / counts.of) * 100)} %`;
  const phase = progress.phase === 'train' ? '' : `${progress.phase}, `;
  return `${phase}step ${counts.done} of ${counts.of}`;
}

export function progressFacts(progress: Progress): string[] {
  return [
    progressLabel(progress),
    progress.loss === undefined ? '' : `loss ${progress.loss.toFixed(3)}`,
    progress.validation ? `validation ${progress.validation}` : '',
    progress.tokensPerSecond === undefined ? '' : `${Math.round(progress.tokensPerSecond)} tokens/s`,
    progress.eta ? `${progress.eta} left` : '',
    progress.checkpoint ? `checkpoint ${progress.checkpoint}` : '',
    progress.recoveries ? `recovered ${plural(progress.recoveries, 'time')}` : '',
    progress.waitingFor ? `waiting for ${progress.waitingFor}` : '',
  ].filter((fact) => fact !== '');
}

/** Of a stage that no worker has taken up: each GPU worker does one at a time. */
export function waitingText(stage: string | null): string {
  return stage === 'train' || stage === 'evaluate' ? 'waiting for a free GPU worker' : 'waiting for a worker';
}
