// Seeded random files with known contents: for every format, the rows that come out are exactly those that went in.
import { describe, expect, test } from 'vitest';
import { readRecords } from '../../src/data/readers.ts';
import { detectFormat } from '../../src/data/sources.ts';
import { clean, collect, createRandom, inPieces, temporaryFolder } from './given.ts';

interface Truth {
  kept: number;
  duplicates: number;
  dropped: Record<string, number>;
}

type Random = () => number;
/** Text of a broken row, given a question and an answer that are new. */
type Breaker = readonly [code: string, write: (question: string, answer: string, random: Random) => string | Buffer];

const PIECES = [
  'a',
  'é',
  '你好',
  '😀',
  '"',
  "'",
  '\\',
  '\n',
  '\r\n',
  ',',
  ';',
  '\t',
  '{',
  '}',
  '[',
  ']',
  ' ',
  '":"',
  '],[',
  '\u2028',
  '\ufffd',
  'word',
  '0',
];

function text(random: Random): string {
  const pieces = Array.from(
    { length: 1 + Math.floor(random() * 12) },
    () => PIECES[Math.floor(random() * PIECES.length)],
  );
  return pieces.join('');
}

const withBadByte = (line: string) =>
  Buffer.concat([Buffer.from(line.slice(0, 9)), Buffer.from([0xff]), Buffer.from(line.slice(9))]);
const json = JSON.stringify;

const JSON_BREAKERS: Breaker[] = [
  ['missing_field', (q) => json({ question: q })],
  ['wrong_type', (q) => json({ question: q, answer: 4 })],
  ['empty_content', (q) => json({ question: q, answer: ' ' })],
  ['not_object', (q, a) => json([q, a])],
  ['unknown_shape', (q, a) => json({ frage: q, antwort: a })],
  ['invalid_json', (q, a) => json({ question: q, answer: a }).replace('"question"', 'question')],
  ['invalid_utf8', (q, a) => withBadByte(json({ question: q, answer: a }))],
];
/** An array's reader finds its way again at the next element with the first key, so a good row follows each of these. */
const UNCLOSED: Breaker[] = [
  ['invalid_json', (q, a) => json({ question: q, answer: a }).slice(0, -1)],
  ['invalid_json', (q, a) => json({ question: q, answer: a }).slice(0, -2)],
  ['invalid_json', (q, a, random) => json({ question: q, answer: a }).slice(0, 14 + Math.floor(random() * 4))],
];

const csvField = (value: string) => `"${value.replaceAll('"', '""')}"`;
const csvRow = (q: string, a: string) => `${csvField(q)},${csvField(a)}`;
const CSV_BREAKERS: Breaker[] = [
  ['csv_too_many_columns', (q, a) => `${csvRow(q, a)},x`],
  ['csv_missing_columns', (q) => csvField(q)],
  ['empty_content', (q) => `${csvField(q)},`],
  ['csv_stray_quote', () => '5" pipe,x'],
  ['csv_stray_quote', () => '"x"y,z'],
  ['csv_unterminated_quote', () => 'x,"y'],
  ['invalid_utf8', (_, a) => Buffer.concat([Buffer.from([0x78, 0xff, 0x2c]), Buffer.from(csvField(a))])],
];

/** Rows, copies and broken rows in a random order. */
function makeRows(
  random: Random,
  rows: number,
  write: (q: string, a: string) => string,
  breakers: Breaker[],
): { pieces: (string | Buffer)[]; truth: Truth } {
  const truth: Truth = { kept: 0, duplicates: 0, dropped: {} };
  const written: string[] = [];
  let isUnclosed = false;
  const pieces = Array.from({ length: rows + 1 }, (_, i) => {
    // The last row is good as well.
    const roll = isUnclosed || i === rows ? 1 : random();
    isUnclosed = false;
    const [question, answer] = [`q${i} ${text(random)}`, `a${i} ${text(random)}`];
    if (roll < 0.1 && written.length > 0) {
      truth.duplicates++;
      return written[Math.floor(random() * written.length)] as string;
    }
    if (roll < 0.3) {
      const breaker = breakers[Math.floor(random() * breakers.length)] as Breaker;
      const [code, breakRow] = breaker;
      isUnclosed = UNCLOSED.includes(breaker);
      truth.dropped[code] = (truth.dropped[code] ?? 0) + 1;
      return breakRow(question, answer, random);
    }
    truth.kept++;
    written.push(write(question, answer));
    return written.at(-1) as string;
  });
  return { pieces, truth };
}

