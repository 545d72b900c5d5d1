// What a bench gives: one JSON object, and a Markdown table with the machine in words but without its name or its paths.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';

export interface BenchOptions {
  /** Fewer steps, for trying it: its numbers mean little. */
  quick: boolean;
  signal: AbortSignal;
  /** What it is doing. */
  say(line: string): void;
}

export interface BenchReport {
  title: string;
  /** What is printed for programs. */
  json: object;
  columns: string[];
  rows: (string | number)[][];
  /** How it was measured, and the goal; one sentence each. */
  notes: string[];
}

export function toMarkdown({ title, columns, rows, notes }: BenchReport, command: string): string {
  const line = (cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB of memory, ${process.platform}, Node ${process.versions.node}`;
  return [
    `# ${title}`,
    `\`${command}\` on ${machine}, ${new Date().toISOString().slice(0, 10)}.`,
    [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n'),
    notes.map((note) => `- ${note}`).join('\n'),
    '',
  ].join('\n\n');
}

export function saveMarkdown(name: string, markdown: string): string {
  const folder = join(import.meta.dirname, 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.md`), markdown);
  return `bench/results/${name}.md`;
}

/** The value below which the share of the values lies; null where there are none. */
export function quantile(values: number[], share: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
}

export const median = (values: number[]) => quantile(values, 0.5);

/** For tables; `–` where nothing was measured. */
export function show(value: number | boolean | null, digits = 0, unit = ''): string {
  if (value === null) return '–';
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : `${value.toFixed(digits)}${unit && ` ${unit}`}`;
}

/** JSON with so many digits as mean something. */
export function round(value: number | null, digits = 0): number | null {
  return value === null ? null : Number(value.toFixed(digits));
}
