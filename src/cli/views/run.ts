// One run as lines: the stages, what the one that runs is doing, and what came of it. State in, text out.
import { isOpen, type PendingActivity, type RunDescription } from '../../client/description.ts';
import type { Progress, StageState, StageStatus } from '../../contracts/status.ts';
import { bar, cutTo, formatSeconds, oneLine, type Paint, plural, visibleWidth, wrap } from './format.ts';
import { countsOf, progressFacts, progressLabel, waitingText } from './progress.ts';

export interface RunView {
  description: RunDescription;
  nowMs: number;
  webUi: string;
}

/** Columns of the progress bar: at most, and at least. */
const BAR_MAX = 30;
const BAR_MIN = 8;
/** Longest stage name, `preprocess`. */
const STAGE_WIDTH = 10;
/** Longest duration, `59 min 59 s`. */
const SECONDS_WIDTH = 11;
/** Columns before a stage's text: mark, name, duration and the spaces between. */
const TEXT_COLUMN = STAGE_WIDTH + SECONDS_WIDTH + 7;

/** What every stage reports before it knows more. */
const FIRST_PHASE = 'start';

const MARKS: Record<StageState, string> = { waiting: '·', running: '▸', done: '✓', failed: '✗', skipped: '-' };

export function runLines(view: RunView, width: number, paint: Paint): string[] {
  const { description } = view;
  const lines = [
    headline(view, paint),
    ...description.status.stages.map((stage) => stageLine(stage, description, width, paint)),
    ...trainingLines(view, paint),
    ...outcomeLines(description, width, paint),
  ];
  // Half a link is of no use.
  const link = `  ${view.webUi}`;
  if (visibleWidth(link) <= width) lines.push(paint.dim(link));
  return lines.map((line) => cutTo(line, width));
}

function headline({ description, nowMs }: RunView, paint: Paint): string {
  const { run, state, status } = description;
  const until = description.closedAt === null ? nowMs : Date.parse(description.closedAt);
  const took = formatSeconds(Math.max(0, (until - Date.parse(description.startedAt)) / 1000));
  const colour = { running: paint.cyan, paused: paint.yellow, completed: paint.green }[state as string] ?? paint.red;
  const version = status.version === null ? '' : `, ${status.model} version ${status.version}`;
  return `${paint.bold(run)}  ${colour(state)}${version}, ${took}`;
}

function stageLine(stage: StageStatus, description: RunDescription, width: number, paint: Paint): string {
  const paints = { waiting: paint.dim, skipped: paint.dim, running: paint.cyan, done: paint.green, failed: paint.red };
  const mark = paints[stage.state](MARKS[stage.state]);
  if (stage.state === 'waiting') return `  ${mark} ${paint.dim(stage.stage)}`;
  const name = stage.stage.padEnd(STAGE_WIDTH);
  const seconds = (stage.seconds === null ? '' : formatSeconds(stage.seconds)).padStart(SECONDS_WIDTH);
  const text = oneLine(stageText(stage, description, width));
  return `  ${mark} ${name} ${paint.dim(seconds)}${text === '' ? '' : `  ${text}`}`;
}

function stageText(stage: StageStatus, description: RunDescription, width: number): string {
  if (stage.state === 'skipped') return 'not asked for';
  if (stage.state !== 'running') return stage.outcome ?? '';
  const pending = description.pending.find((p) => p.activity === stage.stage);
  if (description.state === 'paused') return pausedText(description);
  if (isHeld(pending)) return heldText(pending?.progress ?? null);
  return pending?.progress ? progressText(pending.progress, width - TEXT_COLUMN) : pendingText(pending);
}

function progressText(progress: Progress, width: number): string {
  const counts = countsOf(progress);
  const eta = progress.stage !== 'train' && progress.eta ? `, ${progress.eta} left` : '';
  const waiting = progress.waitingFor ? `, waiting for ${progress.waitingFor}` : '';
  const text = `${progressLabel(progress)}${eta}${waiting}`;
  const room = Math.min(BAR_MAX, width - text.length - 1);
  return counts !== null && room >= BAR_MIN ? `${bar(counts.done, counts.of, room)} ${text}` : text;
}

/** By the Web UI's own button: nothing of what its last heartbeat says goes on. */
function isHeld(pending: PendingActivity | undefined): boolean {
  return pending?.state === 'paused';
}

