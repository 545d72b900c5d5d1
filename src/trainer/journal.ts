// What an attempt knows about its training: every trainer event passes here once and is counted, compared, logged and shown.
import { relative } from 'node:path';
import type { LearningCurve } from '../contracts/learning-curve.ts';
import type { Finding, Goodput, Receipt } from '../contracts/records.ts';
import type { Progress } from '../contracts/status.ts';
import type { TrainerEvent, TrainerEventOf } from '../contracts/trainer-protocol.ts';
import type { ReceiptWriter } from '../storage/receipts.ts';
import { createEventLog, type EarlierHere } from './event-log.ts';
import { createGoodput, shareOf } from './goodput.ts';
import { createPhaseLimits, type LimitRules, type Phase } from './phase-limits.ts';
import { createProgressMeter } from './progress.ts';
import { createRecoveryReceipts, type Recovery } from './recovery-receipts.ts';
import { createStepRecord } from './step-record.ts';

export interface Journal {
  /** A claim is taken; the steps of another lineage are not compared with those before. */
  claimed(claim: number, lineage: string, from: number, outputFolder: string): void;
  /** A trainer starts. */
  began(isFork: boolean): void;
  /** Takes an event in. */
  observe(event: TrainerEvent): { isProgress: boolean; isOurs: boolean };
  recovered(recovery: Omit<Recovery, 'atStep' | 'detectedMs'>): void;
  /** This attempt is itself the recovery of another's end, which was last heard of at `lastSeenMs`. */
  tookOver(recovery: Omit<Recovery, 'detectedMs'>, lastSeenMs: number): void;
  notice(code: Finding['code'], message: string): void;
  /** The trainer is done; what remains is storing the result. */
  finishing(): void;
  stalled(): void;
  phase(): Phase;
  silenceMsMax(): number;
  highestStep(): number;
  /** It has done a step since it began. */
  hasStepped(): boolean;
  /** The rung that the trainer has reached, or null. */
  pause(): TrainerEventOf<'paused'> | null;
  goodput(): Goodput;
  /** When this attempt's predecessor was last counted, ms since the epoch. */
  lastSeenMs(): number;
  receipts(): Receipt[];
  findings(): Finding[];
  curve(): LearningCurve;
  progress(): Progress;
  close(): void;
}

export interface JournalStart {
  runFolder: string;
  receipts: ReceiptWriter;
  processes: number;
  rules: LimitRules;
  from: number;
  runStartedMs: number;
  /** Up to the state that this attempt resumes from. */
  carried: Goodput | null;
  /** Of the attempts before. */
  curve: LearningCurve | null;
  earlier: EarlierHere | null;
  /** What the time since then belongs to: `start`, `paused` or the recovery that this attempt is. */
  cause: string;
  /** When this attempt took the GPU, ms since the epoch. */
  startedMs: number;
  /** GPU seconds of the run's earlier attempts. */
  gpuSecondsBefore: number;
}

function spent(goodput: Goodput): Pick<Progress, 'goodput' | 'gpuSeconds'> {
  return { goodput: `${Math.round(100 * shareOf(goodput))} %`, gpuSeconds: Math.round(goodput.gpuSeconds) };
}

/** Findings that are kept; more say the same. */
const FINDINGS_MAX = 100;

