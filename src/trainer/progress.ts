// What the events of a training add up to for people: step, speed, time left, learning curve.
import { describeValidations, type LearningCurve, sparkline } from '../contracts/learning-curve.ts';
import type { Progress } from '../contracts/status.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';
import type { StepEvent } from './event-log.ts';
import { createCurveKeeper } from './learning-curve.ts';

export interface ProgressMeter {
  /** @param nowMs when it came */
  observe(event: TrainerEvent, nowMs: number): void;
  step(): number;
  /** Highest step that was done. */
  highestStep(): number;
  curve(): LearningCurve;
  /** For heartbeats. */
  progress(): Progress;
}

/** Columns of the loss curve in a line. */
const SPARK_COLUMNS = 24;
/** Steps that the speed is averaged over. */
const SPEED_WINDOW = 20;
/** Steps that the time left is averaged over, validations and saves between them included: several of most intervals. */
const PACE_WINDOW = 200;

export function createProgressMeter(start: {
  step: number;
  highest: number;
  curve: LearningCurve | null;
}): ProgressMeter {
  let phase = 'load';
  let { step, highest } = start;
  let of = 0;
  let loss: number | undefined;
  let recent: { seconds: number; tokens: number }[] = [];
  let arrivedMs: number[] = [];
  let lastTokens: number | null = null;
  const keeper = createCurveKeeper(start.curve);

  function observeStep(event: StepEvent, nowMs: number): void {
    phase = 'train';
    ({ step, of, loss } = event);
    const tokens = event.tokens - (lastTokens ?? event.tokens);
    recent = [...recent.slice(1 - SPEED_WINDOW), { seconds: event.seconds, tokens }];
    arrivedMs = [...arrivedMs.slice(1 - PACE_WINDOW), nowMs];
    lastTokens = event.tokens;
    highest = Math.max(highest, step);
  }

  function secondsLeft(): number | null {
    const last = recent.at(-1);
    if (last === undefined) return null;
    const [first = 0, latest = 0] = [arrivedMs[0], arrivedMs.at(-1)];
    const pace = arrivedMs.length > 1 ? (latest - first) / 1000 / (arrivedMs.length - 1) : last.seconds;
    return (of - step) * pace;
  }

  return {
    observe(event, nowMs) {
      keeper.observe(event);
      if (event.ev === 'phase') phase = event.phase;
      if (event.ev === 'plan') {
        of = event.steps;
        step = event.from;
        lastTokens = null;
        // What a death costs says nothing of the pace.
        arrivedMs = [];
      }
      if (event.ev === 'step') observeStep(event, nowMs);
    },
    step: () => step,
    highestStep: () => highest,
    curve: () => keeper.curve(),
    progress() {
      const seconds = recent.reduce((sum, r) => sum + r.seconds, 0);
      const tokens = recent.reduce((sum, r) => sum + r.tokens, 0);
      const { steps, validations } = keeper.curve();
      const validation = describeValidations(validations);
      const losses = steps.map((one) => one.loss);
      const left = secondsLeft();
      return {
        stage: 'train',
        phase,
        ...(of > 0 ? { step, of } : {}),
        ...(loss === undefined ? {} : { loss: Number(loss.toFixed(4)) }),
        ...(losses.length < 2 ? {} : { curve: sparkline(losses, SPARK_COLUMNS) }),
        ...(validation === null ? {} : { validation }),
        ...(seconds > 0 && tokens > 0 ? { tokensPerSecond: Math.round(tokens / seconds) } : {}),
        ...(left === null ? {} : { eta: formatSeconds(left) }),
      };
    },
  };
}

/** `2 min 10 s`, `3 h 4 min`. */
export function formatSeconds(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
