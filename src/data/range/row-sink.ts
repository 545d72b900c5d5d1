// Where the rows of a range end: kept rows in its files and its profile, dropped ones in the quarantine, all of them counted.
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import { type ColumnDropper, createDropper } from '../columns/drop.ts';
import type { Fields } from '../fields.ts';
import { type Content, groupTextOf } from '../mapping.ts';
import type { HeldChat } from '../profile/profile.ts';
import type { Stash } from '../profile/stash.ts';
import { type BrokenRow, quarantinedRow } from '../rows-read.ts';
import type { Chat } from '../shapes.ts';
import { groupOf, type MappedRow } from './clean-row.ts';
import type { FastRow } from './fast-rows.ts';
import { FLAG_UNWANTED, FLAG_WANTED } from './index-file.ts';
import type { RangeOptions } from './options.ts';
import { plainText } from './plain-text.ts';
import type { RangeFiles } from './range-files.ts';
import type { RangeTools } from './range-tools.ts';
import type { Placed, SourceBytes, WrittenRow } from './row-writer.ts';
import { count, noteBadLine } from './tally.ts';

/** Rows written to the quarantine; all are counted. Nobody reads more, and a wrong file would be copied whole. */
const QUARANTINE_ROWS_MAX = 100_000;

type SinkTools = Pick<RangeTools, 'sketch' | 'profile'>;

export class RowSink {
  readonly #options: RangeOptions;
  readonly #tools: SinkTools;
  readonly #files: RangeFiles;
  readonly #tally: CleanedRange;
  readonly #dropColumns: ColumnDropper;

  constructor(options: RangeOptions, tools: SinkTools, files: RangeFiles, tally: CleanedRange) {
    this.#options = options;
    this.#tools = tools;
    this.#files = files;
    this.#tally = tally;
    this.#dropColumns = createDropper(options.mapping.dropColumns ?? []);
  }

  drop(row: BrokenRow): void {
    const tally = this.#tally;
    count(tally.dropped, row.code);
    noteBadLine(tally, row.code, row.line);
    const quarantined = quarantinedRow(row, this.#options.name);
    tally.firstFault ??= quarantined.message;
    this.#tools.profile.addDropped(quarantined);
    if (tally.quarantined === QUARANTINE_ROWS_MAX) return;
    tally.quarantined++;
    this.#files.quarantine.addText(`${JSON.stringify(quarantined)}\n`);
  }

  keep({ row, content, json, fixed, warned }: MappedRow): void {
    const { source, rules } = this.#options;
    const { sketch, profile } = this.#tools;
    const { line } = row;
    this.#noteRules(fixed, warned, line);
    const field = rules.groupBy === null ? null : ownField(row.value, rules.groupBy);
    const group = this.#groupOf(field, () => plainText(groupTextOf(content)));
    const { id, jsonBytes } = this.#addRow(json, { group, source, line, flags: this.#flagsOf(content) });
    if (sketch !== null) this.#files.bands?.addBytes(bytesOf(sketch(content)));
    const sourceBytes = row.bytes.length;
    profile.add(content, { source, line, id, jsonBytes, sourceBytes }, () => this.#dropColumns(row.value as Fields));
    this.#tally.kept++;
  }

  keepFast(row: FastRow): void {
    const { source, rules } = this.#options;
    const { sketch, profile } = this.#tools;
    const { chat, line } = row;
    const group = this.#groupOf(rules.groupBy === null ? null : row.field(rules.groupBy), () => chat.plainQuestion);
    const { id, jsonBytes } = this.#addRow(chat, { group, source, line, flags: 0 });
    if (sketch !== null) this.#files.bands?.addBytes(bytesOf(sketch(JSON.parse(chat.json) as Chat)));
    profile.addChat(chat, { source, line, id, jsonBytes, sourceBytes: row.sizeBytes }, (stash) => hold(row, stash));
    this.#tally.kept++;
  }

  #addRow(content: string | SourceBytes, placed: Placed): WrittenRow {
    const written = this.#files.rows.add(content, placed);
    this.#files.prints?.add(written.line);
    return written;
  }

  #groupOf(field: unknown, ownText: () => string | Uint8Array): string {
    const { group, isGiven } = groupOf(field, ownText);
    if (this.#options.rules.groupBy !== null && !isGiven) this.#tally.withoutGroup++;
    return group;
  }

  #noteRules(fixed: MappedRow['fixed'], warned: MappedRow['warned'], line: number): void {
    for (const code of fixed) count(this.#tally.fixed, code);
    for (const { code } of warned) {
      count(this.#tally.warned, code);
      noteBadLine(this.#tally, code, line);
    }
  }

  #flagsOf(content: Content): number {
    if (!('label' in content)) return 0;
    this.#tally.labels[content.label ? 'wanted' : 'unwanted']++;
    return content.label ? FLAG_WANTED : FLAG_UNWANTED;
  }
}

/** As bytes, which cost less than values. */
function hold(row: FastRow, stash: Stash): HeldChat {
  const { source, from, to } = row.chat;
  const content = stash.keep(source, from, to);
  return { content: () => JSON.parse(`{${content.toString('utf8')}}`) as Chat, source: row.hold(stash) };
}

function ownField(row: unknown, name: string): unknown {
  const fields = row as Fields;
  return Object.hasOwn(fields, name) ? fields[name] : undefined;
}

function bytesOf(words: BigUint64Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
