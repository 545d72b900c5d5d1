// A line of a part's log for people: time, part, message. Lines that are no JSON of ours are shown as they are.
import type { Paint } from './format.ts';

export interface LogLine {
  part: string;
  /** ISO time, or empty where the line has none. */
  time: string;
  raw: string;
  text: string;
}

/** Longest part name, `supervisor`. */
const PART_WIDTH = 10;

export function logLine({ part, text: raw }: { part: string; text: string }, paint: Paint): LogLine {
  const parsed = parse(raw);
  const name = paint.cyan(part.padEnd(PART_WIDTH));
  if (parsed === null) {
    const time = /^\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(raw)?.[0] ?? '';
    const rest = raw.slice(time.length).trim();
    return { part, time, raw, text: `${paint.dim(clock(time))} ${name} ${rest}` };
  }
  const { t, level, message, ...fields } = parsed;
  const colour = { error: paint.red, warn: paint.yellow }[level] ?? ((text: string) => text);
  const extra = Object.entries(fields)
    .filter(([key]) => key !== 'part')
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
  const text = `${paint.dim(clock(t))} ${name} ${colour(message)}${extra ? ` ${paint.dim(extra)}` : ''}`;
  return { part, time: t, raw, text };
}

function clock(time: string): string {
  return time === '' ? ' '.repeat(8) : time.slice(11, 19);
}

function parse(raw: string): { t: string; level: string; message: string; [field: string]: unknown } | null {
  if (!raw.startsWith('{')) return null;
  try {
    const value = JSON.parse(raw) as Record<string, unknown>;
    if (typeof value.t !== 'string' || typeof value.message !== 'string') return null;
    return { ...value, t: value.t, message: value.message, level: String(value.level ?? 'info') };
  } catch {
    return null;
  }
}
