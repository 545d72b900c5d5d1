// The Markdown page of a run in the Web UI's "User Metadata" tab. Pure.
import type { RunStatus, StageStatus } from '../contracts/status.ts';
import { table } from './markdown-table.ts';

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

/** Held-out examples that are shown. */
const EXAMPLES_MAX = 3;

export function renderRunPage(status: RunStatus): string {
  return [
    `### ${status.name || status.run}`,
    ...failureLines(status),
    ...pauseLines(status),
    stageTable(status.stages),
    ...progressLines(status),
    ...section('Data', dataLines(status)),
    ...section('Evaluation', evaluationLines(status)),
    ...section('Model', modelLines(status)),
    ...section('Decisions', decisionLines(status)),
  ].join('\n\n');
}

function failureLines({ failure }: RunStatus): string[] {
  if (failure === null) return [];
  return [failure.kind === 'cancelled' ? `> ${failure.message}` : `> **${failure.kind}**: ${failure.message}`];
}

/** A text that people wrote, with nothing in it that Markdown would take for its own. */
function plain(text: string): string {
  return text.replace(/[\\*_[\]<>#|~]/g, '\\$&');
}

function pauseLines({ paused }: RunStatus): string[] {
  if (!paused) return [];
  const { kind, isSaving, since, by, why, step } = paused;
  const at = isSaving ? 'saving now' : step === null ? 'before its first step' : `after step ${step}`;
  const who = kind === 'requested' ? ` by ${plain(by)}` : '';
  return [`> **Paused**${who} since ${since}, ${at}. ${kind === 'requested' ? plain(why) : why}`];
}

function decisionLines({ decisions = [] }: RunStatus): string[] {
  return decisions.map(
    ({ at, by, what, why }) => `- ${at} ${plain(by)}: ${what}${why === '' ? '' : `, ${plain(why)}`}`,
  );
}

function stageTable(stages: StageStatus[]): string {
  const rows = stages.map(({ stage, state, seconds, outcome }) => [
    `${SIGNS[state]} ${stage}`,
    seconds === null ? '' : formatSeconds(seconds),
    outcome ?? '',
  ]);
  return table(['stage', 'time', 'outcome'], rows);
}

function progressLines({ stages, paused }: RunStatus): string[] {
  if (paused && !paused.isSaving) return [];
  if (!stages.some(({ state }) => state === 'running')) return [];
  return [`How far the running stage is: [Pending Activities](${PENDING_ACTIVITIES}).`];
}

function dataLines({ data, card }: RunStatus): string[] {
  if (data === null) return [];
  const codes = Object.entries(data.dropped).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const dropped = codes.reduce((sum, [, n]) => sum + n, 0);
  const splits = Object.entries(data.splits).map(([split, n]) => `${n} ${split}`);
  const { nearDuplicates = 0, leftOut = 0 } = data;
  const more = `${nearDuplicates > 0 ? ` + ${nearDuplicates} near duplicates` : ''}${leftOut > 0 ? ` + ${leftOut} left out by weights` : ''}`;
  return [
    `- ${data.rowsIn} rows in = **${data.kept} kept** + ${data.duplicates} duplicates${more} + ${dropped} dropped`,
    ...(dropped === 0 ? [] : [`- dropped: ${codes.map(([code, n]) => `${n}${NO_BREAK}\`${code}\``).join(', ')}`]),
    `- split by group: ${splits.join(', ')}`,
    ...(card ? [`- [data card](${card})`] : []),
  ];
}

function evaluationLines({ evaluation }: RunStatus): string[] {
  if (evaluation === null) return [];
  const { base, control, candidate, rewards, gate, examples } = evaluation;
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
    row('**tuned**', candidate),
  ];
  return [
    `${table(['', base.likelier ? 'chosen likelier' : 'right', 'loss', 'perplexity'], rows)}\n`,
    `Gate **${gate.verdict}**. ${gate.reason}\n`,
    ...examples
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

function code(text: string): string {
  const short = text.replaceAll('`', "'").replace(/\s+/g, ' ').trim().slice(0, 90);
  return short === '' ? '(nothing)' : `\`${short}\``;
}
