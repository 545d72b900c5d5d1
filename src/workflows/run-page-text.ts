// The Markdown page of a run in the Web UI's "User Metadata" tab. Pure.
import type { FailureKind } from '../contracts/failure.ts';
import { describeLosses, validationRows } from '../contracts/learning-curve.ts';
import type { Pause, RunStatus, StageStatus } from '../contracts/status.ts';
import { plain, table } from './markdown-table.ts';

/** Keeps a number with its unit. */
const NO_BREAK = '\u00a0';

const SIGNS: Record<StageStatus['state'], string> = {
  waiting: '·',
  running: '▶',
  done: '✓',
  failed: '✗',
  skipped: '–',
};

/** The Web UI fills in the names in braces. */
const PENDING_ACTIVITIES = '/namespaces/{namespace}/workflows/{workflowId}/{runId}/pending-activities';

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const PAUSED_SIGN = '‖';

/** Held-out examples that are shown. */
const EXAMPLES_MAX = 3;
/** Columns of the line of losses, whose bars are as wide as two letters: with both ends it is as wide as the page. */
const CURVE_COLUMNS = 24;
/** Validations that are shown, evenly spread. */
const VALIDATIONS_SHOWN = 10;
/** Decisions that are shown, the last ones: with a thousand characters each, more would fill the page. */
const DECISIONS_SHOWN = 10;

/** What kind of thing has happened, before the sentence that says it. */
const FAILURES: Record<FailureKind | 'cancelled', string> = {
  preempted: 'The host was taken away',
  trainer_crashed: 'The trainer crashed',
  trainer_stalled: 'The trainer made no progress',
  checkpoint_corrupt: 'A checkpoint cannot be read',
  store_unavailable: 'The object store does not answer',
  engine_unavailable: 'The gateway does not answer',
  source_unavailable: 'A source does not answer',
  source_changed: 'A source changed while it was read',
  bad_request: 'This cannot work',
  data_rejected: 'The data were refused',
  trainer_bug: 'An error in the code',
  out_of_memory: 'Not enough memory',
  loss_not_finite: 'The loss is not a number',
  gate_failed: 'The model is not good enough',
  disk_full: 'The disk is full',
  fenced: 'Another attempt took over',
  cancelled: 'Cancelled',
};

export function renderRunPage(status: RunStatus): string {
  return [
    `### ${status.name || status.run}`,
    ...failureLines(status),
    ...pauseLines(status),
    stageTable(status),
    ...progressLines(status),
    ...section('Data', dataLines(status)),
    ...section('Training', trainingLines(status)),
    ...section('Evaluation', evaluationLines(status)),
    ...section('Model', modelLines(status)),
    ...section('Decisions', decisionLines(status)),
  ].join('\n\n');
}

function failureLines({ failure }: RunStatus): string[] {
  if (failure === null) return [];
  return [`> **${FAILURES[failure.kind]}.** ${failure.message}`];
}

function pauseLines({ paused, run }: RunStatus): string[] {
  if (!paused) return [];
  const { kind, since, by, why } = paused;
  const isAsked = kind === 'requested';
  const when = `${isAsked ? ` by ${plain(by)}` : ''} since ${formatTime(since)}, ${pausedAt(paused)}`;
  const goOn = isAsked ? ` \`anneal resume ${run}\`, or the Update \`resume\` under *More Actions*, goes on.` : '';
  return [`> **Paused**${when}. ${isAsked ? `Why: ${plain(why)}.${goOn}` : why}`];
}

function pausedAt({ isSaving, step }: Pause): string {
  if (isSaving) return 'saving now';
  return step === null ? 'before its first step' : `after step ${formatCount(step)}`;
}

function decisionLines({ decisions = [] }: RunStatus): string[] {
  const shown = decisions.slice(-DECISIONS_SHOWN);
  const earlier = decisions.length - shown.length;
  return [
    ...(earlier === 0 ? [] : [`- ${earlier} earlier ones are in the history`]),
    ...shown.map(
      ({ at, by, what, why }) => `- ${formatTime(at)} ${plain(by)}: ${what}${why === '' ? '' : `, ${plain(why)}`}`,
    ),
  ];
}

function stageTable({ stages, paused }: RunStatus): string {
  const rows = stages.map(({ stage, state, seconds, outcome }) => {
    const isPaused = paused && state === 'running';
    return [
      `${isPaused ? PAUSED_SIGN : SIGNS[state]} ${stage}`,
      seconds === null ? '' : formatSeconds(seconds),
      outcome ?? (isPaused ? `paused ${pausedAt(paused)}` : ''),
    ];
  });
  return table(['stage', 'time', 'outcome'], rows);
}

function progressLines({ stages, paused }: RunStatus): string[] {
  if (paused && !paused.isSaving) return [];
  if (!stages.some(({ state }) => state === 'running')) return [];
  return [`How far the running stage is: [Pending Activities](${PENDING_ACTIVITIES}).`];
}

