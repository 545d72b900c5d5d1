// Makes the rows of a dataset from a snapshot: read, map, check, deduplicate, split. The same snapshot gives the same bytes.
// Memory: the ids of the kept rows (about 100 bytes each) and one slice of a source; rows go through to disk.
import { hash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Source } from '../contracts/data-spec.ts';
import { AnnealError } from '../contracts/failure.ts';
import type { Snapshot } from '../contracts/records.ts';
import { type Accounts, type DropCode, type Method, ROW_KINDS, type Row, type Split } from '../contracts/rows.ts';
import type { Spec } from '../contracts/spec.ts';
import { countDropped, countDuplicate, countKept, openAccounts, requireRows, requireSources } from './accounts.ts';
import { type LineWriter, openLineWriter, rewriteLines } from './line-file.ts';
import { type Content, type Mapping, mapRow } from './mapping.ts';
import { readBatches } from './readers.ts';
import { type BrokenRow, type GoodRow, isBroken, previewOf, quarantinedRow, type ReadRow } from './rows-read.ts';
import { createEdges, decideMoves, fractionOf, type Move, noteGroup, type SplitEdges, splitAt } from './split.ts';
import { RowFault } from './turns.ts';

/** Most rows of a dataset: their ids are held in one set, which V8 limits to 16.7 million entries. */
const KEPT_ROWS_MAX = 10_000_000;

/** Rows written to the quarantine; all are counted. Nobody reads more, and a wrong file would be copied whole. */
const QUARANTINE_ROWS_MAX = 100_000;

export interface CleanProgress {
  rowsIn: number;
  kept: number;
  bytesRead: number;
  sizeBytes: number;
}

export interface CleanResult {
  /** Before the tokeniser has had its say; see `finishAccounts`. */
  accounts: Accounts;
  /** What was decided from the data: delimiters, fallbacks, moved groups. */
  notes: string[];
}

/** How rows are cleaned: `data` of the spec, and the method that will learn from them. */
type CleanRules = Spec['data'] & { method?: Method };

type OpenParts = (parts: string[]) => AsyncIterable<Uint8Array>;

/** What the rows of all sources share. */
interface Cleaning {
  spec: Spec['data'];
  method: Method;
  accounts: Accounts;
  seen: Set<string>;
  edges: SplitEdges;
  files: Record<Split | 'quarantine', LineWriter>;
  quarantined: number;
  withoutGroup: number;
  /** By source. */
  firstFaults: (string | undefined)[];
  /** Judged answers by their label. */
  labels: { wanted: number; unwanted: number };
  notes: string[];
}

/**
 * Writes `train.jsonl`, `validation.jsonl`, `test.jsonl` and `quarantine.jsonl` into the folder, over what is there.
 * @throws AnnealError `data_rejected` when a split has no row or a CSV header cannot be used.
 */
export async function cleanRows(
  snapshot: Snapshot,
  openParts: OpenParts,
  rules: CleanRules,
  folder: string,
  onProgress: (progress: CleanProgress) => void,
  signal?: AbortSignal,
): Promise<CleanResult> {
  await mkdir(folder, { recursive: true });
  const cleaning = await openCleaning(snapshot, rules, folder);
  const sizeBytes = snapshot.sources.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
  let bytesRead = 0;
  try {
    for (const [source, { parts }] of snapshot.sources.entries()) {
      const counted = countBytes(openParts(parts), (n) => {
        bytesRead += n;
      });
      for await (const _ of cleanSource(cleaning, snapshot, source, counted)) {
        signal?.throwIfAborted();
        onProgress({ rowsIn: cleaning.accounts.rowsIn, kept: cleaning.accounts.kept, bytesRead, sizeBytes });
        await nextTurn();
      }
    }
  } finally {
    await Promise.all(Object.values(cleaning.files).map((file) => file.close()));
  }
  return finishCleaning(cleaning, folder);
}

async function openCleaning(snapshot: Snapshot, rules: CleanRules, folder: string): Promise<Cleaning> {
  const [train, validation, test, quarantine] = await Promise.all([
    openLineWriter(join(folder, 'train.jsonl')),
    openLineWriter(join(folder, 'validation.jsonl')),
    openLineWriter(join(folder, 'test.jsonl')),
    openLineWriter(join(folder, 'quarantine.jsonl')),
  ]);
  return {
    spec: rules,
    method: rules.method ?? 'sft',
    accounts: openAccounts(snapshot),
    seen: new Set(),
    edges: createEdges(),
    files: { train, validation, test, quarantine },
    quarantined: 0,
    withoutGroup: 0,
    firstFaults: [],
    labels: { wanted: 0, unwanted: 0 },
    notes: [],
  };
}

async function* countBytes(bytes: AsyncIterable<Uint8Array>, count: (n: number) => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    count(chunk.length);
    yield chunk;
  }
}

