// Rows with bytes that are not UTF-8, mended where the spec asks for it.
import iconv from 'iconv-lite';
import { expect, test } from 'vitest';
import { toUtf8Bytes } from '../../src/data/mend-bytes.ts';
import { clean, temporaryFolder } from './given.ts';

const latin = (text: string) => iconv.encode(text, 'cp1252');
const FIX = { rules: { invalid_utf8: 'fix' } } as const;
const PLAIN = Array.from({ length: 60 }, (_, i) => `{"prompt":"what is ${i}?","completion":"${i}"}\n`).join('');

test('what is UTF-8 stays, what is not is read as Windows-1252, and a byte without a meaning there mends nothing', () => {
  const mixed = Buffer.concat([Buffer.from('Größe „a“ 🎉 '), latin('für 5 € – „b“')]);
  expect(toUtf8Bytes(mixed)?.toString()).toBe('Größe „a“ 🎉 für 5 € – „b“');
  expect(toUtf8Bytes(Buffer.from([0x61, 0x81]))).toBeNull();
  for (const text of ['', 'ascii', '\u0000\u007f', '\u0080\u07ff\u0800\uffff', '\u{10000}\u{10ffff}'])
    expect(toUtf8Bytes(Buffer.from(text))?.toString()).toBe(text);
});

test.each([
  ['JSONL', 'a.jsonl', latin('{"prompt":"Grüße?","completion":"schön"}\n'), Buffer.from(PLAIN)],
  ['CSV', 'a.csv', latin('"Grüße\nund, mehr?",schön\n'), Buffer.from(PLAIN)],
  ['a JSON array', 'a.json', latin('{"prompt":"Grüße?",\n"completion":"schön"}'), Buffer.from(PLAIN)],
])('%s: mended and counted on request, else dropped with the code', async (_, name, row, plain) => {
  await using folder = await temporaryFolder();
  const bytes = {
    'a.jsonl': [row],
    'a.csv': [Buffer.from('prompt,completion\n'), row],
    'a.json': [Buffer.from('['), row, Buffer.from(']')],
  }[name] as Buffer[];
  const files = { [name]: Buffer.concat(bytes), 'plain.jsonl': plain };
  const fixed = await clean(folder, files, FIX);
  const [first] = fixed.kept as { messages?: { content: string }[] }[];
  expect(first?.messages?.map(({ content }) => content)).toEqual([expect.stringContaining('Grüße'), 'schön']);
  expect(fixed.pieces[0]?.counts.fixed).toEqual({ invalid_utf8: 1 });
  expect(fixed.accounts.dropped).toEqual({});
  const dropped = await clean(folder, files);
  expect(dropped.accounts.dropped).toEqual({ invalid_utf8: 1 });
});
