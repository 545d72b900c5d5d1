// Cleans one range of a source: read, map, filter, deal with what is private, give ids and groups, write. A pure function of the
// range's bytes and rules: the same ones leave the same files. Memory: one slice of the source and a block per file.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import { requireColumns } from '../columns/columns.ts';
import { createPreviewer } from '../columns/drop.ts';
import type { CsvHeader } from '../csv.ts';
import { rereadRow } from '../mend-bytes.ts';
import type { Inspection } from '../privacy/actions.ts';
import { slicesOf } from '../readers.ts';
import { type BrokenRow, type GoodRow, isBroken, type ReadRow } from '../rows-read.ts';
import type { Chat } from '../shapes.ts';
import { RowFault } from '../turns.ts';
import { type BreakRow, createBreakRow, createMapRow, type MappedRow, type MapRow, withContent } from './clean-row.ts';
import { createFastWay, type FastRow } from './fast-rows.ts';
import { RANGE_FILES, type RangeContext, type RangeOptions } from './options.ts';
import { openRangeFiles, type RangeFiles } from './range-files.ts';
import { openRangeTools, type RangeTools } from './range-tools.ts';
import { createRowReader, type RowReader } from './row-reader.ts';
import { RowSink } from './row-sink.ts';
import { addCounts, openTally } from './tally.ts';

/** Leaves `RANGE_FILES` and the files of the rows in the folder, over what is there. @throws AnnealError `data_rejected` for a CSV header that cannot be used. */
export async function cleanRange(
  bytes: AsyncIterable<Uint8Array>,
  options: RangeOptions,
  folder: string,
  context: RangeContext = {},
): Promise<CleanedRange> {
  const { onProgress, signal } = context;
  const tools = await openRangeTools(options, folder, context);
  const files = openRangeFiles(folder, options.rules);
  const cleaner = new RangeCleaner(options, tools, files);
  try {
    for await (const slice of slicesOf(bytes)) {
      signal?.throwIfAborted();
      cleaner.push(slice);
      await cleaner.settle();
      onProgress?.(cleaner.progress);
      if (cleaner.isDone) break;
      await nextTurn();
    }
    cleaner.end();
    await cleaner.settle();
  } finally {
    files.close();
  }
  writeFileSync(join(folder, RANGE_FILES.profile), JSON.stringify(tools.profile.toJson()));
  return cleaner.result();
}

/** A row that was read: on its way, or why it goes. */
type Judged = MappedRow | BrokenRow;

/** Rows whose images are read at once: a server's answer takes longer than its bytes, and an image has up to 10 MiB. */
const MEDIA_ROWS = 8;

const NOTHING: never[] = [];

function readFast(row: FastRow): MappedRow {
  const { json } = row.chat;
  return { row: row.read(), content: JSON.parse(json) as Chat, json, fixed: NOTHING, warned: NOTHING };
}

const isGone = (row: Judged): row is BrokenRow => 'code' in row;

class RangeCleaner {
  readonly #options: RangeOptions;
  readonly #tools: RangeTools;
  readonly #tally = openTally();
  readonly #sink: RowSink;
  readonly #reader: RowReader;
  readonly #map: MapRow;
  readonly #break: BreakRow;
  /** Rows that wait for what takes time, images or Presidio, and those behind them. */
  #waiting: Judged[] = [];