function dataLines(status: RunStatus): string[] {
  const { data, card, run } = status;
  const link = card ? [`- [data card](${card})`] : [];
  const quarantine = `\`anneal data quarantine show ${run}\` lists the dropped rows`;
  if (data === null) return card ? [...link, `- ${quarantine}`] : [];
  const codes = Object.entries(data.dropped).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const dropped = codes.reduce((sum, [, n]) => sum + n, 0);
  const splits = Object.entries(data.splits).map(([split, n]) => `${formatCount(n)} ${split}`);
  const { nearDuplicates = 0, leftOut = 0 } = data;
  const more = [
    nearDuplicates > 0 ? ` + ${formatCount(nearDuplicates)} near duplicates` : '',
    leftOut > 0 ? ` + ${formatCount(leftOut)} left out by weights` : '',
  ].join('');
  const told = codes.map(([code, n]) => `${formatCount(n)}${NO_BREAK}\`${code}\``).join(', ');
  return [
    `- ${formatCount(data.rowsIn)} rows in = **${formatCount(data.kept)} kept** + ${formatCount(data.duplicates)} duplicates${more} + ${formatCount(dropped)} dropped`,
    ...(dropped === 0 ? [] : [`- dropped: ${told}; ${quarantine}`]),
    `- split by group: ${splits.join(', ')}`,
    ...speedLines(status, data.rowsIn),
    ...link,
  ];
}

function speedLines({ preprocessSeconds: seconds, sourceBytes }: RunStatus, rows: number): string[] {
  if (!seconds) return [];
  const bytes = sourceBytes === undefined ? '' : `, ${formatBytes(sourceBytes / seconds)} a second`;
  return [`- prepared in ${formatSeconds(seconds)}: ${formatCount(Math.round(rows / seconds))} rows${bytes}`];
}

function trainingLines({ training }: RunStatus): string[] {
  // A record of an earlier release has no curve.
  const { curve } = training ?? {};
  if (curve === undefined) return [];
  const losses = describeLosses(curve.steps, CURVE_COLUMNS);
  const rows = validationRows(curve, VALIDATIONS_SHOWN);
  const hasAccuracy = rows.some(({ accuracy }) => accuracy !== undefined);
  const cells = rows.map(({ step, trainingLoss, loss, accuracy, isBest }) => [
    formatCount(step),
    trainingLoss?.toFixed(3) ?? '',
    ...(hasAccuracy ? [accuracy === undefined ? '' : `${(100 * accuracy).toFixed(1)} %`] : []),
    isBest ? `**${loss.toFixed(3)}**, the best` : loss.toFixed(3),
  ]);
  const titles = ['step', 'training loss', ...(hasAccuracy ? ['told right'] : []), 'validation loss'];
  return [...(losses === null ? [] : [`- loss ${losses}\n`]), ...(rows.length === 0 ? [] : [table(titles, cells)])];
}

function evaluationLines({ evaluation }: RunStatus): string[] {
  if (evaluation === null) return [];
  const { base, control, candidate, rewards, gate, parent, examples } = evaluation;
  const row = (name: string, score: typeof base) => {
    // A record of an earlier release has no preferences.
    const right = score.match ?? score.likelier ?? (score === candidate ? rewards?.right : null) ?? null;
    return [
      name,
      right === null ? '' : `${right.correct} of ${right.n}`,
      score.loss.toFixed(3),
      score.perplexity.toFixed(2),
    ];
  };
  const rows = [
    row(base.name === 'chance' ? 'chance' : 'untuned', base),
    ...(control === null ? [] : [row(`untuned, ${control.shots} examples in the prompt`, control)]),
    // Absent in results of earlier releases.
    ...(parent ? [row(`${parent.name}, which it continues`, parent)] : []),
    row('**tuned**', candidate),
  ];
  return [
    `${table(['', base.likelier ? 'chosen likelier' : 'right', 'loss', 'perplexity'], rows)}\n`,
    `Gate **${gate.verdict}**. ${gate.reason}\n`,
    ...(parent ? [`Beside ${parent.name}, which it continues: ${parent.comparison.reason}\n`] : []),
    ...examples
      .filter(({ before, after }) => before !== null || after !== null)
      .slice(0, EXAMPLES_MAX)
      .map((e) => `- ${code(e.prompt)}: before ${code(e.before ?? '')}, after ${code(e.after ?? '')}`),
  ];
}

function modelLines({ model, version, endpoint }: RunStatus): string[] {
  if (version === null) return [];
  return [`**${model}** version **${version}**${endpoint === null ? '' : `, served as \`${endpoint}\``}`];
}

function section(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : [`### ${title}`, lines.join('\n')];
}

function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `24 Nov 2026, 10:00 UTC` of an ISO time. */
function formatTime(iso: string): string {
  const [, year, month, day, clock] = /^(\d+)-(\d\d)-(\d\d)T(\d\d:\d\d)/.exec(iso) ?? [];
  return month === undefined ? iso : `${Number(day)} ${MONTHS[Number(month) - 1]} ${year}, ${clock} UTC`;
}

function formatCount(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ',');
}

function formatBytes(bytes: number): string {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function code(text: string): string {
  const short = text.replaceAll('`', "'").replace(/\s+/g, ' ').trim().slice(0, 90);
  return short === '' ? '(nothing)' : `\`${short}\``;
}
