// The readers on every oddity that files have: which rows come out, on which physical line, and with which code.
import { describe, expect, test } from 'vitest';
import type { AnnealError } from '../../src/contracts/failure.ts';
import { type Format, readRecords } from '../../src/data/readers.ts';
import { isBroken, type ReadRow, ROW_BYTES_MAX } from '../../src/data/rows-read.ts';
import { collect, inPieces } from './given.ts';

async function read(format: Format, bytes: Uint8Array | string, size?: number): Promise<ReadRow[]> {
  const rows = await collect(readRecords(inPieces(bytes, size), format, { name: `rows.${format}` }));
  // Rows may make their values when they are asked for them.
  return rows.map((row) => (isBroken(row) ? row : { ...row, value: row.value, text: row.text }));
}

/** `line:value` of good rows, `line!code` of broken ones. */
const brief = (rows: ReadRow[]) =>
  rows.map((row) => (isBroken(row) ? `${row.line}!${row.code}` : `${row.line}:${JSON.stringify(row.value)}`));

const bytes = (...parts: (string | number[])[]) => Buffer.concat(parts.map((part) => Buffer.from(part as string)));

interface Case {
  name: string;
  input: string | Uint8Array;
  rows: string[];
}

const JSONL: Case[] = [
  {
    name: 'a byte order mark and Windows line ends',
    input: '\ufeff{"a":1}\r\n{"a":2}\r\n',
    rows: ['1:{"a":1}', '2:{"a":2}'],
  },
  {
    name: 'blank lines, which are no rows',
    input: '\n{"a":1}\n\n  \t\r\n{"a":2}\n\n',
    rows: ['2:{"a":1}', '5:{"a":2}'],
  },
  { name: 'a last line without its end', input: '{"a":1}\n{"a":2}', rows: ['1:{"a":1}', '2:{"a":2}'] },
  {
    name: 'bytes that are not UTF-8',
    input: bytes('{"a":"é"}\n{"a":"', [0xff, 0xfe], '"}\n{"a":3}'),
    rows: ['1:{"a":"é"}', '2!invalid_utf8', '3:{"a":3}'],
  },
  { name: 'a replacement character that stands there rightly', input: '{"a":"\ufffd"}', rows: ['1:{"a":"\ufffd"}'] },
  {
    name: 'JSON that ends too soon or goes on too long',
    input: '{"a":\n{"a":1}}\n{"a":2}',
    rows: ['1!invalid_json', '2!invalid_json', '3:{"a":2}'],
  },
  {
    name: 'values that are no objects, which the shapes judge',
    input: '[1]\n42\nnull',
    rows: ['1:[1]', '2:42', '3:null'],
  },
  { name: 'U+2028, which ends no line', input: '{"a":"x\u2028y"}\n{"a":1}', rows: ['1:{"a":"x\u2028y"}', '2:{"a":1}'] },
  { name: 'nothing', input: '', rows: [] },
];

const JSON_ARRAY: Case[] = [
  { name: 'elements on one line', input: '[{"a":1},{"a":2}]', rows: ['1:{"a":1}', '1:{"a":2}'] },
  {
    name: 'pretty elements, with the line on which each starts',
    input: '\ufeff\n[\n  {\n    "a": [1, {"a": 2}]\n  },\r\n\r\n  {"a": "]},{"}\n]\n',
    rows: ['3:{"a":[1,{"a":2}]}', '7:{"a":"]},{"}'],
  },
  {
    name: 'escaped quotes and backslashes',
    input: '[{"a":"\\"}"},{"a":"\\\\"}]',
    rows: ['1:{"a":"\\"}"}', '1:{"a":"\\\\"}'],
  },
  { name: 'an empty array', input: ' [ ] ', rows: [] },
  { name: 'a comma after the last element', input: '[{"a":1},\n]', rows: ['1:{"a":1}'] },
  { name: 'a missing comma', input: '[{"a":1}\n{"a":2}]', rows: ['1!invalid_json', '2:{"a":2}'] },
  {
    name: 'an element that is closed but no JSON',
    input: '[\n{"a":1},\n{a:2},\n{"a":3}]',
    rows: ['2:{"a":1}', '3!invalid_json', '4:{"a":3}'],
  },
  {
    name: 'a string that is not closed',
    input: '[\n{"a":1},\n{"a":"x},\n{"a":3}\n]',
    rows: ['2:{"a":1}', '3!invalid_json', '4:{"a":3}'],
  },
  {
    name: 'a string that is not closed, all on one line',
    input: '[{"a":1},{"a":"x},{"a":"y"},{"a":4}]',
    rows: ['1:{"a":1}', '1!invalid_json', '1:{"a":"y"}', '1:{"a":4}'],
  },
  {
    name: 'a brace that is not closed',
    input: '[\n{"a":1},\n{"a":{"b":2},\n{"a":3},\n{"a":4}\n]',
    rows: ['2:{"a":1}', '3!invalid_json', '4:{"a":3}', '5:{"a":4}'],
  },
  { name: 'a brace too many', input: '[{"a":1}},{"a":2}]', rows: ['1!invalid_json', '1:{"a":2}'] },
  {
    name: 'a broken first element with a broken key',
    input: '[\n{"a:1},\n{"a":2}\n]',
    rows: ['2!invalid_json', '3:{"a":2}'],
  },
  {
    name: 'bytes that are not UTF-8',
    input: bytes('[{"a":1},\n{"a":"', [0xe9], '"},\n{"a":3}]'),
    rows: ['1:{"a":1}', '2!invalid_utf8', '3:{"a":3}'],
  },
  {
    name: 'a file that is cut off inside an element',
    input: '[\n{"a":1},\n{"a":"tw',
    rows: ['2:{"a":1}', '3!invalid_json'],
  },
  { name: 'a file that is cut off between elements', input: '[\n{"a":1},\n', rows: ['2:{"a":1}', '3!invalid_json'] },
  { name: 'text after the array', input: '[{"a":1}]\n[{"a":2}]', rows: ['1:{"a":1}', '2!invalid_json', '2:{"a":2}'] },
  { name: 'an object instead of an array', input: '{"data":\n[{"a":1}]}', rows: ['1!invalid_json'] },
  { name: 'values that are no objects', input: '[1,"a,b",[2,3]]', rows: ['1:1', '1:"a,b"', '1:[2,3]'] },
];

