// Ranges of sources: cut anywhere, they leave what the whole source leaves; the fast way says what the slow way says.
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { writeChats, writeQuestions } from '../../bench/messy-data.ts';
import type { CleanedRange } from '../../src/contracts/cleaned-range.ts';
import type { SpecInput } from '../../src/contracts/spec.ts';
import { ByteMarks, HALTING_BYTES, TELLING_BYTES, WORD_BYTES } from '../../src/data/kernels/byte-marks.ts';
import { createRowMapper } from '../../src/data/mapping.ts';
import { createPrivacy } from '../../src/data/privacy/privacy.ts';
import { ChatScan } from '../../src/data/range/chat-scan.ts';
import { cleanRange } from '../../src/data/range/clean.ts';
import { planCsvCuts } from '../../src/data/range/csv-cuts.ts';
import { cleanRangeInThread } from '../../src/data/range/in-thread.ts';
import { INDEX_BYTES, readIndexEntry } from '../../src/data/range/index-file.ts';
import { RANGE_FILES, type RangeOptions } from '../../src/data/range/options.ts';
import { openRowWriter } from '../../src/data/range/row-writer.ts';
import { isRowsFile, rowsFileName } from '../../src/data/range/rows-files.ts';
import { ROW_BYTES_MAX } from '../../src/data/rows-read.ts';
import type { Chat } from '../../src/data/shapes.ts';
import { PART_BYTES_MAX } from '../../src/storage/object-store.ts';
import { chatLine, createRandom, dataSpec, type Folder, inPieces, temporaryFolder } from './given.ts';

type Random = () => number;
const pick = <T>(random: Random, all: readonly T[]) => all[Math.floor(random() * all.length)] as T;

interface Cleaned {
  result: CleanedRange;
  rows: Buffer;
  index: Buffer;
  quarantine: string;
}

let folders = 0;

function optionsFor(name: string, data: Partial<SpecInput['data']> = {}): RangeOptions {
  const place = { source: 0, name, startOffset: 0, endOffset: null, firstLine: 1, header: null };
  const rules = dataSpec(data);
  const { system, rules: byCode, dropColumns } = rules;
  const mapping = { method: 'sft', shape: 'auto', system, rules: byCode, dropColumns } as const;
  const format = name.endsWith('.csv') ? 'csv' : 'jsonl';
  return { ...place, format, mapping, rules: { ...rules, sharedWords: 13 }, pseudonymKey: null };
}

async function clean(
  folder: Folder,
  bytes: AsyncIterable<Uint8Array>,
  options: RangeOptions,
  run = cleanRange,
): Promise<Cleaned> {
  const output = join(folder.path, `range-${folders++}`);
  await mkdir(output);
  const result = await run(bytes, options, output);
  const read = (file: keyof typeof RANGE_FILES) => readFile(join(output, RANGE_FILES[file]));
  return {
    result,
    rows: await readFile(join(output, rowsFileName(0))),
    index: await read('index'),
    quarantine: String(await read('quarantine')),
  };
}

/** What several ranges left, as if they were one. */
function joined(ranges: Cleaned[]): Omit<Cleaned, 'result'> & { counts: object } {
  const sum = (pickCounts: (range: CleanedRange) => Record<string, number>) => {
    const total: Record<string, number> = {};
    for (const { result } of ranges)
      for (const [key, n] of Object.entries(pickCounts(result))) total[key] = (total[key] ?? 0) + n;
    return total;
  };
  return {
    rows: Buffer.concat(ranges.map(({ rows }) => rows)),
    index: Buffer.concat(ranges.map(({ index }) => index)),
    quarantine: ranges.map(({ quarantine }) => quarantine).join(''),
    counts: {
      ...sum(({ rowsIn, kept, slowRows, sizeBytes }) => ({ rowsIn, kept, slowRows, sizeBytes })),
      dropped: sum(({ dropped }) => dropped),
      pii: sum(({ pii }) => pii),
    },
  };
}

