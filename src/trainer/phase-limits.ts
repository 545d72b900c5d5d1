// How long a trainer may take without progress, learned from the run itself: a multiple of the slowest that was seen in the same phase.
// Before anything was seen, a generous bound. Each stall doubles the limits until there is progress again, so that a run whose next
// step really takes that long is not killed for ever.
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';

const PHASES = ['load', 'tokenise', 'first_step', 'train', 'evaluate', 'save'] as const;
export type Phase = (typeof PHASES)[number];

export interface LimitRules {
  /** Before the phase was seen once, ms. */
  unseenMs: Record<Phase, number>;
  /** The same for a fork, up to its first step: everything is loaded already, and if the fork hangs, a cold start takes its place. */
  unseenForkMs: number;
  /** Times the slowest that was seen. */
  factor: number;
  /** Added to it, so that short steps do not make the watchdog nervous on a machine that stalls for a moment, ms. */
  slackMs: number;
}

export const LIMIT_RULES: LimitRules = {
  unseenMs: {
    // A large model from a cold disk or a network share.
    load: 15 * 60_000,
    tokenise: 10 * 60_000,
    // Compilation of the model takes minutes.
    first_step: 15 * 60_000,
    train: 15 * 60_000,
    // All of a large validation split.
    evaluate: 60 * 60_000,
    save: 15 * 60_000,
  },
  unseenForkMs: 3 * 60_000,
  // NVIDIA's resiliency extension multiplies by 5 too.
  factor: 5,
  slackMs: 10_000,
};

/** Share of the slowest that is still believed after each faster one: a single slow step is forgotten over some hundred steps. */
const FORGETTING = 0.995;

export interface PhaseLimits {
  /** A trainer starts. */
  began(nowMs: number, isFork: boolean): void;
  /** @returns whether the event is progress: a trainer that only repeats itself makes none. */
  observe(event: TrainerEvent, nowMs: number): boolean;
  /** A trainer was killed for making no progress. */
  stalled(): void;
  phase(): Phase;
  limitMs(): number;
}

export function createPhaseLimits(rules: LimitRules = LIMIT_RULES): PhaseLimits {
  /** A fork loads in no time, which says nothing of a cold start. */
  const slowest = new Map<Phase | 'load of a fork', number>();
  let phase: Phase = 'load';
  let step = 0;
  let isFork = false;
  let hasStepped = false;
  let markMs = 0;
  let patience = 1;
  let seen = new Set<string>();

  const known = () => (phase === 'load' && isFork ? 'load of a fork' : phase);
  const learn = (nowMs: number) => {
    slowest.set(known(), Math.max(nowMs - markMs, (slowest.get(known()) ?? 0) * FORGETTING));
  };

  /** Within one step each thing happens once. */
  const isNew = (what: string) => !seen.has(what) && Boolean(seen.add(what));

  const isProgress = (event: TrainerEvent): boolean => {
    switch (event.ev) {
      case 'step':
        return event.step > step;
      case 'phase':
        return isNew(`phase ${event.phase}`);
      case 'progress':
        return isNew(`progress ${event.detail} ${event.done}`);
      case 'plan':
      case 'metrics':
      case 'checkpoint_saved':
      case 'done':
      case 'failed':
      case 'interrupted':
        return isNew(event.ev);
      default:
        return false;
    }
  };

  /** Comes when the phase is about to begin in earnest: the time until then says nothing of it. */
  const isBeginning = (event: TrainerEvent) =>
    event.ev === 'plan' || (event.ev === 'phase' && phaseAfter(event) === phase);

  /** Also where the event is no progress: it still says what is being done. */
  const phaseAfter = (event: TrainerEvent): Phase => {
    const training = hasStepped ? 'train' : 'first_step';
    switch (event.ev) {
      case 'phase':
        return event.phase === 'train' ? training : event.phase;
      case 'step':
      case 'metrics':
      case 'checkpoint_saved':
        return training;
      default:
        return phase;
    }
  };

  return {
    began(nowMs, isForkOfParent) {
      isFork = isForkOfParent;
      phase = 'load';
      step = 0;
      hasStepped = false;
      markMs = nowMs;
      seen = new Set();
    },
    observe(event, nowMs) {
      const progressed = isProgress(event);
      if (progressed && !isBeginning(event)) learn(nowMs);
      if (progressed) markMs = nowMs;
      if (event.ev === 'step' && progressed) {
        seen = new Set();
        step = event.step;
        hasStepped = true;
        patience = 1;
      }
      phase = phaseAfter(event);
      return progressed;
    },
    stalled() {
      patience *= 2;
    },
    phase: () => phase,
    limitMs() {
      const seenMs = slowest.get(known());
      if (seenMs !== undefined) return patience * (rules.factor * seenMs + rules.slackMs);
      const unseen = rules.unseenMs[phase];
      return patience * (isFork && !hasStepped ? Math.min(unseen, rules.unseenForkMs) : unseen);
    },
  };
}