const CSV: Case[] = [
  {
    name: 'a byte order mark, Windows line ends, no last line end',
    input: '\ufeffq,a\r\n1,2\r\n3,4',
    rows: ['2:{"q":"1","a":"2"}', '3:{"q":"3","a":"4"}'],
  },
  { name: 'semicolons', input: 'q;a\n1,5;2\n', rows: ['2:{"q":"1,5","a":"2"}'] },
  { name: 'tabs', input: 'q\ta\n1\t2\n', rows: ['2:{"q":"1","a":"2"}'] },
  { name: "Excel's line that names the delimiter", input: 'sep=;\nq;a\n1;2\n', rows: ['3:{"q":"1","a":"2"}'] },
  {
    name: 'quoted line ends, with physical lines',
    input: 'q,a\n"x\ny\r\nz",1\n2,3\n',
    rows: ['2:{"q":"x\\ny\\r\\nz","a":"1"}', '5:{"q":"2","a":"3"}'],
  },
  {
    name: 'quoted delimiters and doubled quotes',
    input: 'q,a\n"1,5","say ""hi"""\n"",""""\n',
    rows: ['2:{"q":"1,5","a":"say \\"hi\\""}', '3:{"q":"","a":"\\""}'],
  },
  {
    name: 'blank lines, which are no rows',
    input: '\nq,a\n\n1,2\n  \n\n3,4\n\n',
    rows: ['4:{"q":"1","a":"2"}', '7:{"q":"3","a":"4"}'],
  },
  {
    name: 'too few and too many columns',
    input: 'q,a\n1\n1,2,3\n1,2',
    rows: ['2!csv_missing_columns', '3!csv_too_many_columns', '4:{"q":"1","a":"2"}'],
  },
  {
    name: 'a quote inside a plain field',
    input: 'q,a\n5" pipe,1\n2,3\n',
    rows: ['2!csv_stray_quote', '3:{"q":"2","a":"3"}'],
  },
  {
    name: 'text behind a closing quote',
    input: 'q,a\n"1"x,2\n3,4\n',
    rows: ['2!csv_stray_quote', '3:{"q":"3","a":"4"}'],
  },
  {
    name: 'a quote that the next quoted field seems to close',
    input: 'q,a\n1,"two\n3,"four"\n5,6\n',
    rows: ['2!csv_unterminated_quote', '3:{"q":"3","a":"four"}', '4:{"q":"5","a":"6"}'],
  },
  {
    name: 'a quote that nothing closes',
    input: 'q,a\n1,"two\n3,4\n5,6',
    rows: ['2!csv_unterminated_quote', '3:{"q":"3","a":"4"}', '4:{"q":"5","a":"6"}'],
  },
  {
    name: 'an open quote in a row that spans lines',
    input: 'q,a\n"1\n1","2\n3,4',
    rows: ['2!csv_unterminated_quote', '4:{"q":"3","a":"4"}'],
  },
  {
    name: 'bytes that are not UTF-8',
    input: bytes('q,a\n1,', [0xe9], '\n3,é\n'),
    rows: ['2!invalid_utf8', '3:{"q":"3","a":"é"}'],
  },
  { name: 'an empty last field', input: 'q,a\n1,\n2,', rows: ['2:{"q":"1","a":""}', '3:{"q":"2","a":""}'] },
  { name: 'a header and nothing else', input: 'q,a\n', rows: [] },
];

