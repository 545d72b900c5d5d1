// The Markdown page of a run in the Web UI's "User Metadata" tab. Pure.
import type { RunStatus, StageStatus } from '../contracts/status.ts';

/** The Web UI draws tables without padding; an em space at each cell's end keeps them apart. */
const PAD = '\u2003';
const SIGNS: Record<StageStatus['state'], string> = {
  waiting: '·',
  running: '▶',
  done: '✓',
  failed: '✗',
  skipped: '–',
};

export function renderRunPage(status: RunStatus): string {
  return [
    `### ${status.name || status.run}`,
    stageTable(status.stages),
    ...section('Data', dataLines(status)),
    ...section('Evaluation', evaluationLines(status)),
    ...section('Served', servedLines(status)),
    ...(status.failure === null ? [] : [`> **${status.failure.kind}**: ${status.failure.message}`]),
    'Progress of the running stage: tab *Pending Activities*, heartbeat details.',
  ].join('\n\n');
}

function stageTable(stages: StageStatus[]): string {
  const row = (cells: string[]) => `| ${cells.map((cell) => `${cell}${PAD}`).join(' | ')} |`;
  const lines = stages.map(({ stage, state, seconds, outcome }) =>
    row([`${SIGNS[state]} ${stage}`, seconds === null ? '' : `${seconds.toFixed(1)} s`, outcome ?? '']),
  );
  return [row(['stage', 'time', 'outcome']), '| :-- | :-- | :-- |', ...lines].join('\n');
}

function dataLines({ data }: RunStatus): string[] {
  if (data === null) return [];
  const dropped = Object.entries(data.dropped).map(([code, n]) => `${n} \`${code}\``);
  const splits = Object.entries(data.splits).map(([split, n]) => `${n} ${split}`);
  return [
    `- ${data.rowsIn} rows in: **${data.kept} kept**, ${data.duplicates} duplicates, ${dropped.length === 0 ? 'none dropped' : `dropped ${dropped.join(', ')}`}`,
    `- split by group: ${splits.join(', ')}`,
  ];
}

function evaluationLines({ evaluation }: RunStatus): string[] {
  if (evaluation === null) return [];
  const score = ({ match, loss, perplexity }: typeof evaluation.base) =>
    `${match === null ? '' : `${match.correct} of ${match.n} right, `}loss ${loss.toFixed(3)}, perplexity ${perplexity.toFixed(2)}`;
  return [
    `- untuned: ${score(evaluation.base)}`,
    ...(evaluation.control === null
      ? []
      : [`- untuned with ${evaluation.control.shots} examples in the prompt: ${score(evaluation.control)}`]),
    `- **tuned: ${score(evaluation.candidate)}**`,
    `- gate: **${evaluation.gate.verdict}**. ${evaluation.gate.reason}`,
    ...evaluation.examples
      .slice(0, 3)
      .map((e) => `- \`${e.prompt}\` → before \`${short(e.before)}\`, after \`${short(e.after)}\``),
  ];
}

function servedLines({ model, version, endpoint }: RunStatus): string[] {
  if (version === null) return [];
  return [`- **${model}** version **${version}**${endpoint === null ? '' : `, endpoint \`${endpoint}\``}`];
}

function section(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : [`### ${title}`, lines.join('\n')];
}

function short(text: string | null): string {
  return (text ?? '').replaceAll('`', "'").replace(/\s+/g, ' ').slice(0, 90);
}
