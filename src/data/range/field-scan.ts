// Proves that bytes are the fields of a JSON object, `"name":value,…`, without making values of them. It says nothing of what it cannot
// prove: deep nesting, and escapes that may stand for half a character or hide a name.

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const SPACE_END = 0x20;
const ASCII_END = 0x80;

/** Levels of nesting that are looked into. */
const DEPTH_MAX = 32;

/** What may stand behind a backslash; a character by its number may be half of one. */
const isEscaped = new Uint8Array(256);
for (const character of '"\\/bfnrt') isEscaped[character.charCodeAt(0)] = 1;

const isSpace = new Uint8Array(256);
for (const character of ' \t\r\n') isSpace[character.charCodeAt(0)] = 1;

const LITERALS = ['true', 'false', 'null'].map((word) => Buffer.from(word));
/** Bytes that numbers are made of. */
const isInNumber = new Uint8Array(256);
for (const character of '+-.0123456789Ee') isInNumber[character.charCodeAt(0)] = 1;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[Ee][+-]?\d+)?$/;

/** Of one stretch of bytes at a time. */
export class FieldScan {
  /** Of all that was scanned since it was set. */
  isAscii = true;
  #bytes: Buffer = Buffer.alloc(0);
  #to = 0;
  #at = 0;

  /** @returns whether all of [from, to) is fields, none of them with one of the names. */
  scan(bytes: Buffer, from: number, to: number, otherNames: readonly Buffer[]): boolean {
    this.#bytes = bytes;
    this.#to = to;
    this.#at = from;
    return this.#scanFields(0, otherNames) && this.#at === to;
  }

  /** From a name on, to what is behind the last value. */
  #scanFields(depth: number, otherNames: readonly Buffer[]): boolean {
    do {
      this.#skipSpace();
      const name = this.#at + 1;
      if (!this.#scanString(false) || otherNames.some((other) => this.#stands(other, name, this.#at - 1))) return false;
      this.#skipSpace();
      if (!this.#take(COLON) || !this.#scanValue(depth)) return false;
    } while (this.#take(COMMA));
    return true;
  }

  /** With the white space around it. */
  #scanValue(depth: number): boolean {
    this.#skipSpace();
    const isValue = this.#scanBare(depth);
    this.#skipSpace();
    return isValue;
  }

  #scanBare(depth: number): boolean {
    if (this.#at >= this.#to || depth > DEPTH_MAX) return false;
    switch (String.fromCharCode(this.#bytes[this.#at] as number)) {
      case '"':
        return this.#scanString(true);
      case '{':
        return this.#scanGroup('}', () => this.#scanFields(depth + 1, []));
      case '[':
        return this.#scanGroup(']', () => this.#scanElements(depth + 1));
      case 't':
      case 'f':
      case 'n':
        return LITERALS.some((word) => this.#stands(word, this.#at, this.#at + word.length) && this.#skip(word.length));
      default:
        return this.#scanNumber();
    }
  }

  #scanGroup(close: string, scanInside: () => boolean): boolean {
    this.#at++;
    this.#skipSpace();
    const end = close.charCodeAt(0);
    return this.#take(end) || (scanInside() && this.#take(end));
  }

  #scanElements(depth: number): boolean {
    do if (!this.#scanValue(depth)) return false;
    while (this.#take(COMMA));
    return true;
  }

  #scanNumber(): boolean {
    const from = this.#at;
    while (this.#at < this.#to && isInNumber[this.#bytes[this.#at] as number] === 1) this.#at++;
    return NUMBER.test(this.#bytes.toString('latin1', from, this.#at));
  }

  #scanString(mayEscape: boolean): boolean {
    const bytes = this.#bytes;
    if (!this.#take(QUOTE)) return false;
    for (let at = this.#at; at < this.#to; at++) {
      const byte = bytes[at] as number;
      if (byte === QUOTE) {
        this.#at = at + 1;
        return true;
      }
      if (byte < SPACE_END) return false;
      if (byte >= ASCII_END) this.isAscii = false;
      if (byte === BACKSLASH && (!mayEscape || isEscaped[bytes[++at] as number] === 0)) return false;
    }
    return false;
  }

  #stands(wanted: Buffer, from: number, to: number): boolean {
    if (to - from !== wanted.length || to > this.#to) return false;
    for (let i = 0; i < wanted.length; i++) if (this.#bytes[from + i] !== wanted[i]) return false;
    return true;
  }

  #take(byte: number): boolean {
    return this.#at < this.#to && this.#bytes[this.#at] === byte && this.#skip(1);
  }

  #skip(sizeBytes: number): true {
    this.#at += sizeBytes;
    return true;
  }

  #skipSpace(): void {
    while (this.#at < this.#to && isSpace[this.#bytes[this.#at] as number] === 1) this.#at++;
  }
}
