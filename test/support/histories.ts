// The recorded histories: where they lie, how they are read, and how everything that tells of the machine is taken out of them.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(import.meta.dirname, '..', 'workflows', 'histories');

/** What each history shows. A name is the file's and stands for the workflow's id, which must be the true one where commands hold it. */
export const HISTORIES = {
  finished: 'all six stages',
  'killed-workers': 'GPU and control worker killed while it trained',
  cancelled: 'cancelled while it trained',
  resumed: 'the cancelled run again, to its end',
  'gate-failed': 'a model that is not better',
  'wrong-spec': 'a spec with several problems',
  'retraining-run': 'a schedule that found new rows',
  'retraining-skipped': 'the same schedule, nothing new',
  paused: 'paused and resumed by people, given another budget while it trained, under a deadline',
  sweep: 'two trials, one rung',
  'sweep-winner': 'the run of the better trial',
  'sweep-of-budget': 'two trials under a budget of the sweep that was used up, and more of it',
  'sweep-of-budget-winner': 'the run of the better trial, which waited for more of it',
  'two-hosts': 'a run on two hosts',
  'two-hosts-gang': 'its gang, which lost a host and began anew',
  'anneal-gpu-pool': 'the pool that granted the hosts; it never ends',
  'pool-of-teams':
    'a pool with requests of two teams that waited, from before its decisions stood in its history: not to be made anew',
} as const;
export type HistoryName = keyof typeof HISTORIES;

export interface HistoryEvent {
  eventType: string;
  [attributes: string]: unknown;
}
export interface RecordedHistory {
  events: HistoryEvent[];
}

export function listHistories(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length));
}

export function readHistory(name: string): RecordedHistory {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as RecordedHistory;
}

/** One event a line. */
export function writeHistory(name: HistoryName, history: RecordedHistory): void {
  const lines = history.events.map((event) => JSON.stringify(event));
  writeFileSync(join(FOLDER, `${name}.json`), `{"events":[\n${lines.join(',\n')}\n]}\n`);
}

/** Applies `change` to every string of the history, payloads in clear text. Stack traces go: they hold paths and replay does not read them. */
export function rewriteHistory(history: RecordedHistory, change: (text: string) => string): RecordedHistory {
  return rewrite(history, change) as RecordedHistory;
}

/** Every string of the history, payloads in clear text. */
export function textOf(history: RecordedHistory): string {
  const texts: string[] = [];
  rewriteHistory(history, (text) => {
    texts.push(text);
    return text;
  });
  return texts.join('\n');
}

function rewrite(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map((inner) => rewrite(inner, change));
  if (typeof value !== 'object' || value === null) return value;
  if (isPayload(value)) return { ...value, data: encode(change(decode(value.data))) };
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, key === 'stackTrace' ? '' : rewrite(inner, change)]),
  );
}

function isPayload(value: object): value is { metadata: object; data: string } {
  return 'metadata' in value && 'data' in value && typeof value.data === 'string';
}

const decode = (data: string) => Buffer.from(data, 'base64').toString('utf8');
const encode = (text: string) => Buffer.from(text, 'utf8').toString('base64');
