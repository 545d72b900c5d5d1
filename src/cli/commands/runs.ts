// `anneal ps`, `status`, `watch`, `cancel`: looking at runs and sweeps, and ending them.
import type { AnnealClient } from '../../client/connect.ts';
import { CliError, EXIT } from '../failures.ts';
import { followRun, isOutOfBudget, outOfBudgetLine } from '../follow.ts';
import { createOutput } from '../output.ts';
import { withClient } from '../session.ts';
import { runLines } from '../views/run.ts';
import { summaryLines } from '../views/summary.ts';
import { runsTable } from '../views/tables.ts';
import { exitCodeOfRun } from './run.ts';
import { followSweep, showSweep } from './sweep.ts';

interface Options {
  json?: boolean;
  wait?: boolean;
  keepWaiting?: boolean;
}

export async function ps(options: Options & { limit: number }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const listed = await client.listRuns({ limit: options.limit });
    // Newest first: what a resumed run was before is left out.
    const runs = listed.filter((one, i) => listed.findIndex(({ run }) => run === one.run) === i);
    if (output.json) output.result(runs);
    else for (const line of runsTable(runs, Date.now(), output.paint)) output.say(line);
    return EXIT.done;
  });
}

export async function status(run: string | undefined, options: Options): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const id = run ?? (await newestRun(client));
    if (await client.isSweep(id)) return showSweep(client, id, output);
    const description = await client.describeRun(id);
    if (output.json) {
      output.result(description);
      return EXIT.done;
    }
    const view = { description, nowMs: Date.now(), webUi: client.linkTo(description.run) };
    for (const line of runLines(view, output.width(), output.paint)) output.say(line);
    const summary = summaryLines(description.status, output.width(), output.paint);
    if (summary.length > 0) output.say('');
    for (const line of summary) output.say(line);
    return EXIT.done;
  });
}

export async function watch(run: string | undefined, options: Options): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const id = run ?? (await newestRun(client));
    const { keepWaiting = false } = options;
    if (await client.isSweep(id)) return followSweep(client, id, output, { ndjson: output.json, keepWaiting });
    const end = await followRun(client, id, output, { ndjson: output.json, keepWaiting });
    if (end === null) return EXIT.interrupted;
    if (isOutOfBudget(end) && !output.json) output.say(outOfBudgetLine(end));
    return exitCodeOfRun(end);
  });
}

export async function cancel(run: string, options: Options): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    await client.cancelRun(run);
    if (await client.isSweep(run)) {
      output.say(`Sweep ${run} and all its trials were asked to stop; each saves a checkpoint first.`);
      if (output.json) output.result({ sweep: run, status: 'cancelling' });
      return EXIT.done;
    }
    output.say(`Run ${run} was asked to stop; it saves a checkpoint first.`);
    if (!options.wait) {
      if (output.json) output.result({ run, status: 'cancelling' });
      return EXIT.done;
    }
    const end = await followRun(client, run, output, { keepWaiting: true });
    if (end === null) return EXIT.interrupted;
    if (output.json) output.result({ run, status: end.state });
    return end.state === 'cancelled' ? EXIT.done : EXIT.failed;
  });
}

async function newestRun(client: AnnealClient): Promise<string> {
  const newest = (await client.listRuns({ limit: 1 }))[0];
  if (!newest) throw new CliError('run_not_found', 'There are no runs yet; start one with `anneal run`.');
  return newest.run;
}
