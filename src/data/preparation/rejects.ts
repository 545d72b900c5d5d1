// Puts the rows that the tokeniser refuses into the quarantine, and counts them.
import { appendFile } from 'node:fs/promises';
import type { TokenisedRange } from '../../contracts/ranges.ts';
import type { Snapshot } from '../../contracts/records.ts';
import type { DropCode, Split } from '../../contracts/rows.ts';
import { TokeniserRejectSchema } from '../../contracts/trainer-protocol.ts';
import { readLines } from '../line-file.ts';
import { previewOf, quarantinedRow } from '../rows-read.ts';
import { sourceNames } from '../source-names.ts';

/** Rows that a range's tokeniser adds to the quarantine; all are counted. */
const REJECTS_MAX = 100_000;

type Rejects = Pick<TokenisedRange, 'rejected' | 'shortestTooLong'>;

/** Adds to the quarantine file. A row that stands several times in its split is told once. */
export async function takeRejected(path: string, quarantine: string, snapshot: Snapshot): Promise<Rejects> {
  const counts = new Map<string, Rejects['rejected'][number]>();
  const seen = new Set<string>();
  let shortest = Number.POSITIVE_INFINITY;
  const lines: string[] = [];
  const names = sourceNames(snapshot.sources);
  for await (const text of readLines(path)) {
    if (text === '') continue;
    const { split, code, message, tokens, src, preview } = TokeniserRejectSchema.parse(JSON.parse(text));
    if (src === null) throw new Error('the tokeniser rejected a row without a source');
    shortest = Math.min(shortest, tokens ?? shortest);
    const key = `${src.source} ${split} ${code}`;
    const count = counts.get(key) ?? { source: src.source, split: split as Split, code, rows: 0, copies: 0 };
    counts.set(key, count);
    count.copies++;
    const place = `${src.source} ${src.line}`;
    if (seen.has(place)) continue;
    seen.add(place);
    count.rows++;
    if (seen.size > REJECTS_MAX) continue;
    const name = names[src.source] ?? '';
    lines.push(quarantineLine({ line: src.line, code: code as DropCode, message, preview }, name));
    if (lines.length === 1_000) await appendFile(quarantine, lines.splice(0).join(''));
  }
  await appendFile(quarantine, lines.join(''));
  return { rejected: [...counts.values()], shortestTooLong: Number.isFinite(shortest) ? shortest : null };
}

/** A line of the quarantine, for a row of whose bytes nothing is known. @param preview the row's JSON */
export function quarantineLine(
  { preview, ...row }: { line: number; code: DropCode; message: string; preview: string },
  name: string,
): string {
  return `${JSON.stringify(quarantinedRow({ ...row, path: '', preview: previewOf(preview) }, name))}\n`;
}
