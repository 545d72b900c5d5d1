// `anneal schedule`: periodic retraining.
import type { AnnealClient } from '../../client/connect.ts';
import { type ConfirmOptions, confirmPlan } from '../confirm.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { withClient } from '../session.ts';
import { loadSpec } from '../spec-file.ts';
import { schedulesTable } from '../views/tables.ts';

export interface CreateOptions extends ConfirmOptions {
  spec?: string;
  set?: string[];
  every?: string;
  cron?: string;
  paused?: boolean;
}

export async function createSchedule(id: string, options: CreateOptions): Promise<number> {
  if ((options.every === undefined) === (options.cron === undefined)) {
    throw new CliError(
      'usage',
      'Give exactly one of --every (such as 1d) and --cron (such as "0 3 * * 1").',
      EXIT.usage,
    );
  }
  const every = options.every === undefined ? undefined : normaliseInterval(options.every);
  const spec = loadSpec(options.spec, { set: options.set ?? [] }, process.cwd());
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    if (options.plan !== false && !(await confirmPlan(spec, options, output))) {
      output.say('Nothing was scheduled.');
      return EXIT.failed;
    }
    const { cron, paused } = options;
    await client.schedules.create({
      id,
      spec,
      ...(every !== undefined && { every }),
      ...(cron !== undefined && { cron }),
      paused: paused ?? false,
    });
    const when = cron === undefined ? `every ${options.every}` : `by cron ${cron}`;
    report(
      output,
      id,
      paused ? 'created, paused' : 'created',
      `Schedule ${id} trains ${spec.name} ${when}${paused ? ', paused' : ''}.`,
    );
    return EXIT.done;
  });
}

export async function listSchedules(options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const schedules = await client.schedules.list();
    if (output.json) output.result(schedules);
    else for (const line of schedulesTable(schedules, Date.now(), output.paint)) output.say(line);
    return EXIT.done;
  });
}

export type ScheduleAction = 'trigger' | 'pause' | 'unpause' | 'delete';

const DONE: Record<ScheduleAction, string> = {
  trigger: 'was triggered; it starts a run unless its last one is still running',
  pause: 'is paused',
  unpause: 'is on',
  delete: 'is deleted; runs that it started go on',
};

export async function actOnSchedule(action: ScheduleAction, id: string, options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client: AnnealClient) => {
    await client.schedules[action](id);
    report(output, id, action, `Schedule ${id} ${DONE[action]}.`);
    return EXIT.done;
  });
}

function report(output: Output, schedule: string, outcome: string, sentence: string): void {
  if (output.json) output.result({ schedule, outcome });
  else output.say(sentence);
}

const UNITS: Record<string, string> = { s: 'seconds', m: 'minutes', min: 'minutes', h: 'hours', d: 'days', w: 'weeks' };

/** `1d`, `12 h`, `30min` as Temporal's words. */
export function normaliseInterval(text: string): string {
  const [, amount, unit] = /^(\d+)\s*(s|m|min|h|d|w)$/.exec(text.trim()) ?? [];
  if (!amount || !unit || Number(amount) === 0) {
    throw new CliError('usage', `--every takes a number and s, m, h, d or w, such as 12h, got ${text}.`, EXIT.usage);
  }
  return `${amount} ${UNITS[unit]}`;
}