/** Rows of many kinds, good and bad, between line ends of both kinds and blank lines. */
function messyLines(random: Random, rows: number): Buffer {
  const makers: ((i: number) => string)[] = [
    (i) => chatLine(`question ${i}`, `answer ${i}`),
    (i) => chatLine(`Frage „${i}“ 你好`, `line\none "two" \\ three 😀`),
    (i) =>
      `{"id": ${i}, "messages": [{"role": "user", "content": "caf\\u00e9"}, {"role": "assistant", "content": "yes"}]}`,
    (i) => chatLine(`mail a${i}@mail-${i}.com`, 'thanks'),
    () => '{"messages":[{"role":"user","content":"no answer"}]}',
    () => '{"messages":[{"role":"user","content":"broken"',
    () => '"text"',
    () => '',
    (i) => chatLine(`copy ${i % 3}`, 'copy'),
  ];
  const lines = Array.from({ length: rows }, (_, i) => pick(random, makers)(i) + pick(random, ['\n', '\r\n', '\n\n']));
  return Buffer.from(lines.join('') + chatLine('the last', 'without a line end'));
}

function messyCsv(random: Random, rows: number): Buffer {
  const makers: ((i: number) => string)[] = [
    (i) => `t${i},question ${i},answer ${i}`,
    (i) => `t${i},"question, ""${i}""\nof two lines","answer\r\nof two"`,
    () => 't,5" pipe,x',
    (i) => `t${i},"not closed,x`,
    (i) => `t${i},"closed"too early,x`,
    () => 't,too few',
    () => 't,too,many,of them',
    () => '   ',
    (i) => `t${i},mail a${i}@mail-${i}.com,ok`,
  ];
  const lines = Array.from({ length: rows }, (_, i) => pick(random, makers)(i) + pick(random, ['\n', '\r\n']));
  return Buffer.from(`\ufeffticket,question,answer\r\n${lines.join('')}t,last,"row`);
}

function cutsOf(random: Random, bytes: Buffer): number[] {
  const offsets = Array.from({ length: 1 + Math.floor(random() * 12) }, () => Math.floor(random() * bytes.length));
  return [...new Set(offsets)].filter((offset) => offset > 0).toSorted((a, b) => a - b);
}

const newlinesBefore = (bytes: Buffer, offset: number) =>
  bytes.subarray(0, offset).filter((byte) => byte === 10).length;

describe('many ranges leave what one leaves', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])('JSONL cut anywhere, seed %i', async (seed) => {
    await using folder = await temporaryFolder();
    const random = createRandom(seed);
    const bytes = messyLines(random, 120);
    const options = optionsFor('rows.jsonl', { privacy: { action: 'mask' } });
    const whole = await clean(folder, inPieces(bytes, 500), options);
    const starts = [0, ...cutsOf(random, bytes)];
    const ranges: Cleaned[] = [];
    for (const [i, startOffset] of starts.entries()) {
      const firstLine = 1 + newlinesBefore(bytes, startOffset);
      const range = { ...options, startOffset, endOffset: starts[i + 1] ?? null, firstLine };
      ranges.push(await clean(folder, inPieces(bytes.subarray(startOffset), 1 + Math.floor(random() * 300)), range));
    }
    expect(joined(ranges)).toEqual(joined([whole]));
    expect(whole.result.kept).toBeGreaterThan(40);
    expect(Object.keys(whole.result.dropped).length).toBeGreaterThan(2);
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('CSV cut between records, seed %i', async (seed) => {
    await using folder = await temporaryFolder();
    const random = createRandom(seed);
    const bytes = messyCsv(random, 120);
    const options = optionsFor('rows.csv', { privacy: { action: 'mask' } });
    const whole = await clean(folder, inPieces(bytes, 500), options);
    const { header, cuts } = await planCsvCuts(inPieces(bytes, 211), cutsOf(random, bytes), 'rows.csv');
    const starts = [{ offset: 0, line: 1 }, ...cuts];
    const ranges: Cleaned[] = [];
    for (const [i, { offset, line }] of starts.entries()) {
      const range = { ...options, startOffset: offset, endOffset: starts[i + 1]?.offset ?? null, firstLine: line };
      const rest = inPieces(bytes.subarray(offset), 1 + Math.floor(random() * 300));
      ranges.push(await clean(folder, rest, { ...range, header: i === 0 ? null : header }));
    }
    expect(cuts.length).toBeGreaterThan(0);
    expect(joined(ranges)).toEqual(joined([whole]));
    expect(Object.keys(whole.result.dropped).length).toBeGreaterThan(3);
  });

  test('a range reads no further than its last record needs', async () => {
    await using folder = await temporaryFolder();
    const line = Buffer.from(`${chatLine('question', 'answer')}\n`);
    let given = 0;
    async function* endless() {
      for (;;) {
        given += line.length;
        yield line;
      }
    }
    const { result } = await clean(folder, endless(), { ...optionsFor('rows.jsonl'), endOffset: 10 * line.length - 5 });
    expect(result.rowsIn).toBe(10);
    expect(given).toBeLessThanOrEqual(12 * line.length);
  });
});