function join(pieces: (string | Buffer)[], between: string): Buffer {
  return Buffer.concat(
    pieces.flatMap((piece, i) => (i === 0 ? [Buffer.from(piece)] : [Buffer.from(between), Buffer.from(piece)])),
  );
}

const asJson = (q: string, a: string) => json({ question: q, answer: a });

const FORMATS: [name: string, file: string, make: (random: Random) => { bytes: Buffer; truth: Truth }][] = [
  [
    'JSONL',
    'rows.jsonl',
    (random) => {
      const { pieces, truth } = makeRows(random, 300, asJson, [...JSON_BREAKERS, ...UNCLOSED]);
      return { bytes: join(pieces, random() < 0.5 ? '\n' : '\r\n\n'), truth };
    },
  ],
  [
    'a JSON array, a line each',
    'rows.json',
    (random) => {
      const { pieces, truth } = makeRows(random, 300, asJson, [...JSON_BREAKERS, ...UNCLOSED]);
      // The first element is good: its first key is how others are found.
      const bytes = Buffer.concat([
        Buffer.from(`[\n${asJson('first', 'first')},\n`),
        join(pieces, ',\n'),
        Buffer.from('\n]\n'),
      ]);
      return { bytes, truth: { ...truth, kept: truth.kept + 1 } };
    },
  ],
  [
    'a JSON array on one line',
    'rows.json',
    (random) => {
      const { pieces, truth } = makeRows(random, 300, asJson, JSON_BREAKERS);
      return { bytes: Buffer.concat([Buffer.from('['), join(pieces, ','), Buffer.from(']')]), truth };
    },
  ],
  [
    'a JSON array, indented',
    'rows.json',
    (random) => {
      const pretty = (q: string, a: string) => JSON.stringify({ question: q, answer: a }, null, 2);
      const { pieces, truth } = makeRows(random, 300, pretty, [...JSON_BREAKERS, ...UNCLOSED]);
      const bytes = Buffer.concat([
        Buffer.from(`[${pretty('first', 'first')},`),
        join(pieces, ',\n  '),
        Buffer.from(']'),
      ]);
      return { bytes, truth: { ...truth, kept: truth.kept + 1 } };
    },
  ],
  [
    'CSV',
    'rows.csv',
    (random) => {
      const { pieces, truth } = makeRows(random, 300, csvRow, CSV_BREAKERS);
      return { bytes: join(['question,answer', ...pieces, ''], random() < 0.5 ? '\n' : '\r\n'), truth };
    },
  ],
];

describe.each(FORMATS)('%s', (_, file, make) => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'seed %i: kept, duplicates and every code are as they were made',
    async (seed) => {
      await using folder = await temporaryFolder();
      const { bytes, truth } = make(createRandom(seed));
      const { accounts, kept, quarantine } = await clean(folder, { [file]: bytes });
      const { kept: keptCount, duplicates, dropped, rowsIn } = accounts;
      expect({ kept: keptCount, duplicates, dropped }).toEqual(truth);
      const droppedCount = Object.values(truth.dropped).reduce((a, b) => a + b, 0);
      expect(rowsIn).toBe(truth.kept + truth.duplicates + droppedCount);
      expect(kept).toHaveLength(truth.kept);
      expect(quarantine).toHaveLength(droppedCount);
      expect(new Set(kept.map((row) => row.id)).size).toBe(truth.kept);
    },
  );

  test('the pieces in which the bytes come change nothing', async () => {
    const { bytes } = make(createRandom(9));
    const format = detectFormat(file, bytes);
    const read = async (size?: number) => {
      const rows = await collect(readRecords(inPieces(bytes, size), format, { name: file }));
      return rows.map((row) => ('value' in row ? { ...row, value: row.value, text: row.text } : row));
    };
    const whole = await read();
    for (const size of [13, 997]) expect(await read(size)).toEqual(whole);
  });
});