/** Gives a turn after each batch of rows. */
async function* cleanSource(
  cleaning: Cleaning,
  snapshot: Snapshot,
  source: number,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<void> {
  const { uri, format, shape } = snapshot.sources[source] as Snapshot['sources'][number];
  const { method, spec } = cleaning;
  const mapping: Mapping = { method, shape: shape as Source['shape'], system: spec.system };
  const name = basename(uri);
  const onHeader = ({ delimiter }: { delimiter: string }) => {
    cleaning.notes.push(`${name}: CSV with the delimiter ${JSON.stringify(delimiter)}.`);
  };
  for await (const rows of readBatches(bytes, format, { name, onHeader })) {
    let isFull = false;
    for (const row of rows) isFull = takeRow(cleaning, row, source, name, mapping) || isFull;
    if (isFull) for (const file of Object.values(cleaning.files)) await file.flush();
    yield;
  }
}

/** True when a file wants to be flushed. */
function takeRow(cleaning: Cleaning, row: ReadRow, source: number, name: string, mapping: Mapping): boolean {
  if (isBroken(row)) return dropRow(cleaning, row, source, name);
  const content = tryMap(row, mapping);
  return 'code' in content ? dropRow(cleaning, content, source, name) : keepRow(cleaning, row, content, source);
}

function tryMap(row: GoodRow, mapping: Mapping): Content | BrokenRow {
  const broken = (code: DropCode, path: string, message: string): BrokenRow => ({
    line: row.line,
    code,
    path,
    message,
    preview: previewOf(row.text),
  });
  try {
    return mapRow(row.value, mapping);
  } catch (error) {
    if (error instanceof RowFault) return broken(error.code, error.path, error.message);
    // V8 parses deeper nesting than it can write.
    if (error instanceof RangeError) return broken('wrong_type', '', 'the row is nested too deeply; flatten it');
    throw error;
  }
}

function dropRow(cleaning: Cleaning, row: BrokenRow, source: number, name: string): boolean {
  countDropped(cleaning.accounts, source, row.code);
  const quarantined = quarantinedRow(row, name);
  cleaning.firstFaults[source] ??= quarantined.message;
  if (++cleaning.quarantined > QUARANTINE_ROWS_MAX) return false;
  return cleaning.files.quarantine.add(JSON.stringify(quarantined));
}

function keepRow(cleaning: Cleaning, { line, value }: GoodRow, content: Content, source: number): boolean {
  const { accounts, spec, seen } = cleaning;
  // Keys stand in the order of the schema, so equal content has equal text.
  const text = JSON.stringify(content).slice(1, -1);
  const id = hash('sha256', text, 'hex').slice(0, 32);
  if (seen.has(id)) {
    countDuplicate(accounts, source);
    return false;
  }
  if (seen.size >= KEPT_ROWS_MAX)
    throw new AnnealError(
      'data_rejected',
      `The dataset has more than ${KEPT_ROWS_MAX} rows, the most that one run takes; cut the sources.`,
    );
  seen.add(id);
  if ('label' in content) cleaning.labels[content.label ? 'wanted' : 'unwanted']++;
  const turns = 'messages' in content ? content.messages : content.prompt;
  const group = groupOf(cleaning, value as Record<string, unknown>, turns);
  const fraction = fractionOf(group, spec.split.salt);
  const split = splitAt(fraction, spec.split);
  noteGroup(cleaning.edges, split, { group, fraction });
  countKept(accounts, source, split);
  return cleaning.files[split].add(
    `{"id":"${id}",${text},"group":"${group}","src":{"source":${source},"line":${line}}}`,
  );
}

function groupOf(cleaning: Cleaning, row: Record<string, unknown>, messages: Row['messages']): string {
  const { groupBy } = cleaning.spec;
  const value = groupBy !== null && Object.hasOwn(row, groupBy) ? row[groupBy] : null;
  const isGiven = value !== undefined && value !== null && value !== '';
  if (groupBy !== null && !isGiven) cleaning.withoutGroup++;
  const key = isGiven ? (typeof value === 'string' ? value : JSON.stringify(value)) : firstUserText(messages);
  return hash('sha256', key, 'hex').slice(0, 16);
}

/** Case and white space do not make another question. */
function firstUserText(messages: Row['messages']): string {
  const first = messages.find(({ role }) => role === 'user');
  return (first?.content ?? '').trim().toLowerCase().replaceAll(/\s+/g, ' ');
}

async function finishCleaning(cleaning: Cleaning, folder: string): Promise<CleanResult> {
  const { accounts, notes, spec, firstFaults } = cleaning;
  requireSources(accounts, cleaning.method, firstFaults);
  for (const move of decideMoves(cleaning.edges, spec.split)) {
    const rows = await moveGroup(folder, move);
    accounts.splits[move.from] -= rows;
    accounts.splits[move.to] += rows;
    notes.push(`The split ${move.to} would have been empty; one group (${rows} rows) of ${move.from} was moved to it.`);
  }
  if (cleaning.withoutGroup > 0)
    notes.push(
      `${cleaning.withoutGroup} rows have no field \`${spec.groupBy}\`; their first user message groups them.`,
    );
  if (cleaning.quarantined > QUARANTINE_ROWS_MAX)
    notes.push(`The quarantine holds the first ${QUARANTINE_ROWS_MAX} of ${cleaning.quarantined} dropped rows.`);
  const firstFault = firstFaults.find((fault) => fault !== undefined);
  requireRows(accounts, spec.split, firstFault === undefined ? '' : `The first: ${firstFault}.`);
  if (ROW_KINDS[cleaning.method] === 'judged') requireBothLabels(cleaning.labels);
  return { accounts, notes };
}

/** With one label only there is nothing to tell apart. */
function requireBothLabels({ wanted, unwanted }: Cleaning['labels']): void {
  if (wanted > 0 && unwanted > 0) return;
  throw new AnnealError(
    'data_rejected',
    `All ${wanted + unwanted} answers have the label ${wanted > 0}, and \`train.method: kto\` learns the difference; add answers with the other label, or set \`train.method: sft\`.`,
  );
}

/** Moves the rows of one group to a split that has none. */
async function moveGroup(folder: string, { group, from, to }: Move): Promise<number> {
  const target = await openLineWriter(join(folder, `${to}.jsonl`));
  let rows = 0;
  try {
    await rewriteLines(join(folder, `${from}.jsonl`), async (line) => {
      if ((JSON.parse(line) as Row).group !== group) return true;
      rows++;
      if (target.add(line)) await target.flush();
      return false;
    });
  } finally {
    await target.close();
  }
  return rows;
}