describe('the rules of a range', () => {
  test.each([
    ['chats.jsonl', writeChats],
    ['questions.csv', writeQuestions],
  ] as const)('what the bench writes as %s is cleaned into exactly the truth about it', async (file, write) => {
    await using folder = await temporaryFolder();
    const truth = write(join(folder.path, file), 2_000_000, 3);
    const options = optionsFor(file, { privacy: { action: 'mask' } });
    const { result, index } = await clean(folder, createReadStream(join(folder.path, file)), options);
    const { rowsIn, dropped, pii, kept } = result;
    const ids = new Set(Array.from({ length: kept }, (_, row) => readIndexEntry(index, row).id));
    expect({ rowsIn, dropped, pii, duplicates: kept - ids.size }).toEqual(truth);
    expect(result.slowRows / rowsIn).toBeLessThan(0.02);
  });

  test('nothing of a column that is dropped is left, even of rows that are', async () => {
    await using folder = await temporaryFolder();
    const rows = [
      `{"secret":"s3same","messages":[]}`,
      `{"secret":"s3same","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`,
      `{"secret":"s3same","messages":`,
    ];
    const options = optionsFor('rows.jsonl', { dropColumns: ['secret'] });
    const cleaned = await clean(folder, inPieces(rows.join('\n')), options);
    expect(cleaned.result).toMatchObject({ rowsIn: 3, kept: 1 });
    expect(cleaned.rows.toString('utf8') + cleaned.quarantine).not.toContain('s3same');
    expect(cleaned.quarantine).toContain('messages');
  });

  test('Presidio is asked, rows stay in order, and what it finds is counted', async () => {
    await using folder = await temporaryFolder();
    const server = createServer(async (request, response) => {
      const { text } = (await json(request)) as { text: string | string[] };
      const findings = [text].flat().map((one) => {
        const start = one.indexOf('Ann');
        return start === -1 ? [] : [{ entity_type: 'PERSON', start, end: start + 3, score: 1 }];
      });
      response.end(JSON.stringify(Array.isArray(text) ? findings : findings[0]));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const presidio = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const lines = [
        chatLine('I am Ann', 'hello'),
        '{"broken":',
        chatLine('nobody', 'hello'),
        chatLine('Ann again', 'yes'),
      ];
      const options = optionsFor('rows.jsonl', { privacy: { action: 'mask', presidio } });
      const { result, rows } = await clean(folder, inPieces(lines.join('\n')), options);
      expect(result).toMatchObject({ rowsIn: 4, kept: 3, pii: { person: 2 }, dropped: { invalid_json: 1 } });
      const questions = rows.toString('utf8').match(/"user","content":"[^"]*/g);
      expect(questions?.map((text) => text.slice(18))).toEqual(['I am <PERSON>', 'nobody', '<PERSON> again']);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});

describe('the index', () => {
  test('has each row’s id, group and length', async () => {
    await using folder = await temporaryFolder();
    const bytes = `${chatLine('one', 'é')}\n${chatLine('two', 'b')}\n`;
    const { rows, index } = await clean(folder, inPieces(bytes), optionsFor('rows.jsonl'));
    const lines = rows.toString('utf8').trimEnd().split('\n');
    expect(index.length).toBe(2 * INDEX_BYTES);
    for (const [i, line] of lines.entries()) {
      const { id, group } = JSON.parse(line) as { id: string; group: string };
      expect(readIndexEntry(index, i)).toEqual({ id, group, lineBytes: Buffer.byteLength(line) + 1, flags: 0 });
    }
  });
});

/** Pieces that change a row's meaning, or only its text. */
const PIECES = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  ' ',
  '\\u00e9',
  '\\ud83d\\ude00',
  '\\ud800',
  '\\n',
  '\\x',
  '\t',
  '\u0001',
  'é',
  '你',
  '\u00a0',
  'null',
  'true',
  '-0',
  '1e5',
  '"role"',
  '"content"',
  '"messages"',
  'user"',
  'assistant',
  'system',
  '\r',
  '\ufeff',
  '\\/',
  '\\u0000',
  '"weight":0,',
  '"name":"x",',
  '"tools":[],',
  '"system":"s",',
  '"system_prompt":"s",',
  '"label":true,',
  '"id":"x",',
  '{"role":"user","content":"x"},',
  '"messages":[],',
  '"},{"role":"',
  '"}]',
  '\u2028',
  '\\"',
  ...['\\u00e9', '\\u4f60', '\\ud83d\\ude00', '\\ud83d', '\\ude00', '\\u0041', '\\u00g', '\\u0000'],
  ...[
    '-',
    '0',
    '1.',
    'e5',
    'E+1',
    '01',
    'true',
    'nul',
    'null',
    '[[',
    ']',
    '{}',
    ',',
    '\t',
    '\\/',
    '\\x',
    '"__proto__":1,',
  ],
  ...['\\n', ' \\t ', '\\b', 'AB É', '\u00a0'],
  ...[', ', ': ', ' ,', '  ', '"x": 1, ', '"\\u006dessages": 1, '],
];
/** Pieces of what is private, and what stands around it. */
const PRIVATE = [
  '+1 212 555 0123',
  '4111-1111 1111 1111',
  'a@b.com',
  'AKIA',
  '10.20.30.40',
  '2001:db8::1',
  'sk-abcdefghijklmnop1',
  'AB123456C',
  '\uff11\uff12',
  '１２\u00a03456789',
  '12\u2013345\u20136789',
  ...['call ', ' ', ', ', '-', '.', ':', '/', '=', '"', '\n', 'a', 'Z', 'é', '你', '（', '\u00a0', '\u2013', '+', '＋'],
  ...['1', '22', '333', '4444', '55555', '１', '٣', '@', '＠', 'b.com', 'mail', 'ssn ', 'key = ', 'IA', 'f00d', '::'],
];
const SEEDS = [
  {
    messages: [
      { role: 'user', content: 'hi there' },
      { role: 'assistant', content: 'yes "ok"\n' },
    ],
    conversation_id: 'c1',
  },
  {
    conversation_id: 'é1',
    messages: [
      { role: 'system', content: 's' },
      { role: 'user', content: 'a\tb' },
      { role: 'assistant', content: '日本' },
      { role: 'user', content: '12-34' },
      { role: 'assistant', content: 'z\\"},{"role":"user' },
    ],
    meta: { a: [1, 2, { b: null }], c: -1.5e3, d: [true, false, {}, []], e: 'ü', f: [0, -0.25, 1e21] },
  },
  {
    messages: [
      { content: 'x', role: 'user' },
      { role: 'assistant', content: '\u{1F600}' },
    ],
    x: [],
    y: {},
  },
  {
    meta: [{ a: 1 }],
    messages: [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'y' },
    ],
  },
].map((row) => JSON.stringify(row));

function mutate(random: Random, text: string): string {
  let mutated = text;
  for (let times = Math.floor(random() * 4); times > 0; times--) {
    const at = Math.floor(random() * (mutated.length + 1));
    const piece = random() < 0.35 ? '' : pick(random, PIECES);
    mutated = mutated.slice(0, at) + piece + mutated.slice(at + Math.floor(random() * 3));
  }
  return mutated.replaceAll('\n', ' ');
}

describe('the fast way', () => {
  test('takes a mutated chat only where the slow way gives the same text, and measures it', () => {
    const random = createRandom(1);
    const chat = new ChatScan();
    const marks = new ByteMarks(TELLING_BYTES);
    let taken = 0;
    for (let i = 0; i < 30_000; i++) {
      const text = mutate(random, pick(random, SEEDS));
      const bytes = Buffer.from(text);
      marks.markOnce(bytes);
      if (!chat.scan(bytes, 0, bytes.length, marks.words)) continue;
      taken++;
      const value: unknown = JSON.parse(text);
      const content = createRowMapper({ method: 'sft', shape: 'auto', system: null })(value).content as Chat;
      const { messages } = content;
      const answer = messages.at(-1)?.content as string;
      const question = messages.find(({ role }) => role === 'user')?.content;
      const found = {
        ...{ json: chat.json, question: chat.question, messages: chat.messages, characters: chat.characters },
        ...{ answerChars: chat.answerChars, answerIsQuestion: chat.answerIsQuestion, hasSystem: chat.hasSystem },
      };
      const wanted = {
        ...{ json: JSON.stringify(content), question, messages: messages.length },
        characters: messages.reduce((sum, message) => sum + message.content.length, 0),
        ...{ answerChars: answer.length, answerIsQuestion: answer === question },
        hasSystem: messages[0]?.role === 'system',
      };
      if (!isDeepStrictEqual(found, wanted)) expect({ text, ...found }).toEqual({ text, ...wanted });
    }
    expect(taken).toBeGreaterThan(4_000);
  });

  test('misses nothing private in what it says is free of it', () => {
    const random = createRandom(4);
    const chat = new ChatScan();
    const marks = new ByteMarks(TELLING_BYTES);
    const privacy = createPrivacy(dataSpec({ privacy: { action: 'mask', privateAddresses: true } }).privacy, null);
    const textOf = () => Array.from({ length: 1 + Math.floor(random() * 5) }, () => pick(random, PRIVATE)).join('');
    const counts = { private: 0, free: 0 };
    for (let i = 0; i < 6_000; i++) {
      const bytes = Buffer.from(chatLine(textOf(), textOf()));
      marks.markOnce(bytes);
      if (!chat.scan(bytes, 0, bytes.length, marks.words)) continue;
      const { found } = privacy.inspect(JSON.parse(chat.json) as Chat);
      const isPrivate = Object.keys(found).length > 0;
      counts[isPrivate ? 'private' : 'free']++;
      if (isPrivate && !chat.mayBePrivate) expect(chat.json).toBe('found to be private');
    }
    expect(counts.private).toBeGreaterThan(500);
    expect(counts.free).toBeGreaterThan(500);
  });

  const isLetter = (byte: number) => byte < 0x80 && /[a-z0-9]/i.test(String.fromCharCode(byte));
  const MARKED = [
    [
      'that a scan looks at',
      TELLING_BYTES,
      (byte: number) => byte < 0x20 || byte >= 0x80 || isOneOf(byte, '"\\:@A_0123456789'),
    ],
    ['of words', WORD_BYTES, isLetter],
    ['that end the plain part of a text', HALTING_BYTES, (byte: number) => byte >= 0x80 || isOneOf(byte, '"\\')],
  ] as const;
  const isOneOf = (byte: number, characters: string) => characters.includes(String.fromCharCode(byte));
  test.each(MARKED)('marks the bytes %s, and no others', (_, marked, isMarked) => {
    const marks = new ByteMarks(marked);
    const random = createRandom(3);
    for (const sizeBytes of [1, 15, 16, 17, 31, 32, 33, 4_000]) {
      const bytes = Buffer.from(Array.from({ length: sizeBytes }, () => Math.floor(random() * 256)));
      marks.markOnce(bytes);
      const found = [...bytes].map((_, at) => (((marks.words[at >>> 5] as number) >>> (at & 31)) & 1) === 1);
      expect(found).toEqual([...bytes].map(isMarked));
    }
  });

  const SORTS: [sort: string, file: string, header: string, seeds: string[], slowMore: number][] = [
    ['JSON Lines', 'rows.jsonl', '', SEEDS, 300],
    ['JSON Lines as Python writes them', 'rows.jsonl', '', SEEDS.map(asPythonWrites), 300],
    ['CSV', 'rows.csv', 'id,question,answer\n', CSV_SEEDS, 300],
  ];
  test.each(SORTS)('leaves the files that the slow way leaves, over mutated rows of %s', async (...given) => {
    const [, file, header, seeds, slowMore] = given;
    await using folder = await temporaryFolder();
    const random = createRandom(2);
    const lines = Array.from({ length: 2_000 }, () => mutate(random, pick(random, seeds)));
    const bytes = Buffer.from(header + lines.join('\n'));
    const options = optionsFor(file, { privacy: { action: 'mask' } });
    const fast = await clean(folder, inPieces(bytes), options);
    // A column to drop, which no row has, sends every row the slow way.
    const slow = await clean(folder, inPieces(bytes), {
      ...options,
      mapping: { ...options.mapping, dropColumns: ['none'] },
    });
    const { slowRows, ...counts } = fast.result;
    expect(slow.result).toEqual({ ...counts, slowRows: expect.any(Number) });
    expect(slow.result.slowRows).toBeGreaterThan(slowRows + slowMore);
    expect(fast.rows.equals(slow.rows)).toBe(true);
    expect(fast.index.equals(slow.index)).toBe(true);
    expect(withoutPreviews(fast.quarantine)).toEqual(withoutPreviews(slow.quarantine));
  });

  test('a table of questions is no table of messages', async () => {
    await using folder = await temporaryFolder();
    const options = optionsFor('rows.csv');
    const mapping = { ...options.mapping, shape: 'messages' } as const;
    const { result } = await clean(folder, inPieces('question,answer\na,b\n'), { ...options, mapping });
    expect(result).toMatchObject({ kept: 0, dropped: { missing_field: 1 } });
  });
});

/** As `json.dumps` does; a text that looks like JSON is changed, too. */
function asPythonWrites(json: string): string {
  return json
    .replaceAll(/("|\d|\]|\}|null),(?=["{[\d])/g, '$1, ')
    .replaceAll(/":(?=["{[\d-])/g, '": ')
    .replaceAll(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

const CSV_SEEDS = ['1,what,that', '2,"a, ""b""",c é', '3,x@mail-one.com,"y"', '4, ,z'];

function withoutPreviews(quarantine: string): object[] {
  const rows = quarantine.split('\n').filter((line) => line !== '');
  return rows.map((line) => ({ ...(JSON.parse(line) as object), preview: '' }));
}

describe('odd bytes', () => {
  const latin = (text: string) => Buffer.from(text, 'latin1');
  const good = chatLine('question', 'answer');
  const CASES: [name: string, file: string, bytes: string | Buffer, kept: number, dropped: Record<string, number>][] = [
    ['broken JSON', 'a.jsonl', `${good.slice(0, -3)}\n${good}\n`, 1, { invalid_json: 1 }],
    [
      'half a surrogate pair',
      'a.jsonl',
      `${chatLine('x', 'y').replace('x', '\\ud800')}\n${good}`,
      1,
      { invalid_utf8: 1 },
    ],
    ['NUL bytes', 'a.jsonl', `${chatLine('x\u0000', 'y')}\n${good.replace('q', '\u0000')}\n`, 1, { invalid_json: 1 }],
    ['a byte order mark and Windows line ends', 'a.jsonl', `\ufeff${good}\r\n${good}\r\n`, 2, {}],
    ['U+2028 in a text', 'a.jsonl', `${chatLine('x\u2028y', 'z')}\n`, 1, {}],
    ['blank lines', 'a.jsonl', `\n\n${good}\n \t\r\n${good}\n\n`, 2, {}],
    ['no line end at the end', 'a.jsonl', `${good}\n${good}`, 2, {}],
    [
      'bytes that are not UTF-8',
      'a.jsonl',
      Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from(`"}\n${good}`)]),
      1,
      { invalid_utf8: 1 },
    ],
    ['bytes of Windows-1252, as they are', 'a.csv', latin('question,answer\nä,b\nc,d\n'), 1, { invalid_utf8: 1 }],
    ['a quote that is not closed', 'a.csv', 'question,answer\na,"b\nc,d\n', 1, { csv_unterminated_quote: 1 }],
    ['an empty file', 'a.csv', '', 0, {}],
    ['nothing but a header', 'a.csv', 'question,answer', 0, {}],
  ];

  test.each(CASES)('%s', async (_, file, bytes, kept, dropped) => {
    await using folder = await temporaryFolder();
    const { result, rows, quarantine } = await clean(folder, inPieces(bytes, 7), optionsFor(file));
    expect(result).toMatchObject({ kept, dropped });
    const droppedRows = Object.values(dropped).reduce((a, b) => a + b, 0);
    expect(result.rowsIn).toBe(kept + droppedRows);
    expect(rows.toString('utf8').split('\n').length - 1).toBe(kept);
    expect(quarantine.split('\n').length - 1).toBe(droppedRows);
  });

  test.each(['jsonl', 'csv'])('a line of 100 MB in %s costs itself, and no memory', async (format) => {
    await using folder = await temporaryFolder();
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    let most = 0;
    async function* bytes() {
      yield Buffer.from(format === 'csv' ? 'question,answer\nq,a\nq,' : `${good}\n`);
      for (let i = 0; i < 100; i++) {
        yield chunk;
        most = Math.max(most, process.memoryUsage().arrayBuffers);
      }
      yield Buffer.from(format === 'csv' ? '\nlast,row\n' : `\n${chatLine('last', 'row')}\n`);
    }
    const before = process.memoryUsage().arrayBuffers;
    const { result, quarantine } = await clean(folder, bytes(), optionsFor(`rows.${format}`));
    expect(result).toMatchObject({ rowsIn: 3, kept: 2, dropped: { too_large: 1 } });
    expect(JSON.parse(quarantine)).toMatchObject({ line: format === 'csv' ? 3 : 2, code: 'too_large' });
    // The row as far as it is held, the memory in which it grew to that, and what is not collected yet.
    expect(most - before).toBeLessThan(6 * ROW_BYTES_MAX);
  });
});

test('rows go on in another file before one is larger than a part of the store', async () => {
  await using folder = await temporaryFolder();
  const writer = openRowWriter((number) => join(folder.path, rowsFileName(number)), join(folder.path, 'index'));
  const source = Buffer.alloc(9 * 2 ** 20, 'a');
  for (let line = 1; line <= 5; line++)
    writer.add({ source, from: 0, to: source.length }, { group: '0'.repeat(16), source: 0, line, flags: 0 });
  writer.close();
  const files = (await readdir(folder.path)).filter(isRowsFile).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(folder.path, file), 'latin1')));
  expect(texts.every((text) => text.length <= PART_BYTES_MAX)).toBe(true);
  const lines = texts.map((text) =>
    text
      .trimEnd()
      .split('\n')
      .map((row) => row.slice(-20)),
  );
  expect(lines).toEqual([
    ['"source":0,"line":1}}', '"source":0,"line":2}}', '"source":0,"line":3}}'].map((end) => end.slice(-20)),
    ['"source":0,"line":4}}', '"source":0,"line":5}}'].map((end) => end.slice(-20)),
  ]);
});

