// What the events of a training add up to: step, speed, time left, loss curve, and a receipt for each recovery.
import type { Receipt, Training } from '../contracts/records.ts';
import type { Progress } from '../contracts/status.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';

export interface ProgressMeter {
  observe(event: TrainerEvent): void;
  /** A trainer ended; what was decided about it. */
  died(death: Pick<Receipt, 'kind' | 'message' | 'action'> & { from: number }): void;
  step(): number;
  highestStep(): number;
  receipts(): Receipt[];
  lossCurve(): Training['lossCurve'];
  /** For heartbeats. */
  progress(): Progress;
  /** Longest silence that is still progress, learned from the steps so far, ms. */
  silenceMsMax(): number;
}

/** Loading a model from a cold disk, building a trainer, ms. */
const LOAD_SILENCE_MS = 15 * 60_000;
/** Short steps must not make the watchdog nervous on a machine that stalls for a moment, ms. */
const STEP_SILENCE_MS_MIN = 120_000;
/** A step that takes so many times the slowest one seen is not a step. */
const STEP_SILENCE_FACTOR = 30;
/** Points of the loss curve that are kept. */
const CURVE_POINTS_MAX = 200;
/** Steps that speed and time left are averaged over. */
const SPEED_WINDOW = 20;

export function createProgressMeter(start: { from: number; stepBefore: number | null }): ProgressMeter {
  let phase = 'load';
  let step = start.from;
  let of = 0;
  let highest = Math.max(start.from, start.stepBefore ?? 0);
  let loss: number | undefined;
  let slowestStepMs = 0;
  let lastEventAt = Date.now();
  let diedAt: number | null = start.stepBefore === null ? null : Date.now();
  let recent: { seconds: number; tokens: number }[] = [];
  let lastTokens: number | null = null;
  let curve: Training['lossCurve'] = [];
  const receipts: Receipt[] = [];

  if (start.stepBefore !== null) {
    receipts.push({
      kind: 'node_lost',
      message: 'The attempt before this one ended without an answer; its claim was taken over.',
      atStep: start.stepBefore,
      resumedFrom: start.from,
      lostSteps: Math.max(0, start.stepBefore - start.from),
      detectedMs: 0,
      nextNewStepMs: null,
      action: 'restarted',
    });
  }

  function observeStep(event: Extract<TrainerEvent, { ev: 'step' }>): void {
    phase = 'train';
    ({ step, of, loss } = event);
    slowestStepMs = Math.max(slowestStepMs, event.seconds * 1000);
    recent = [
      ...recent.slice(1 - SPEED_WINDOW),
      { seconds: event.seconds, tokens: event.tokens - (lastTokens ?? event.tokens) },
    ];
    lastTokens = event.tokens;
    if (step > highest) {
      highest = step;
      const open = receipts.at(-1);
      if (open && open.nextNewStepMs === null && diedAt !== null) open.nextNewStepMs = Date.now() - diedAt;
      curve = thin([...curve, { step, loss: event.loss }]);
    }
  }

  return {
    observe(event) {
      lastEventAt = Date.now();
      if (event.ev === 'phase') phase = event.phase;
      if (event.ev === 'plan') {
        of = event.steps;
        step = event.from;
        lastTokens = null;
      }
      if (event.ev === 'step') observeStep(event);
    },
    died({ kind, message, action, from }) {
      diedAt = Date.now();
      receipts.push({
        kind,
        message: message.slice(0, 500),
        atStep: step,
        resumedFrom: from,
        lostSteps: Math.max(0, highest - from),
        detectedMs: diedAt - lastEventAt,
        nextNewStepMs: null,
        action,
      });
      phase = 'load';
      step = from;
    },
    step: () => step,
    highestStep: () => highest,
    receipts: () => receipts.map((receipt) => ({ ...receipt })),
    lossCurve: () => curve,
    silenceMsMax: () =>
      phase === 'train' && slowestStepMs > 0
        ? Math.max(STEP_SILENCE_MS_MIN, slowestStepMs * STEP_SILENCE_FACTOR)
        : LOAD_SILENCE_MS,
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
        recoveries: receipts.length,
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
