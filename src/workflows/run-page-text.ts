// The Markdown page of a run in the Web UI's "User Metadata" tab. Pure.
import type { RunStatus, StageStatus } from '../contracts/status.ts';

/** The Web UI draws tables without padding; an em space at each cell's end keeps them apart. */
const PAD = '\u2003';
/** Keeps a sign with its stage and a number with its unit: the first columns are narrow. */
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
    stageTable(status.stages),
    ...progressLines(status),
    ...section('Data', dataLines(status)),
    ...section('Evaluation', evaluationLines(status)),
    ...section('Model', modelLines(status)),
  ].join('\n\n');
}

function failureLines({ failure }: RunStatus): string[] {
  if (failure === null) return [];
  return [failure.kind === 'cancelled' ? `> ${failure.message}` : `> **${failure.kind}**: ${failure.message}`];
}

function stageTable(stages: StageStatus[]): string {
  const rows = stages.map(({ stage, state, seconds, outcome }) => [
    `${SIGNS[state]} ${stage}`,
    seconds === null ? '' : formatSeconds(seconds),
    outcome ?? '',
  ]);
  return table(['stage', 'time', 'outcome'], rows);
}

function progressLines({ stages }: RunStatus): string[] {
  if (!stages.some(({ state }) => state === 'running')) return [];
  return [`How far the running stage is: [Pending Activities](${PENDING_ACTIVITIES}).`];
}

function dataLines({ data }: RunStatus): string[] {
  if (data === null) return [];
  const codes = Object.entries(data.dropped).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const dropped = codes.reduce((sum, [, n]) => sum + n, 0);
  const splits = Object.entries(data.splits).map(([split, n]) => `${n} ${split}`);
  return [
    `- ${data.rowsIn} rows in = **${data.kept} kept** + ${data.duplicates} duplicates + ${dropped} dropped`,
    ...(dropped === 0 ? [] : [`- dropped: ${codes.map(([code, n]) => `${n}${NO_BREAK}\`${code}\``).join(', ')}`]),
    `- split by group: ${splits.join(', ')}`,
  ];
}

function evaluationLines({ evaluation }: RunStatus): string[] {
  if (evaluation === null) return [];
  const { base, control, candidate, gate, examples } = evaluation;
  const row = (name: string, { match, loss, perplexity }: typeof base) => [
    name,
    match === null ? '' : `${match.correct} of ${match.n}`,
    loss.toFixed(3),
    perplexity.toFixed(2),
  ];
  const rows = [
    row('untuned', base),
    ...(control === null ? [] : [row(`untuned, ${control.shots} examples in the prompt`, control)]),
    row('**tuned**', candidate),
  ];
  return [
    `${table(['', 'right', 'loss', 'perplexity'], rows)}\n`,
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

/** Only the last column may break its lines; it has no padding, which would become part of an address at its end. */
function table(titles: string[], rows: string[][]): string {
  const line = (cells: string[]) => {
    const padded = cells.map((cell, i) => {
      const text = cell.replaceAll('|', '\\|');
      return i === cells.length - 1 ? text : `${text.replaceAll(' ', NO_BREAK)}${PAD}`;
    });
    return `| ${padded.join(' | ')} |`;
  };
  return [line(titles), line(titles.map(() => ':--')).replaceAll(PAD, ''), ...rows.map(line)].join('\n');
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
