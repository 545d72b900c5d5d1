// Profiles sources without training on them: ingest and preprocess up to the tokeniser, in one process, by the stages' own code.
import type { Snapshot } from '../contracts/records.ts';
import type { Accounts } from '../contracts/rows.ts';
import { showUri } from '../contracts/source-uri.ts';
import type { Spec } from '../contracts/spec.ts';
import { type BuiltCard, buildCard } from './card/card.ts';
import { collectCard, NO_DATASET } from './card/collect.ts';
import type { PreparationHost } from './preparation/host.ts';
import { type Prepared, prepareRows } from './preparation/prepare.ts';
import { addCounts } from './profile/row-sample.ts';
import { loadProfile } from './profile/stored.ts';
import { takeSnapshot } from './snapshot.ts';

/** Of each code. */
const BAD_LINES_MAX = 10;

interface CheckedRows {
  rowsIn: number;
  kept: number;
  duplicates: number;
  /** Rows that are nearly the same as another, whether the spec has them dropped or not. */
  nearDuplicates: number;
  /** Rows that a source's weight leaves out. */
  leftOut?: number;
  /** By code. */
  dropped: Record<string, number>;
  /** Findings by type. */
  pii: Record<string, number>;
}

export interface CheckedFile extends CheckedRows {
  uri: string;
  firstBadLines: Record<string, number[]>;
}

export interface CheckedData {
  files: CheckedFile[];
  total: CheckedRows;
  card: BuiltCard;
  /** Sentence of the gate that would refuse the run, or null. */
  blocked: string | null;
}

/** Personal data and near duplicates are counted even where the spec does not look for them. */
export async function checkData(host: PreparationHost, asked: Spec): Promise<CheckedData> {
  const spec = withCounting(asked);
  const startedMs = performance.now();
  const snapshot = await takeSnapshot(
    host.store,
    spec,
    host.sources,
    ({ uri, bytesRead, sizeBytes }) => {
      const share = sizeBytes ? `, ${Math.floor((100 * bytesRead) / sizeBytes)} %` : '';
      host.report({ phase: `read ${showUri(uri)}${share}` });
    },
    host.signal,
  );
  const prepared = await prepareRows(host, { spec, snapshot: snapshot.digest });
  const seconds = (performance.now() - startedMs) / 1000;
  const profile = await loadProfile(host.store, prepared.pieces);
  return {
    ...checkedRows(snapshot, prepared),
    card: buildCard(collectCard({ ...NO_DATASET, run: null, ...prepared, spec, snapshot, profile, seconds })),
    blocked: prepared.resolution.blocked,
  };
}

function withCounting(spec: Spec): Spec {
  const { privacy, nearDuplicates } = spec.data;
  const counted = <T extends { action: string }>(rules: T): T =>
    rules.action === 'off' ? { ...rules, action: 'warn' } : rules;
  return { ...spec, data: { ...spec.data, privacy: counted(privacy), nearDuplicates: counted(nearDuplicates) } };
}

function checkedRows(
  snapshot: Snapshot,
  { accounts, pieces, resolution }: Prepared,
): Pick<CheckedData, 'files' | 'total'> {
  const files = snapshot.sources.map(({ uri }, i) => {
    const own = pieces.filter(({ source }) => source === i).map(({ counts }) => counts);
    return {
      uri: showUri(uri),
      ...bookOf(accounts.bySource[i] as Accounts['bySource'][number], resolution.sources[i]?.nearFound ?? 0),
      pii: own.reduce((sum, counts) => addCounts(sum, counts.pii), {}),
      firstBadLines: firstLines(own.map((counts) => counts.firstBadLines)),
    };
  });
  const near = files.reduce((sum, { nearDuplicates }) => sum + nearDuplicates, 0);
  const pii = files.reduce((sum, file) => addCounts(sum, file.pii), {});
  return { files, total: { ...bookOf(accounts, near), pii } };
}

function bookOf(book: Omit<Accounts['bySource'][number], 'uri'>, nearDuplicates: number): Omit<CheckedRows, 'pii'> {
  const { rowsIn, kept, duplicates, leftOut, dropped } = book;
  return { rowsIn, kept, duplicates, nearDuplicates, ...(leftOut !== undefined && { leftOut }), dropped };
}

function firstLines(parts: Record<string, number[]>[]): Record<string, number[]> {
  const lines: Record<string, number[]> = {};
  for (const [code, numbers] of parts.flatMap((part) => Object.entries(part)))
    lines[code] = [...(lines[code] ?? []), ...numbers].slice(0, BAD_LINES_MAX);
  return lines;
}
