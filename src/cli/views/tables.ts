// The lists that the CLI prints: runs, versions, schedules. State in, lines out.
import type { RunSummary } from '../../client/runs.ts';
import type { ScheduleSummary } from '../../client/schedules.ts';
import type { Version } from '../../contracts/records.ts';
import { formatAge, formatCount, formatPercent, type Paint, table } from './format.ts';
import { progressLabel, waitingText } from './progress.ts';

export function runsTable(runs: RunSummary[], nowMs: number, paint: Paint): string[] {
  if (runs.length === 0) return ['No runs yet; start one with `anneal run`.'];
  const rows = runs.map((run) => [
    run.run,
    stateText(run.state, paint),
    run.stage ?? '',
    progressText(run),
    formatAge(nowMs - Date.parse(run.startedAt)),
  ]);
  return table([header(['RUN', 'STATE', 'STAGE', 'PROGRESS', 'AGE'], paint), ...rows], [4]);
}

function progressText({ stage, progress, waitsForWorker }: RunSummary): string {
  if (waitsForWorker) return waitingText(stage);
  if (progress === null) return '';
  return progress.loss === undefined
    ? progressLabel(progress)
    : `${progressLabel(progress)}, loss ${progress.loss.toFixed(3)}`;
}

function stateText(state: RunSummary['state'], paint: Paint): string {
  if (state === 'running') return paint.cyan(state);
  if (state === 'paused') return paint.yellow(state);
  return state === 'completed' ? paint.green(state) : paint.red(state);
}

/** `aliases` maps a version's number to the names that point at it. */
export function versionsTable(
  versions: Version[],
  aliases: Map<number, string[]>,
  nowMs: number,
  paint: Paint,
): string[] {
  if (versions.length === 0) return ['No versions yet; a run registers one when its gate passes.'];
  const hasParents = versions.some(({ parent }) => parent !== null);
  const rows = versions.map((version) => {
    const { base, candidate, rewards, gate } = version.evaluation;
    const right = candidate.match ?? rewards?.right;
    return [
      `v${version.version}`,
      (aliases.get(version.version) ?? []).map((alias) => paint.green(alias)).join(' '),
      right ? `${right.correct} of ${right.n}` : '',
      right ? formatPercent(right.correct / right.n) : '',
      `${base.loss.toFixed(3)} → ${candidate.loss.toFixed(3)}`,
      gate.verdict,
      version.base.name,
      ...(hasParents ? [version.parent === null ? '' : `${version.parent.model}@${version.parent.version}`] : []),
      formatCount(version.data.accounts.kept),
      version.digest.slice(0, 12),
      formatAge(nowMs - Date.parse(version.createdAt)),
    ];
  });
  const continues = hasParents ? ['CONTINUES'] : [];
  const titles = [
    'VERSION',
    'ALIAS',
    'CORRECT',
    'SHARE',
    'LOSS',
    'GATE',
    'BASE',
    ...continues,
    'ROWS',
    'DIGEST',
    'AGE',
  ];
  const rowsAt = titles.indexOf('ROWS');
  return table([header(titles, paint), ...rows], [2, 3, rowsAt, rowsAt + 2]);
}

/** Newest first: each continues the one below it, the last one its base model. */
export function ancestryTable(chain: Version[], nowMs: number, paint: Paint): string[] {
  const rows = chain.map((version) => {
    const { gate, candidate } = version.evaluation;
    return [
      `${version.model}@${version.version}`,
      String(version.recipe.method ?? ''),
      version.run,
      formatCount(version.data.accounts.kept),
      candidate.loss.toFixed(3),
      gate.verdict,
      version.data.dataset.slice(0, 12),
      version.digest.slice(0, 12),
      formatAge(nowMs - Date.parse(version.createdAt)),
    ];
  });
  const titles = ['VERSION', 'METHOD', 'RUN', 'ROWS', 'LOSS', 'GATE', 'DATASET', 'DIGEST', 'AGE'];
  const oldest = chain.at(-1);
  const end =
    oldest === undefined
      ? []
      : oldest.parent === null
        ? [`${oldest.base.name}, digest ${oldest.base.digest.slice(0, 12)}, is the base model.`]
        : [`${oldest.parent.model}@${oldest.parent.version} is no longer in the registry.`];
  return [...table([header(titles, paint), ...rows], [3, 4, 8]), ...end];
}

export interface ModelSummary {
  model: string;
  versions: number;
  champion: number | null;
}

export function modelsTable(models: ModelSummary[], paint: Paint): string[] {
  if (models.length === 0) return ['No models yet; `anneal demo` makes one in a few minutes.'];
  const rows = models.map(({ model, versions, champion }) => [
    model,
    formatCount(versions),
    champion === null ? '' : `v${champion}`,
  ]);
  return table([header(['MODEL', 'VERSIONS', 'CHAMPION'], paint), ...rows], [1]);
}

export function schedulesTable(schedules: ScheduleSummary[], nowMs: number, paint: Paint): string[] {
  if (schedules.length === 0) return ['No schedules yet; make one with `anneal schedule create`.'];
  const rows = schedules.map((one) => [
    one.id,
    one.when,
    one.paused ? paint.yellow('paused') : paint.green('on'),
    one.nextAt === null || one.paused ? '' : `in ${formatAge(Date.parse(one.nextAt) - nowMs)}`,
    one.lastAt === null ? '' : `${formatAge(nowMs - Date.parse(one.lastAt))} ago`,
    outcomeText(one, paint),
  ]);
  return table([header(['SCHEDULE', 'WHEN', 'STATE', 'NEXT', 'LAST', 'LAST OUTCOME'], paint), ...rows]);
}

function outcomeText({ lastOutcome, lastWorkflow }: ScheduleSummary, paint: Paint): string {
  if (lastOutcome === null) return lastWorkflow ?? '';
  const { state, run, why } = lastOutcome;
  if (state === 'completed') return why === null ? `run ${run} ${paint.green('completed')}` : `skipped: ${why}`;
  const what = run === null ? stateText(state, paint) : `run ${run} ${stateText(state, paint)}`;
  return why === null ? what : `${what}: ${why}`;
}

function header(titles: string[], paint: Paint): string[] {
  return titles.map((title) => paint.dim(title));
}