function heldText(progress: Progress | null): string {
  const counts = progress && countsOf(progress);
  return `paused by an operator${counts && progress.stage === 'train' ? ` after step ${counts.done}` : ''}`;
}

function pausedText({ status: { paused } }: RunDescription): string {
  return paused?.step == null ? 'paused before its first step' : `paused after step ${paused.step}`;
}

function pendingText(pending: PendingActivity | undefined): string {
  if (!pending) return '';
  if (pending.state === 'cancelling') return 'stopping';
  const again = pending.attempt > 1 ? `attempt ${pending.attempt}` : '';
  const why = pending.lastFailure ? ` after: ${pending.lastFailure}` : '';
  if (pending.state === 'waiting') return `${waitingText(pending.activity)}${again ? `, ${again}` : ''}${why}`;
  return `${again}${why}`;
}

function trainingLines({ description }: RunView, paint: Paint): string[] {
  const progress = description.progress;
  if (description.state !== 'running' || progress?.stage !== 'train' || description.pending.some(isHeld)) return [];
  const facts = [
    progress.loss === undefined ? '' : `loss ${progress.loss.toFixed(3)}`,
    progress.curve === undefined ? '' : paint.cyan(progress.curve),
    progress.tokensPerSecond === undefined ? '' : `${Math.round(progress.tokensPerSecond)} tokens/s`,
    progress.eta ? `${progress.eta} left` : '',
  ];
  const safety = [
    progress.checkpoint ? `last checkpoint ${progress.checkpoint}` : '',
    progress.recoveries ? `recovered ${plural(progress.recoveries, 'time')}` : '',
    progress.claim === undefined ? '' : `claim ${progress.claim}`,
  ];
  const validation = [progress.validation ? `validation ${progress.validation}` : ''];
  return [facts, validation, safety]
    .map((line) => line.filter((fact) => fact !== '').join('   '))
    .filter((line) => line !== '')
    .map((line) => `    ${line}`);
}

function outcomeLines(description: RunDescription, width: number, paint: Paint): string[] {
  const { failure, endpoint } = description.status;
  const lines: string[] = [];
  if (failure !== null) {
    lines.push(...wrap(failureText(failure), width - 2).map((line) => `  ${paint.red(line)}`));
  }
  if (endpoint !== null && description.state === 'completed') lines.push(`  served as ${endpoint}`);
  if (description.note !== null)
    lines.push(...wrap(description.note, width - 2).map((line) => `  ${paint.yellow(line)}`));
  return lines;
}

function failureText({ kind, message }: NonNullable<RunDescription['status']['failure']>): string {
  return kind === 'cancelled' ? oneLine(message) : `${kind}: ${oneLine(message)}`;
}

/** The run as one line of a log: what is being done right now. null where there is nothing to say beyond the stage. */
export function runLogLine(description: RunDescription): string | null {
  const { state, status, progress, note } = description;
  if (!isOpen(state)) {
    const why = status.failure === null ? '' : `: ${failureText(status.failure)}`;
    const version = status.version === null ? '' : `: ${status.model} version ${status.version}`;
    return `${description.run} ${state}${version}${why}`;
  }
  if (note !== null) return note;
  const running = status.stages.find((stage) => stage.state === 'running');
  if (!running) return null;
  const pending = description.pending.find((p) => p.activity === running.stage);
  const text = progress?.stage === running.stage ? progressFacts(progress).join(', ') : oneLine(pendingText(pending));
  return text === '' || text === FIRST_PHASE ? null : `${running.stage}: ${text}`;
}

/** A line for each stage that changed its state between two looks. */
export function stageChangeLines(before: StageStatus[], after: StageStatus[]): string[] {
  return after.flatMap((stage) => {
    const earlier = before.find((b) => b.stage === stage.stage)?.state ?? 'waiting';
    if (earlier === stage.state || stage.state === 'waiting' || stage.state === 'skipped') return [];
    if (stage.state === 'running') return [`${stage.stage}: started`];
    const took = stage.seconds === null ? '' : ` after ${formatSeconds(stage.seconds)}`;
    return [`${stage.stage}: ${stage.state}${took}${stage.outcome ? `: ${oneLine(stage.outcome)}` : ''}`];
  });
}
