// Reads a file that is one JSON array, element by element, so that a broken element costs itself and not the file.
//
// States:
// - `start`: nothing but white space seen; `[` is next.
// - `element`: an element, or `]`, is next. A comma too many is passed over.
// - `after`: an element has ended; `,` or `]` is next.
// - `seeking`: an element was broken; the next text that looks like the start of one is sought: `{` with the first key that the
//   elements have, or, when none is known, `{` as the first character of a line.
//   Elements without that key which follow an element that is not closed are lost in it: they count as one row with it.
// - `done`: `]` was read. More text is a broken row, and what looks like an element in it is read.
// - `ignoring`: the file is no array at all.
import { isUtf8 } from 'node:buffer';
import { ByteWindow, parserOf } from './byte-window.ts';
import { findElementEnd, findElementStart, firstKeyOf, skipSpace, trimEnd } from './json-scan.ts';
import {
  brokenRow,
  invalidUtf8,
  isBroken,
  type Place,
  PREVIEW_CHARS_MAX,
  parseJsonRow,
  type ReadRow,
  ROW_BYTES_MAX,
  type RowParser,
  type TakeRow,
  tooLarge,
} from './rows-read.ts';

type State = 'start' | 'element' | 'after' | 'seeking' | 'done' | 'ignoring';

const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;

/** Bytes kept while seeking: the start of an element may lie across two chunks. */
const SEEK_TAIL_BYTES = 4096;

/** Bytes waited for before text outside an array is previewed, so that the preview does not depend on the chunks. */
const PREVIEW_BYTES = 4 * PREVIEW_CHARS_MAX;

export function createJsonArrayParser(start: Place): RowParser {
  const reader = new ArrayReader(start);
  return parserOf(reader.window, (take, isEnd) => reader.step(take, isEnd));
}

class ArrayReader {
  readonly window: ByteWindow;
  #state: State = 'start';
  /** The first key of the elements, in its quotes. */
  #firstKey: string | null = null;

  constructor(start: Place) {
    this.window = new ByteWindow(start);
  }

  step(take: TakeRow, isEnd: boolean): boolean {
    const { window } = this;
    if (this.#state === 'seeking') return this.#seek(isEnd);
    if (this.#state === 'ignoring') window.moveToEnd();
    window.moveTo(skipSpace(window.bytes, window.at));
    if (window.isSpent) {
      if (isEnd) this.#close(take);
      return false;
    }
    const byte = window.bytes[window.at];
    if (this.#state === 'done' || (this.#state === 'start' && byte !== OPEN_BRACKET)) {
      if (!isEnd && window.rest().length < PREVIEW_BYTES) return false;
      take(this.#readAstray());
    } else if (this.#state === 'start' || byte === COMMA) {
      this.#pass('element');
    } else if (byte === CLOSE_BRACKET) {
      this.#pass('done');
    } else {
      const row = this.#readElement(isEnd);
      if (row === null) return false;
      take(row);
    }
    return true;
  }

  /** What the end of the source says of the array. */
  #close(take: TakeRow): void {
    if (this.#state === 'element' || this.#state === 'after') {
      const message = 'the array is not closed by `]`; the file seems cut off, fetch it again';
      take(brokenRow(this.window.place, 'invalid_json', message, Buffer.alloc(0)));
    }
  }

  /** Over one byte, into the state behind it. */
  #pass(state: State): void {
    this.window.moveTo(this.window.at + 1);
    this.#state = state;
  }

  /** null when more bytes are needed. */
  #readElement(isEnd: boolean): ReadRow | null {
    const { bytes, at, place } = this.window;
    const { outcome, offset } = findElementEnd(bytes, at);
    if (offset - at > ROW_BYTES_MAX) return this.#giveUp(tooLarge(place, this.window.rest(at + ROW_BYTES_MAX)));
    if (outcome === 'end') return this.#readClosed(offset);
    if (outcome === 'more' && !isEnd) return null;
    return this.#giveUpBefore(offset);
  }

  #readClosed(end: number): ReadRow {
    const row = parseJsonRow(trimEnd(this.window.rest(end)), this.window.place);
    // A string that is not closed may seem to be closed by a later one.
    if (isBroken(row) && this.#findNext(end) !== null) return this.#giveUpBefore(end);
    this.#learnFirstKey();
    this.window.moveTo(end);
    this.#state = 'after';
    return row;
  }

  /** Gives up the element, which has no end before the offset; it reaches to the next one at most. */
  #giveUpBefore(offset: number): ReadRow {
    const bytes = this.window.rest(this.#findNext(offset) ?? offset);
    return this.#giveUp(describeOpen(trimEnd(bytes), this.window.place));
  }

  #giveUp(row: ReadRow): ReadRow {
    this.#learnFirstKey();
    this.#pass('seeking');
    return row;
  }

  /** What looks like the start of another element behind this one's, before the offset. */
  #findNext(offset: number): number | null {
    return findElementStart(this.window.bytes, this.window.at + 1, offset, this.#learnFirstKey());
  }

  #learnFirstKey(): string | null {
    this.#firstKey ??= firstKeyOf(this.window.rest(this.window.at + SEEK_TAIL_BYTES));
    return this.#firstKey;
  }

  #seek(isEnd: boolean): boolean {
    const { window } = this;
    const next = findElementStart(window.bytes, window.at, window.bytes.length, this.#firstKey);
    if (next === null) {
      window.moveTo(isEnd ? window.bytes.length : Math.max(window.at, window.bytes.length - SEEK_TAIL_BYTES));
      return false;
    }
    window.moveTo(next);
    this.#state = 'element';
    return true;
  }

  /** Text outside an array. */
  #readAstray(): ReadRow {
    const isBehind = this.#state === 'done';
    this.#state = isBehind ? 'seeking' : 'ignoring';
    const message = isBehind
      ? 'text follows the end of the array; take the `]` before it away, or the text'
      : 'the file must be a JSON array of rows; put the rows into [ ], or set `format` to jsonl';
    return brokenRow(this.window.place, 'invalid_json', message, this.window.rest(this.window.at + PREVIEW_BYTES));
  }
}

/** The reason for an element that has no end. */
function describeOpen(bytes: Buffer, place: Place): ReadRow {
  if (!isUtf8(bytes)) return invalidUtf8(bytes, place);
  const message = 'the element has a string, bracket or brace that is not closed; write it with a JSON library';
  return brokenRow(place, 'invalid_json', message, bytes);
}