/** Hands each piece on in the memory that is given, as parts of a store are. */
async function* readInto(source: AsyncIterable<Uint8Array>, takeMemory: () => Uint8Array): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    const memory = takeMemory();
    memory.set(piece);
    yield memory.subarray(0, piece.length);
  }
}

const inThread: typeof cleanRange = (source, ...more) => cleanRangeInThread(() => source, ...more);

describe('in a thread', () => {
  test('leaves what the same thread would leave, range after range, and tells its progress', async () => {
    await using folder = await temporaryFolder();
    const options = optionsFor('rows.jsonl', { privacy: { action: 'mask' } });
    for (const seed of [5, 6]) {
      const bytes = messyLines(createRandom(seed), 400);
      const here = await clean(folder, inPieces(bytes, 9_000), options);
      const told: number[] = [];
      const onProgress = ({ rowsIn }: { rowsIn: number }) => void told.push(rowsIn);
      const there = await clean(folder, inPieces(bytes, 9_000), options, (source, range, output) =>
        cleanRangeInThread((takeMemory) => readInto(source, takeMemory), range, output, { onProgress }),
      );
      expect(there).toEqual(here);
      expect(told.at(-1)).toBeGreaterThan(100);
    }
  });

  test('a failure keeps its kind', async () => {
    await using folder = await temporaryFolder();
    const run = clean(folder, inPieces('a,a\n1,2\n'), optionsFor('rows.csv'), inThread);
    await expect(run).rejects.toMatchObject({ kind: 'data_rejected', message: expect.stringContaining('twice') });
  });

  test('a source that fails ends it', async () => {
    await using folder = await temporaryFolder();
    async function* bytes(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('{}\n');
      throw new Error('the store is gone');
    }
    await expect(clean(folder, bytes(), optionsFor('rows.jsonl'), inThread)).rejects.toThrow('the store is gone');
  });

  test('a signal ends it', async () => {
    await using folder = await temporaryFolder();
    const stop = new AbortController();
    let isClosed = false;
    async function* endless() {
      try {
        for (;;) {
          yield Buffer.from(`${chatLine('question', 'answer')}\n`);
          stop.abort(new Error('enough'));
        }
      } finally {
        isClosed = true;
      }
    }
    const run = clean(folder, endless(), optionsFor('rows.jsonl'), (source, range, output) =>
      inThread(source, range, output, { signal: stop.signal }),
    );
    await expect(run).rejects.toThrow('enough');
    expect(isClosed).toBe(true);
  });
});
