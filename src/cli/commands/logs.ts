// `anneal logs`: the logs of the embedded stack's parts, or of everything that names a run.
import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { locateState } from '../../dev/stack-layout.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { stateFolder } from '../settings.ts';
import { logLine } from '../views/log-line.ts';

export interface LogsOptions {
  lines: number;
  follow?: boolean;
  json?: boolean;
}

/** How much of a log's end is read, bytes: some 20,000 lines. */
const TAIL_BYTES_MAX = 4 * 1024 * 1024;
const FOLLOW_INTERVAL_MS = 500;

interface Log {
  part: string;
  file: string;
  /** Bytes that have been shown. */
  offset: number;
}

export async function logs(what: string | undefined, options: LogsOptions): Promise<number> {
  const output = createOutput({});
  const folder = locateState(stateFolder()).logFolder;
  const all = listLogs(folder);
  if (all.length === 0) {
    throw new CliError('no_stack', `There are no logs in ${folder}; start a stack with \`anneal up\`.`);
  }
  const chosen = all.find((log) => log.part === what);
  const sources = chosen ? [chosen] : all;
  const filter = chosen ? undefined : what;
  const read = () => sources.flatMap((log) => readOn(log));
  const shown = show(read(), filter, options.lines, options, output);
  if (shown === 0 && !options.follow) throw nothingFound(what, all, folder);
  if (options.follow) await follow(() => show(read(), filter, Number.POSITIVE_INFINITY, options, output));
  return EXIT.done;
}

function listLogs(folder: string): Log[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .sort()
    .map((name) => ({ part: name.slice(0, -'.log'.length), file: join(folder, name), offset: 0 }));
}

interface Entry {
  part: string;
  text: string;
}

/** Whole lines from the offset to the end; moves the offset behind them. */
function readOn(log: Log): Entry[] {
  const size = existsSync(log.file) ? statSync(log.file).size : 0;
  if (size < log.offset) log.offset = 0;
  const from = Math.max(log.offset, size - TAIL_BYTES_MAX);
  const buffer = Buffer.alloc(size - from);
  const fd = openSync(log.file, 'r');
  const read = readSync(fd, buffer, 0, buffer.length, from);
  closeSync(fd);
  const end = buffer.subarray(0, read).lastIndexOf(10) + 1;
  log.offset = from + end;
  const lines = buffer.subarray(0, end).toString('utf8').split('\n');
  return lines.filter((line) => line !== '').map((text) => ({ part: log.part, text }));
}

/** How many lines were shown. */
function show(
  entries: Entry[],
  filter: string | undefined,
  limit: number,
  options: LogsOptions,
  output: Output,
): number {
  const wanted = entries.filter(({ text }) => filter === undefined || text.includes(filter));
  const lines = wanted.map((entry) => logLine(entry, output.paint)).sort((a, b) => a.time.localeCompare(b.time));
  const shown = lines.slice(-limit);
  for (const line of shown) {
    if (options.json) output.result({ part: line.part, t: line.time || null, text: line.raw });
    else output.say(line.text);
  }
  return shown.length;
}

function nothingFound(what: string | undefined, logs: Log[], folder: string): CliError {
  const parts = logs.map(({ part }) => part).join(', ');
  const where = what === undefined ? 'are empty' : `have no line that names ${what}`;
  return new CliError('nothing_found', `The logs of ${parts} in ${folder} ${where}.`);
}

async function follow(showNews: () => void): Promise<void> {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  while (!interrupt.signal.aborted) {
    await sleep(FOLLOW_INTERVAL_MS, undefined, { signal: interrupt.signal }).catch(() => undefined);
    showNews();
  }
}