  constructor(options: RangeOptions, tools: RangeTools, files: RangeFiles) {
    this.#options = options;
    this.#tools = tools;
    this.#sink = new RowSink(options, tools, files, this.#tally);
    const { mapping, name, header } = options;
    this.#map = createMapRow(mapping);
    this.#break = createBreakRow(mapping.dropColumns ?? []);
    const csv = { name, header, onHeader: (found: CsvHeader) => this.#readHeader(found) };
    const fastWay = createFastWay(mapping, options.rules.groupBy, (row) => this.#takeFast(row));
    this.#reader = createRowReader(options, csv, (row) => this.#take(row), fastWay);
  }

  push(slice: Buffer): void {
    this.#reader.push(slice);
  }

  /** The bytes that were pushed are all there are. */
  end(): void {
    if (!this.isDone) this.#reader.end();
  }

  get isDone(): boolean {
    return this.#reader.isDone;
  }

  get progress() {
    const { rowsIn, kept } = this.#tally;
    return { rowsIn, kept, bytesRead: this.#reader.offset - this.#options.startOffset };
  }

  result(): CleanedRange {
    const { startOffset, endOffset } = this.#options;
    return { ...this.#tally, sizeBytes: (endOffset ?? this.#reader.offset) - startOffset };
  }

  /** Deals with the rows that wait, in their order. */
  async settle(): Promise<void> {
    if (this.#waiting.length === 0) return;
    const rows = this.#waiting;
    this.#waiting = [];
    const judged: Judged[] = [];
    for (let at = 0; at < rows.length; at += MEDIA_ROWS) {
      const some = rows.slice(at, at + MEDIA_ROWS).map((row) => (isGone(row) ? row : this.#readMedia(row)));
      judged.push(...(await Promise.all(some)).map((row) => (isGone(row) ? row : this.#judge(row))));
    }
    for (const row of await this.#askPresidio(judged)) this.#write(row);
  }

  #readHeader(header: CsvHeader): void {
    const { mapping, name } = this.#options;
    if (mapping.columns != null) requireColumns(mapping.columns, header.columns, name);
    this.#tally.header = header;
  }

  #take(row: ReadRow): void {
    this.#tally.rowsIn++;
    this.#pass(isBroken(row) ? this.#mend(row) : this.#mapSlowly(row));
  }

  #mapSlowly(row: GoodRow): Judged {
    this.#tally.slowRows++;
    return this.#map(row);
  }

  #takeFast(row: FastRow): void {
    this.#tally.rowsIn++;
    const { filter, privacy, presidio } = this.#tools;
    const { chat } = row;
    const isAsIs = filter === null && presidio === null && !(privacy.isOn && chat.mayBePrivate);
    if (isAsIs && this.#waiting.length === 0) this.#sink.keepFast(row);
    else this.#pass(readFast(row));
  }

  #pass(mapped: Judged): void {
    if (this.#waiting.length > 0 || this.#takesTime(mapped)) this.#waiting.push(mapped);
    else this.#write(isGone(mapped) ? mapped : this.#judge(mapped));
  }

  #takesTime(row: Judged): boolean {
    return !isGone(row) && (this.#tools.presidio !== null || 'media' in row.content);
  }

  /** Reads the row once more where the rules ask for it. */
  #mend(row: BrokenRow): Judged {
    const { mapping, format, name } = this.#options;
    const { bytes: _bytes, ...broken } = row;
    if (mapping.rules?.[row.code] !== 'fix') return this.#hide(broken);
    const mended = rereadRow(row, format, { name, header: this.#tally.header ?? this.#options.header });
    if (mended === null) return this.#hide(broken);
    const mapped = this.#mapSlowly(mended);
    return isGone(mapped) ? mapped : { ...mapped, fixed: [...mapped.fixed, row.code] };
  }

  /** Columns that are dropped cannot be taken out of a row that could not be read. */
  #hide(row: BrokenRow): BrokenRow {
    const { dropColumns = [] } = this.#options.mapping;
    return dropColumns.length === 0 ? row : { ...row, preview: createPreviewer(dropColumns)({ text: '' }) };
  }

  async #readMedia(mapped: MappedRow): Promise<Judged> {
    if (!('media' in mapped.content)) return mapped;
    try {
      return withContent(mapped, await this.#tools.readMedia(mapped.content as Chat));
    } catch (error) {
      if (error instanceof RowFault) return this.#break(mapped.row, error);
      throw error;
    }
  }

  #judge(mapped: MappedRow): Judged {
    const { filter, privacy } = this.#tools;
    const fault = filter?.(mapped.content) ?? null;
    if (fault !== null) return this.#break(mapped.row, fault);
    return privacy.mayHold(mapped.json) ? this.#obey(mapped, privacy.inspect(mapped.content)) : mapped;
  }

  /** Does what an inspection says. */
  #obey(mapped: MappedRow, { content, found, fault }: Inspection): Judged {
    addCounts(this.#tally.pii, found);
    return fault === null ? withContent(mapped, content) : this.#break(mapped.row, fault);
  }

  async #askPresidio(rows: Judged[]): Promise<Judged[]> {
    const { presidio } = this.#tools;
    if (presidio === null) return rows;
    const contents = rows.flatMap((row) => (isGone(row) ? [] : [row.content]));
    const inspections = (await presidio.inspectBatch(contents)).values();
    return rows.map((row) => (isGone(row) ? row : this.#obey(row, inspections.next().value as Inspection)));
  }

  #write(row: Judged): void {
    if (isGone(row)) this.#sink.drop(row);
    else this.#sink.keep(row);
  }
}
