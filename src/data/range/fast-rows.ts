// Which rows of a range go the fast way, lines and records alike; a chat as it stands, with nothing put before it.
import { ROW_KINDS } from '../../contracts/rows.ts';
import { type RawRecord, readRecord } from '../csv.ts';
import { decodeField, type FieldSpan } from '../csv-scan.ts';
import { LineRow } from '../jsonl.ts';
import { ByteMarks, TELLING_BYTES } from '../kernels/byte-marks.ts';
import { isPlainMapping, type Mapping } from '../mapping.ts';
import type { Stash } from '../profile/stash.ts';
import type { TakeRaw } from '../readers.ts';
import type { GoodRow, RawRow } from '../rows-read.ts';
import { ChatScan } from './chat-scan.ts';
import { compactLine } from './compact-line.ts';
import { PairChat } from './pair-chat.ts';

/** A row that goes the fast way; valid until the next one. */
export interface FastRow {
  readonly chat: ChatScan;
  readonly line: number;
  /** Of the row as its source has it. */
  readonly sizeBytes: number;
  /** A field of the row beside its messages; undefined where there is none. */
  field(name: string): unknown;
  /** The row as the slow way sees it; valid as long as the bytes are. */
  read(): GoodRow;
  /** Gives the row's value, also when other rows were read. */
  hold(stash: Stash): () => unknown;
}

/** @param groupBy the column by which rows are grouped */
export function createFastWay(mapping: Mapping, groupBy: string | null, take: (row: FastRow) => void): TakeRaw {
  const { method, shape, system } = mapping;
  const isChat = ROW_KINDS[method] === 'chat' && (shape === 'auto' || shape === 'messages') && !system;
  if (!isChat || !isPlainMapping(mapping) || groupBy === 'messages') return {};
  const marks = new ByteMarks(TELLING_BYTES);
  const chatMarks = new ByteMarks(TELLING_BYTES);
  const line = new FastLine(marks, chatMarks);
  const record = new FastRecord(marks, chatMarks);
  return {
    line: (raw) => line.scan(raw) && giveTo(take, line),
    record: (raw) => shape === 'auto' && record.scan(raw) && giveTo(take, record),
  };
}

function giveTo(take: (row: FastRow) => void, row: FastRow): true {
  take(row);
  return true;
}

class FastLine implements FastRow {
  readonly chat = new ChatScan();
  readonly #marks: ByteMarks;
  /** Of a line that is written anew. */
  readonly #chatMarks: ByteMarks;
  #raw: RawRow | null = null;

  constructor(marks: ByteMarks, chatMarks: ByteMarks) {
    this.#marks = marks;
    this.#chatMarks = chatMarks;
  }

  scan(raw: RawRow): boolean {
    this.#raw = raw;
    const { source, from, to } = raw;
    this.#marks.markOnce(source);
    return this.chat.scan(source, from, to, this.#marks.words) || this.#scanCompact(raw);
  }

  #scanCompact(raw: RawRow): boolean {
    const room = this.#chatMarks.room(raw.to - raw.from);
    const length = compactLine(raw, this.#marks.words, room);
    if (length === -1) return false;
    this.#chatMarks.markRoom(length);
    return this.chat.scan(room, 0, length, this.#chatMarks.words);
  }

  get sizeBytes(): number {
    const { from, to } = this.#raw as RawRow;
    return to - from;
  }

  get line(): number {
    return (this.#raw as RawRow).line;
  }

  field(name: string): unknown {
    return this.chat.field(name);
  }

  read(): GoodRow {
    return new LineRow(this.#raw as RawRow);
  }

  hold(stash: Stash): () => unknown {
    const { source, from, to } = this.#raw as RawRow;
    const row = stash.keep(source, from, to);
    return () => JSON.parse(row.toString('utf8')) as unknown;
  }
}

class FastRecord implements FastRow {
  readonly chat = new ChatScan();
  readonly #marks: ByteMarks;
  /** Of the chat that a record becomes. */
  readonly #chatMarks: ByteMarks;
  #raw: RawRecord | null = null;
  #columns: string[] | null = null;
  #pair: PairChat | null = null;

  constructor(marks: ByteMarks, chatMarks: ByteMarks) {
    this.#marks = marks;
    this.#chatMarks = chatMarks;
  }

  scan(raw: RawRecord): boolean {
    this.#raw = raw;
    if (raw.columns !== this.#columns) {
      this.#columns = raw.columns;
      this.#pair = PairChat.of(raw.columns);
    }
    const pair = this.#pair;
    if (pair === null) return false;
    this.#marks.markOnce(raw.source);
    const room = this.#chatMarks.room(pair.bytesOf(raw));
    const length = pair.write(raw, this.#marks.words, room);
    if (length === -1) return false;
    this.#chatMarks.markRoom(length);
    return this.chat.scan(room, 0, length, this.#chatMarks.words);
  }

  get sizeBytes(): number {
    const { from, to } = this.#raw as RawRecord;
    return to - from;
  }

  get line(): number {
    return (this.#raw as RawRecord).line;
  }

  field(name: string): unknown {
    const { source, columns, fields } = this.#raw as RawRecord;
    const column = columns.indexOf(name);
    return column === -1 ? undefined : decodeField(source, fields[column] as FieldSpan);
  }

  read(): GoodRow {
    return readRecord(this.#raw as RawRecord);
  }

  hold(stash: Stash): () => unknown {
    const raw = this.#raw as RawRecord;
    const { from, to } = raw;
    const source = stash.keep(raw.source, from, to);
    const fields = raw.fields.map((field) => ({ ...field, from: field.from - from, to: field.to - from }));
    const row = readRecord({ ...raw, source, from: 0, to: to - from, fields });
    return () => row.value;
  }
}