for (const [format, cases] of Object.entries({ jsonl: JSONL, json: JSON_ARRAY, csv: CSV }) as [Format, Case[]][]) {
  describe(format, () => {
    test.each(cases)('$name', async ({ input, rows }) => {
      expect(brief(await read(format, input))).toEqual(rows);
    });

    test.each(cases)('the pieces in which the bytes come change nothing: $name', async ({ input }) => {
      const whole = await read(format, input);
      for (const size of [1, 2, 3, 5, 7]) expect(await read(format, input, size)).toEqual(whole);
    });
  });
}

describe('reasons', () => {
  const messageOf = async (format: Format, input: string | Uint8Array) =>
    (await read(format, input)).map((row) => (isBroken(row) ? row.message : null));

  test("give the parser's own words and the character", async () => {
    expect(await messageOf('jsonl', '{"a":1,}')).toEqual([
      'the row is not valid JSON: Expected double-quoted property name at character 8; write it with a JSON library',
    ]);
  });

  test('name what Python writes and JSON has not', async () => {
    expect(await messageOf('jsonl', '{"input": NaN}')).toEqual([
      "the row is not valid JSON: Unexpected token 'N'; write null for NaN and Infinity",
    ]);
  });

  test('and nothing of the row, which may be anybody’s', async () => {
    for (const row of ['root:x:0:0:root', 'secret', `{"a":"${'secret '.repeat(20)}"} secret`, '{"a":secret}'])
      expect(await messageOf('jsonl', row)).toEqual([expect.not.stringMatching(/secret|root/)]);
  });

  test('give the first byte that is not UTF-8', async () => {
    expect(await messageOf('jsonl', bytes('"\ufffdé', [0xc3], '"'))).toEqual([
      expect.stringContaining('(first at byte 7 of it)'),
    ]);
  });

  test('name the line on which a quote opened, not the one on which the row starts', async () => {
    expect(await messageOf('csv', 'q,a\n"1\n1","2\n3,4')).toEqual([
      expect.stringContaining('the quote that opens on line 3 is not closed'),
      null,
    ]);
  });

  test('name the columns of the header', async () => {
    expect(await messageOf('csv', 'q,a\n1')).toEqual([
      'the row has 1 column, the header has 2 (q, a); add what is missing',
    ]);
  });
});

test('a preview has at most 200 characters', async () => {
  const [row] = await read('jsonl', `{"a":"${'é'.repeat(500)}`);
  expect(row).toMatchObject({ code: 'invalid_json', preview: `{"a":"${'é'.repeat(194)}` });
});

describe('rows above the limit', () => {
  const long = 'x'.repeat(ROW_BYTES_MAX);

  test.each([
    ['jsonl', `{"a":1}\n{"a":"${long}"}\n{"a":3}`, ['1:{"a":1}', '2!too_large', '3:{"a":3}']],
    ['json', `[{"a":1},\n{"a":"${long}"},\n{"a":3}]`, ['1:{"a":1}', '2!too_large', '3:{"a":3}']],
    ['csv', `q,a\n1,2\n1,${long}\n3,4`, ['2:{"q":"1","a":"2"}', '3!too_large', '4:{"q":"3","a":"4"}']],
    ['csv', `q,a\n1,"2\n1,${long}\n3,4`, ['2!csv_unterminated_quote', '3!too_large', '4:{"q":"3","a":"4"}']],
  ] as const)('%s: cost themselves and nothing else', async (format, input, rows) => {
    expect(brief(await read(format, input, 1_000_003))).toEqual(rows);
    expect(brief(await read(format, input))).toEqual(rows);
  });
});

test('the delimiter that was found is told', async () => {
  const headers: unknown[] = [];
  const options = { name: 'rows.csv', onHeader: (header: unknown) => headers.push(header) };
  await collect(readRecords(inPieces('"a;b";q\n1;2\n'), 'csv', options));
  expect(headers).toEqual([{ delimiter: ';', columns: ['a;b', 'q'] }]);
});

test.each([
  ['q,q\n1,2', 'The CSV header of rows.csv (line 1) cannot be used: it names the column "q" twice; rename one.'],
  ['\n"q,a\n1,2', 'The CSV header of rows.csv (line 2) cannot be used: the quote that opens on line 2 is not closed'],
  ['q"x,a\n1,2', 'The CSV header of rows.csv (line 1) cannot be used: a quote stands inside a field'],
])('a CSV header that cannot be used rejects the file: %j', async (input, message) => {
  await expect(read('csv', input)).rejects.toMatchObject({
    kind: 'data_rejected',
    message: expect.stringContaining(message),
  } satisfies Partial<AnnealError>);
});
