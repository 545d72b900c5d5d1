// `anneal compare`: runs side by side, and their learning curves as files.
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { AnnealClient } from '../../client/connect.ts';
import type { LearningCurve } from '../../contracts/learning-curve.ts';
import { encodeCurve, TENSORBOARD_FILE } from '../../registry/tensorboard.ts';
import { readCurve } from '../../registry/trained.ts';
import { EXIT } from '../failures.ts';
import { createOutput } from '../output.ts';
import { withClient, withStore } from '../session.ts';
import { type Compared, comparisonLines, differences } from '../views/compare.ts';

export async function compare(runs: string[], options: { to?: string; json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const compared = await withClient(async (client) => {
    const ids = [...new Set((await Promise.all(runs.map((one) => runsOf(client, one)))).flat())];
    return await withStore((store) =>
      Promise.all(ids.map(async (run) => ({ ...(await described(client, run)), curve: await readCurve(store, run) }))),
    );
  });
  if (output.json) output.result({ runs: compared, differences: differences(compared) });
  else for (const line of comparisonLines(compared, output.width(), output.paint)) output.say(line);
  if (options.to !== undefined) {
    const folder = resolve(options.to);
    for (const one of compared) await writeCurve(join(folder, one.run), one);
    output.say(`The curves are in ${folder}; \`tensorboard --logdir ${folder}\` shows them.`);
  }
  return EXIT.done;
}

/** The trials of a sweep, or the run itself. */
async function runsOf(client: AnnealClient, id: string): Promise<string[]> {
  if (!(await client.isSweep(id))) return [id];
  return (await client.describeSweep(id)).status?.trials.map(({ run }) => run) ?? [];
}

async function described(client: AnnealClient, run: string): Promise<Omit<Compared, 'curve'>> {
  const [{ state, startedAt, status }, spec] = await Promise.all([client.describeRun(run), client.specOfRun(run)]);
  return { run, state, startedAt, status, spec };
}

async function writeCurve(folder: string, { startedAt, curve }: Compared): Promise<void> {
  if (curve === null) return;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, TENSORBOARD_FILE), encodeCurve(curve, Date.parse(startedAt) / 1000));
  await writeFile(join(folder, 'steps.csv'), csv(['step', 'loss', 'gradNorm', 'learningRate'], curve.steps));
  await writeFile(join(folder, 'validations.csv'), csv(['step', 'loss', 'accuracy'], curve.validations));
}

type Point = LearningCurve['steps'][number] | LearningCurve['validations'][number];

function csv(columns: string[], points: readonly Point[]): string {
  const rows = points.map((point) => columns.map((name) => (point as unknown as Record<string, number>)[name] ?? ''));
  return [columns, ...rows].map((cells) => `${cells.join(',')}\n`).join('');
}
