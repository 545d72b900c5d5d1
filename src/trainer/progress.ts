// What the events of a training add up to for people: step, speed, time left, loss curve.
import type { Training } from '../contracts/records.ts';
import type { Progress } from '../contracts/status.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';
import type { StepEvent } from './event-log.ts';

export interface ProgressMeter {
  /** @param isNew the step was not done before. */
  observe(event: TrainerEvent, isNew: boolean): void;
  step(): number;
  /** Highest step that was done. */
  highestStep(): number;
  lossCurve(): Training['lossCurve'];
  /** For heartbeats. */
  progress(): Progress;
}

/** Points of the loss curve that are kept. */
const CURVE_POINTS_MAX = 200;
/** Steps that speed and time left are averaged over. */
const SPEED_WINDOW = 20;

export function createProgressMeter(start: { step: number; highest: number }): ProgressMeter {
  let phase = 'load';
  let { step, highest } = start;
  let of = 0;
  let loss: number | undefined;
  let recent: { seconds: number; tokens: number }[] = [];
  let lastTokens: number | null = null;
  let curve: Training['lossCurve'] = [];

  function observeStep(event: StepEvent, isNew: boolean): void {
    phase = 'train';
    ({ step, of, loss } = event);
    const tokens = event.tokens - (lastTokens ?? event.tokens);
    recent = [...recent.slice(1 - SPEED_WINDOW), { seconds: event.seconds, tokens }];
    lastTokens = event.tokens;
    highest = Math.max(highest, step);
    if (isNew) curve = thin([...curve, { step, loss: event.loss }]);
  }

  return {
    observe(event, isNew) {
      if (event.ev === 'phase') phase = event.phase;
      if (event.ev === 'plan') {
        of = event.steps;
        step = event.from;
        lastTokens = null;
      }
      if (event.ev === 'step') observeStep(event, isNew);
    },
    step: () => step,
    highestStep: () => highest,
    lossCurve: () => curve,
    progress() {
      const seconds = recent.reduce((sum, r) => sum + r.seconds, 0);
      const tokens = recent.reduce((sum, r) => sum + r.tokens, 0);
      const left = recent.length > 0 ? ((of - step) * seconds) / recent.length : null;
      return {
        stage: 'train',
        phase,
        ...(of > 0 ? { step, of } : {}),
        ...(loss === undefined ? {} : { loss: Number(loss.toFixed(4)) }),
        ...(seconds > 0 && tokens > 0 ? { tokensPerSecond: Math.round(tokens / seconds) } : {}),
        ...(left === null ? {} : { eta: formatSeconds(left) }),
      };
    },
  };
}

/** Halves the points when there are too many, keeping the last. */
function thin(curve: Training['lossCurve']): Training['lossCurve'] {
  return curve.length <= CURVE_POINTS_MAX ? curve : curve.filter((_, i) => i % 2 === 1 || i === curve.length - 1);
}

/** `2 min 10 s`, `3 h 4 min`. */
export function formatSeconds(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