export function createJournal(start: JournalStart): Journal {
  const { carried, earlier, cause, from } = start;
  const events = createEventLog(start.runFolder);
  const limits = createPhaseLimits(start.rules);
  const steps = createStepRecord(earlier?.steps ?? []);
  const meter = createProgressMeter({
    step: from,
    highest: Math.max(from, carried?.step ?? 0),
    curve: start.curve,
  });
  const receipts = createRecoveryReceipts(start.receipts, start.processes);
  const ledger = createGoodput({
    carried,
    runStartedMs: start.runStartedMs,
    nowMs: Date.now(),
    cause,
    gpu: { ranks: start.processes, sinceMs: start.startedMs, secondsBefore: start.gpuSecondsBefore },
  });
  const findings: Finding[] = [];
  let claim = 0;
  let lineage = '';
  let output = '';
  let hasStepped = false;
  let lastHeardMs = Date.now();
  let alarms = 0;
  let pause: TrainerEventOf<'paused'> | null = null;

  const notice = (code: Finding['code'], message: string) => {
    const finding: Finding = { code, step: meter.step(), message };
    if (code === 'not_deterministic') alarms++;
    if (findings.length >= FINDINGS_MAX) return;
    findings.push(finding);
    events.append({ ev: 'noticed', ...finding });
  };

  const write = (recovery: Recovery, nowMs: number) => {
    const receipt = receipts.open(claim, recovery, nowMs);
    events.append({ ev: 'recovery', ...receipt });
  };

  const compare = (event: TrainerEvent): boolean => {
    if (event.ev !== 'step') return false;
    const outcome = steps.seen(event);
    if (typeof outcome === 'object') {
      notice('not_deterministic', `Step ${event.step} was done again and came out differently: ${outcome.difference}.`);
    }
    return outcome === 'new';
  };

  /** A path that a trainer names is believed only inside its own folder. */
  const isOurs = (event: TrainerEvent): boolean =>
    event.ev !== 'checkpoint_saved' || relative(output, event.path) === `checkpoint-${event.step}`;

  return {
    notice,
    claimed(number, ofLineage, fromStep, outputFolder) {
      if (lineage !== '' && lineage !== ofLineage) steps.forget();
      [claim, lineage, output] = [number, ofLineage, outputFolder];
      events.append({ ev: 'claim', claim, lineage, from: fromStep });
    },
    began(isFork) {
      hasStepped = false;
      limits.began(Date.now(), isFork);
      ledger.begin('load', Date.now());
    },
    observe(event) {
      const nowMs = Date.now();
      lastHeardMs = nowMs;
      events.append(event);
      const isNewStep = compare(event);
      meter.observe(event, nowMs);
      ledger.observe(event, nowMs);
      if (event.ev === 'plan') receipts.resumed(event.from);
      if (event.ev === 'finding') notice(event.code, event.message);
      if (event.ev === 'step') hasStepped = true;
      if (event.ev === 'paused') pause = event;
      if (isNewStep) receipts.newStep(nowMs);
      const ours = isOurs(event);
      if (!ours) notice('garbage_on_channel', 'It names a checkpoint outside of its folder; not taken.');
      const memory = () => ({ lineage, goodput: ledger.snapshot(nowMs), curve: meter.curve() });
      // Validations are few, and worth more than a step.
      events.remember(memory, event.ev === 'metrics');
      return { isProgress: limits.observe(event, nowMs), isOurs: ours };
    },
    recovered(recovery) {
      const nowMs = Date.now();
      ledger.recover(recovery.kind, nowMs);
      write({ ...recovery, atStep: meter.highestStep(), detectedMs: nowMs - lastHeardMs }, nowMs);
    },
    tookOver(recovery, lastSeenMs) {
      const nowMs = Date.now();
      write({ ...recovery, detectedMs: Math.max(0, nowMs - lastSeenMs) }, nowMs);
    },
    finishing: () => ledger.begin('finish', Date.now()),
    stalled: () => limits.stalled(),
    phase: () => limits.phase(),
    silenceMsMax: () => limits.limitMs(),
    highestStep: () => meter.highestStep(),
    hasStepped: () => hasStepped,
    pause: () => pause,
    goodput: () => ledger.snapshot(Date.now()),
    lastSeenMs: () => carried?.atMs ?? Date.now(),
    receipts: () => receipts.all(),
    findings: () => [...findings],
    curve: () => meter.curve(),
    progress: () => ({
      ...meter.progress(),
      ...spent(ledger.snapshot(Date.now())),
      recoveries: receipts.all().length,
      ...(alarms === 0
        ? {}
        : { alarm: `${alarms} ${alarms === 1 ? 'step was' : 'steps were'} done again and came out differently` }),
    }),
    close: () => events.close(),
  };
}
