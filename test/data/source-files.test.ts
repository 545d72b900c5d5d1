// Files of every kind: patterns and folders, packed, converted, tables, documents, data sets of Hugging Face; and every hostile one.
import { randomBytes } from 'node:crypto';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createDeflate, gzipSync, zstdCompressSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import iconv from 'iconv-lite';
import { describe, expect, test } from 'vitest';
import type { AnnealError } from '../../src/contracts/failure.ts';
import type { SpecInput } from '../../src/contracts/spec.ts';
import { type FreezeOptions, freezeSources } from '../../src/data/snapshot.ts';
import { unpack } from '../../src/data/source/compression.ts';
import { createDocumentReader } from '../../src/data/source/documents.ts';
import { compileGlob } from '../../src/data/source/glob.ts';
import { refuseUnreadable } from '../../src/data/source/unreadable.ts';
import type { SourceContext } from '../../src/data/sources.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { collect, createRandom, dataSpec, type Folder, inPieces, readParts, temporaryFolder } from './given.ts';

type SourceInput = NonNullable<SpecInput['data']>['sources'][number];
type Files = Record<string, string | Uint8Array>;

async function write(folder: Folder, files: Files): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder.path, name)), { recursive: true });
    await writeFile(join(folder.path, name), content);
  }
}

async function read(folder: Folder, source: SourceInput, more: Partial<SourceContext> = {}, options?: FreezeOptions) {
  const store = createFileStore(join(folder.path, '.store'));
  const temporaryFolder = join(folder.path, '.temporary');
  const ctx = { examplesFolder: folder.path, readS3: async () => null, temporaryFolder, ...more };
  const { sources } = dataSpec({ sources: [source] });
  const frozen = await freezeSources(store, sources, ctx, () => undefined, undefined, options);
  const texts: string[] = [];
  for (const { parts } of frozen.snapshot.sources)
    texts.push(Buffer.concat(await collect(readParts(store, parts))).toString());
  const names = frozen.snapshot.sources.map(({ uri }) => uri.replace(`${folder.path}/`, ''));
  return { ...frozen, entries: frozen.snapshot.sources, texts, names };
}

const line = (i: number) => `${JSON.stringify({ question: `q${i}`, answer: `a${i}` })}\n`;

describe('many files', () => {
  test('a pattern gives each file by itself, in the order of their bytes, and says which source they came from', async () => {
    await using folder = await temporaryFolder();
    const files = {
      'b.jsonl': line(1),
      'B.jsonl': line(2),
      'a/ä.jsonl': line(3),
      'a/c.csv': 'q,a\n1,2\n',
      'x.png': 'no',
    };
    await write(folder, files);
    const all = await read(folder, { uri: `${folder.path}/**/*.jsonl` });
    expect(all.names).toEqual(['B.jsonl', 'a/ä.jsonl', 'b.jsonl']);
    expect(all.texts).toEqual([line(2), line(3), line(1)]);
    expect(all.entries.map(({ from }) => from)).toEqual([undefined, 0, 0]);
    expect((await read(folder, { uri: `${folder.path}/{b,z}.json?` })).names).toEqual(['b.jsonl']);
    const whole = await read(folder, { uri: folder.path });
    expect(whole.names).toEqual(['B.jsonl', 'a/c.csv', 'a/ä.jsonl', 'b.jsonl']);
    expect(whole.notes).toEqual([`1 file of ${folder.path} passed over (x.png)`]);
    await expect(read(folder, { uri: `${folder.path}/*.parquet` })).rejects.toMatchObject({
      kind: 'bad_request',
      message: `Source ${folder.path}/*.parquet matches none of 5 files; correct it, or put files there.`,
    });
  });

  test('an empty file among others is told and passed over', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'data/1.jsonl': line(1), 'data/2.jsonl': '\n' });
    const { names, notes } = await read(folder, { uri: join(folder.path, 'data') });
    expect(names).toEqual(['data/1.jsonl']);
    expect(notes).toEqual([`${folder.path}/data/2.jsonl is empty`]);
  });

  test('nothing leads out of the root: no path, no dots, no link', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'root/a.jsonl': line(1), 'secret.jsonl': line(2), 'root/in/b.jsonl': line(3) });
    const root = join(folder.path, 'root');
    await symlink(join(folder.path, 'secret.jsonl'), join(root, 'link.jsonl'));
    await symlink(join(root, 'in'), join(root, 'inside'));
    for (const uri of ['secret.jsonl', 'root/../secret.jsonl', 'root/link.jsonl', 'root/li*.jsonl', '*.jsonl'])
      await expect(read(folder, { uri: join(folder.path, uri) }, { root })).rejects.toMatchObject({
        kind: 'bad_request',
        message: expect.stringMatching(/leads out of .*root \(to .*\); name a file inside it/),
      });
    expect((await read(folder, { uri: join(root, 'inside/b.jsonl') }, { root })).texts).toEqual([line(3)]);
  });

  test('a link in a folder may not lead out of the folder, whatever the root', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'data/a.jsonl': line(1), 'secret.jsonl': line(2) });
    await symlink('../secret.jsonl', join(folder.path, 'data/b.jsonl'));
    await expect(read(folder, { uri: join(folder.path, 'data/') })).rejects.toThrow(/leads out of/);
    expect((await read(folder, { uri: join(folder.path, 'data/a*') })).texts).toEqual([line(1)]);
  });

  test('of two runs that take the same at the same time one tries again', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'in/a.jsonl': line(1) });
    const source = { uri: join(folder.path, 'in'), follow: { mode: 'new' as const } };
    const take = (run: string) => read(folder, source, {}, { follower: { name: 'race', run } });
    const ends = await Promise.allSettled(['r1', 'r2'].map(take));
    const failed = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as AnnealError] : []));
    for (const error of failed) expect(error.kind).toBe('source_unavailable');
    const taken = ends.flatMap((end) => (end.status === 'fulfilled' ? end.value.texts : []));
    expect(taken).toEqual([line(1)]);
  });

  test.each([
    ['**/*.jsonl', ['a.jsonl', 'a/b/c.jsonl'], ['a.json', 'a.jsonl.gz']],
    ['a?[0-9].x', ['ab1.x'], ['ab.x', 'a/1.x', 'abb.x']],
    ['[!a].{x,y*}', ['b.x', 'b.yz'], ['a.x', 'b.z']],
    ['a.b+(c)', ['a.b+(c)'], ['axbb(c)']],
  ])('the pattern %s', (pattern, yes, no) => {
    const glob = compileGlob(pattern);
    expect([...yes, ...no].filter((name) => glob.test(name))).toEqual(yes);
  });
});

describe('packed files', () => {
  test('gzip and zstd are undone, whatever their name, several members too', async () => {
    await using folder = await temporaryFolder();
    const twice = Buffer.concat([gzipSync(line(1)), gzipSync(line(2))]);
    await write(folder, { 'a.jsonl.gz': twice, 'b.csv.zst': zstdCompressSync('q,a\n1,2\n'), c: gzipSync('[{"a":1}]') });
    const one = await read(folder, { uri: join(folder.path, 'a.jsonl.gz') });
    expect(one.texts).toEqual([line(1) + line(2)]);
    expect(one.entries[0]).toMatchObject({ format: 'jsonl', converted: 'gzip' });
    const two = await read(folder, { uri: join(folder.path, 'b.csv.zst') });
    expect([two.texts[0], two.entries[0]?.format, two.entries[0]?.converted]).toEqual(['q,a\n1,2\n', 'csv', 'zstd']);
    expect((await read(folder, { uri: join(folder.path, 'c') })).entries[0]?.format).toBe('json');
  });

  test('a torn one is refused, and so is a bomb, with its numbers and without unpacking it', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'torn.jsonl.gz': gzipSync(line(1).repeat(1000)).subarray(0, 60) });
    await expect(read(folder, { uri: join(folder.path, 'torn.jsonl.gz') })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(/is no whole gzip file \(Z_BUF_ERROR after \d+ unpacked bytes\); write it again/),
    });
    const bomb = zstdCompressSync(Buffer.alloc(8 * 1024 ** 2));
    let unpacked = 0;
    const reading = async () => {
      for await (const piece of unpack(inPieces(bomb), 'zstd', 'bomb.zst', 200, 1024 ** 2)) unpacked += piece.length;
    };
    await expect(reading()).rejects.toThrow(
      new RegExp(
        `Source bomb.zst unpacks to more than 200 times its size \\(\\d+ bytes out of ${bomb.length} of zstd\\)`,
      ),
    );
    expect(unpacked).toBeLessThan(2 * 1024 ** 2);
  });
});

describe('text that is not UTF-8', () => {
  const rows = ['Größe', 'Über den Fluß', 'Café', 'señor'].map((text) =>
    JSON.stringify({ question: text, answer: text }),
  );

  test.each([
    ['cp1252', 'cp1252', `${rows.join('\n')}\n`],
    ['gb18030', 'gb18030', '问题,答案\n你好吗,我很好\n天气怎么样,今天天气很好\n订单在哪里,在路上\n'],
    ['utf-16le', 'utf-16le', `\ufeff${rows.join('\n')}\n`],
    ['utf-16be', 'utf-16', `\ufeff${rows.join('\n')}\n`],
    ['koi8-r', 'auto', 'вопрос,ответ\nКак дела,Хорошо\nГде заказ,В пути\nСпасибо,Пожалуйста\n'],
  ] as const)('%s is refused by its name, and converted by %s', async (encoding, wanted, text) => {
    await using folder = await temporaryFolder();
    await write(folder, { rows: iconv.encode(text, encoding, { addBOM: false }) });
    const uri = join(folder.path, 'rows');
    await expect(read(folder, { uri })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: `Source ${uri} is not UTF-8 and looks like ${encoding}; set \`encoding: ${encoding}\` on it to have it converted, or save it as UTF-8.`,
    });
    const { texts, entries } = await read(folder, { uri, encoding: wanted });
    expect(texts).toEqual([text.replace('\ufeff', '')]);
    expect(entries[0]?.converted).toBe(encoding);
  });

  test.each([
    ['NUL bytes alone', Buffer.alloc(100_000), 'it holds hardly anything but NUL bytes; fetch it again'],
    ['bytes at random', randomBytes(300_000), 'it holds control characters all over'],
    ['lines that end with CR', Buffer.from('question,answer\ra,b\rc,d\r'), 'has lines that end with CR alone'],
  ])('%s are no text and refused as such, not as another encoding', async (_, bytes, sentence) => {
    await using folder = await temporaryFolder();
    await write(folder, { 'rows.csv': bytes });
    await expect(read(folder, { uri: join(folder.path, 'rows.csv') })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining(sentence),
    });
  });

  test('UTF-8 stays as it is, some broken rows are left to their own codes, and a wrong wish is refused', async () => {
    await using folder = await temporaryFolder();
    const broken = Buffer.concat([
      Buffer.from(`${rows.join('\n')}\n`.repeat(20)),
      Buffer.from('{"q":"\xff"}\n', 'latin1'),
    ]);
    await write(folder, { 'broken.jsonl': broken, 'rows.jsonl': `${rows.join('\n')}\n` });
    const { entries } = await read(folder, { uri: join(folder.path, 'broken.jsonl'), encoding: 'auto' });
    expect(entries[0]).toMatchObject({ sizeBytes: broken.length });
    expect(entries[0]?.converted).toBeUndefined();
    await expect(read(folder, { uri: join(folder.path, 'rows.jsonl'), encoding: 'cp1252' })).rejects.toThrow(
      'is UTF-8 already',
    );
  });

  test('characters that the encoding does not have are counted', async () => {
    await using folder = await temporaryFolder();
    await write(folder, {
      'a.jsonl': Buffer.concat([iconv.encode(`${rows.join('\n')}\n`, 'cp1252'), Buffer.from([0x81, 10])]),
    });
    const { entries } = await read(folder, { uri: join(folder.path, 'a.jsonl'), encoding: 'cp1252' });
    expect(entries[0]?.converted).toBe('cp1252 (unreadable characters: 1)');
  });
});

describe('Parquet', () => {
  async function writeParquet(path: string, select: string): Promise<void> {
    const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
    const connection = await instance.connect();
    await connection.run(`COPY (${select}) TO '${path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)`);
    connection.closeSync();
    instance.closeSync();
  }

  test('rows keep their order, nested values become JSON, images data addresses, twice the same bytes', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'rows.parquet');
    await writeParquet(
      path,
      `SELECT i AS id, [{'role': 'user', 'content': 'ä "' || i}] AS messages, {'bytes': 'ab'::BLOB, 'path': 'x.png'} AS image,
       CASE WHEN i = 1 THEN 'nan'::DOUBLE ELSE 0.5 END AS score, DATE '2026-01-02' AS day FROM range(10000) r(i)`,
    );
    const { texts, entries } = await read(folder, { uri: path });
    const rows = (texts[0] ?? '')
      .trimEnd()
      .split('\n')
      .map((row) => JSON.parse(row) as Record<string, unknown>);
    expect(rows.map(({ id }) => id)).toEqual(Array.from({ length: 10_000 }, (_, i) => i));
    expect(rows[1]).toEqual({
      ...{ id: 1, messages: [{ role: 'user', content: 'ä "1' }], image: 'data:application/octet-stream;base64,YWI=' },
      ...{ score: null, day: '2026-01-02' },
    });
    expect(entries[0]).toMatchObject({ format: 'jsonl', converted: 'parquet' });
    expect((await read(folder, { uri: path })).texts).toEqual(texts);
  });

  test('a table without a mapped column is refused before its rows, with the columns that it has', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'rows.parquet');
    await writeParquet(path, "SELECT 'q' AS question, 'a' AS answer, 1 AS n");
    const mapped = { uri: path, columns: { user: '{{question}}', assistant: '{{reply}}' } };
    await expect(read(folder, mapped)).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /rows\.parquet has no column `reply`, which `columns\.assistant` names; it has .*answer/,
      ),
    });
    const { texts } = await read(folder, { ...mapped, columns: { user: '{{question}}', assistant: '{{answer}}' } });
    expect(texts).toEqual(['{"question":"q","answer":"a","n":1}\n']);
  });

  test('a broken one is refused with the reason', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'rows.parquet': 'PAR1 and nothing more' });
    await expect(read(folder, { uri: join(folder.path, 'rows.parquet') })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /rows\.parquet could not be read as Parquet \(.*No magic bytes.*\); write it again\.$/,
      ),
    });
  });

  test('the layout of Hugging Face gives its splits', async () => {
    await using folder = await temporaryFolder();
    await mkdir(join(folder.path, 'set/data'), { recursive: true });
    await writeParquet(
      join(folder.path, 'set/data/train-00000-of-00001.parquet'),
      "SELECT 'q' AS question, 'a' AS answer",
    );
    await write(folder, { 'set/data/test-00000-of-00001.jsonl': line(1), 'set/README.md': '# A set' });
    const { names, entries } = await read(folder, { uri: join(folder.path, 'set') });
    expect(names).toEqual(['set/data/test-00000-of-00001.jsonl', 'set/data/train-00000-of-00001.parquet']);
    expect(entries.map(({ split }) => split)).toEqual(['test', 'train']);
    const readme =
      '---\nconfigs:\n- config_name: de\n  data_files: de/*.jsonl\n- config_name: en\n  data_files:\n  - split: train\n    path: en/*.jsonl\n---\n';
    await write(folder, { 'two/README.md': readme, 'two/de/a.jsonl': line(1), 'two/en/a.jsonl': line(2) });
    const two = { uri: join(folder.path, 'two') };
    await expect(read(folder, two)).rejects.toThrow('has 2 configurations; set `config` to one of de, en');
    const english = await read(folder, { ...two, config: 'en' });
    expect([english.texts, english.entries[0]?.split]).toEqual([[line(2)], undefined]);
    await expect(read(folder, { ...two, config: 'fr' })).rejects.toThrow('has no configuration fr');
    // Without a file to train on, the names mean something else.
    await write(folder, { 'own/tickets-dev.jsonl': line(1), 'own/tickets-prod.jsonl': line(2) });
    const own = await read(folder, { uri: join(folder.path, 'own') });
    expect(own.entries.map(({ split }) => split)).toEqual([undefined, undefined]);
    await write(folder, { 'own/train.jsonl': line(3) });
    const named = await read(folder, { uri: join(folder.path, 'own') });
    expect(named.entries.map(({ split }) => split)).toEqual(['validation', undefined]);
    expect(named.notes).toEqual([`1 file of ${folder.path}/own passed over (tickets-prod.jsonl)`]);
  });
});

describe('documents', () => {
  test('each becomes one row of text; those that cannot be read are named, and the others go on', async () => {
    await using folder = await temporaryFolder();
    const page =
      '<html><head><style>p{}</style></head><body><nav>menu</nav><h1>Title</h1><p>Some <b>bold</b> text</p><script>x()</script></body></html>';
    await write(folder, {
      ...{
        'docs/a.md': '# Hello\r\n\r\n\r\n\r\nworld',
        'docs/b.html': page,
        'docs/b2.htm': '<p>no page</p>',
        'docs/c.pdf': pdfOf('Hello from a PDF'),
      },
      ...{ 'docs/d.pdf': '%PDF-1.7 garbage', 'docs/e.docx': 'PK\x03\x04 no', 'docs/f.txt': Buffer.from([0xff, 0, 1]) },
    });
    const { entries, texts } = await read(folder, { uri: join(folder.path, 'docs') });
    expect(entries.length).toBe(1);
    expect(entries[0]).toMatchObject({ uri: join(folder.path, 'docs'), format: 'jsonl', converted: 'documents' });
    const rows = (texts[0] ?? '')
      .trimEnd()
      .split('\n')
      .map((row) => JSON.parse(row) as object);
    expect(rows.slice(0, 4)).toEqual([
      { text: '# Hello\n\nworld', meta: { file: 'a.md' } },
      { text: '# Title\n\nSome **bold** text', meta: { file: 'b.html' } },
      { text: 'no page', meta: { file: 'b2.htm' } },
      { text: 'Hello from a PDF', meta: { file: 'c.pdf' } },
    ]);
    expect(rows.length).toBe(7);
    for (const row of rows.slice(4))
      expect(() => refuseUnreadable(row)).toThrow(/^the document \S+ could not be read: /);
    expect(() => refuseUnreadable(rows[0])).not.toThrow();
  });

  test('tables of pages are tables, those that only place things on a page are read one cell after the other', async () => {
    await using reader = createDocumentReader();
    const textOf = async (html: string) => {
      const [line = ''] = await reader.read({ name: 'a.html', bytes: Buffer.from(`<div>${html}</div>`) });
      return (JSON.parse(line) as { text: string }).text;
    };
    const head = '<thead><tr><th>part</th><th>price</th></tr></thead>';
    const body =
      '<tbody><tr><td>chain <b>9</b></td><td><p>12&nbsp;€</p><p>a | b</p></td></tr><tr><td></td><td>3</td></tr></tbody>';
    expect(await textOf(`<p>before</p><table>${head}${body}</table><p>after</p>`)).toBe(
      'before\n\n| part | price |\n| --- | --- |\n| chain **9** | 12 € a \\| b |\n|  | 3 |\n\nafter',
    );
    expect(await textOf(`<table><tr><td>menu</td><td><p>one</p><p>two</p></td></tr></table>`)).toBe(
      'menu\n\none\n\ntwo',
    );
  });

  test('a short text in another encoding is refused by its name, and converted on request', async () => {
    await using folder = await temporaryFolder();
    await write(folder, { 'd/a.md': iconv.encode('Größe: „groß“ – 5 €', 'cp1252'), 'd/b.md': 'Größe' });
    const rowsOf = async (more: object) => {
      const { texts } = await read(folder, { uri: join(folder.path, 'd'), ...more });
      return (texts[0] ?? '')
        .trimEnd()
        .split('\n')
        .map((row) => JSON.parse(row) as object);
    };
    const [first, second] = await rowsOf({});
    expect(() => refuseUnreadable(first)).toThrow(
      'the document a.md could not be read: it is not UTF-8 and looks like cp1252; set `encoding` on the source',
    );
    expect(second).toMatchObject({ text: 'Größe' });
    expect(await rowsOf({ encoding: 'auto' })).toMatchObject([{ text: 'Größe: „groß“ – 5 €' }, { text: 'Größe' }]);
  });

  test('a scan and documents behind a password have codes of their own, and say what to do', async () => {
    await using reader = createDocumentReader();
    const compound = Buffer.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]);
    const faultOf = async (name: string, bytes: Buffer) => {
      const [line = ''] = await reader.read({ name, bytes });
      try {
        refuseUnreadable(JSON.parse(line));
      } catch (error) {
        return error;
      }
      return null;
    };
    expect(await faultOf('scan.pdf', pdfWith(Buffer.from('q 1 0 0 1 0 0 cm Q'), ''))).toMatchObject({
      code: 'document_is_scan',
      message: expect.stringContaining('it has 1 page and no text, as scans have; run OCR on it'),
    });
    expect(await faultOf('locked.pdf', Buffer.from(LOCKED_PDF, 'base64'))).toMatchObject({
      code: 'document_locked',
      message: expect.stringContaining('it is protected by a password; take it off'),
    });
    const locked = Buffer.concat([compound, Buffer.alloc(1000), Buffer.from('EncryptedPackage', 'utf16le')]);
    expect(await faultOf('locked.docx', locked)).toMatchObject({ code: 'document_locked' });
    expect(await faultOf('old.docx', compound)).toMatchObject({
      code: 'document_unreadable',
      message: expect.stringContaining('it is a file of Word before 2007; save it as DOCX'),
    });
    await using folder = await temporaryFolder();
    await write(folder, { 'sheet.xlsx': compound });
    await expect(read(folder, { uri: join(folder.path, 'sheet.xlsx') })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('is an Office file that is old or protected by a password'),
    });
  });

  test('an encoding of the source counts for its texts, not for UTF-8 and not for PDF', async () => {
    await using folder = await temporaryFolder();
    const files = { 'd/a.md': iconv.encode('Größe', 'cp1252'), 'd/b.md': 'Größe', 'd/c.pdf': pdfOf('x') };
    await write(folder, files);
    const { texts } = await read(folder, { uri: join(folder.path, 'd'), encoding: 'cp1252' });
    const rows = (texts[0] ?? '')
      .trimEnd()
      .split('\n')
      .map((row) => (JSON.parse(row) as { text: string }).text);
    expect(rows).toEqual(['Größe', 'Größe', 'x']);
  });

  test('a PDF bomb is ended by the limit on memory, a slow one by time; the next document is read', async () => {
    const bomb = await pdfBomb(384 * 1024 ** 2);
    expect(bomb.length).toBeLessThan(2 * 1024 ** 2);
    await using reader = createDocumentReader({ memoryBytesMax: 320 * 1024 ** 2 });
    expect(await reader.read({ name: 'bomb.pdf', bytes: bomb })).toEqual([
      expect.stringMatching(/"\$unreadable":"its reader (took more than 320 MiB of memory|died of it)/),
    ]);
    expect(await reader.read({ name: 'a.md', bytes: Buffer.from('after') })).toEqual([
      '{"text":"after","meta":{"file":"a.md"}}',
    ]);
    await using hasty = createDocumentReader({ timeMsMax: 1 });
    expect(await hasty.read({ name: 'a.pdf', bytes: pdfOf('x') })).toEqual([
      '{"$unreadable":"its reader took more than 0.001 s","meta":{"file":"a.pdf"}}',
    ]);
  });

  test('a book becomes several rows, cut between paragraphs, and nothing of it is lost', async () => {
    const random = createRandom(1);
    const book = Array.from({ length: 60_000 }, (_, i) => `${i} ${'word '.repeat(random() * 12)}end`).join('\n\n');
    await using reader = createDocumentReader();
    const rows = (await reader.read({ name: 'book.txt', bytes: Buffer.from(book) })).map((row) => JSON.parse(row));
    expect(rows.length).toBeGreaterThan(1);
    expect(rows.map(({ meta }) => meta.piece)).toEqual(rows.map((_, i) => i + 1));
    expect(rows.map(({ text }) => text).join('\n\n')).toBe(book);
  });

  test.each([
    ['question,answer\n1,2\n', 'csv'],
    ['{"a":1}\n', 'jsonl'],
    ['Hello, this is prose.\n', 'document'],
    ['<!DOCTYPE html>\n<p>page</p>', 'document'],
  ])('a text file with %j is read as %s', async (content, kind) => {
    await using folder = await temporaryFolder();
    await write(folder, { 'a.txt': content });
    const { entries } = await read(folder, { uri: join(folder.path, 'a.txt') });
    expect(entries[0]?.converted ?? entries[0]?.format).toBe(kind);
  });
});

/** An empty page behind the password `secret` (RC4, 40 bits). */
const LOCKED_PDF =
  'JVBERi0xLjMKJeLjz9MKMSAwIG9iago8PAovUHJvZHVjZXIgPGRiYzJlOWM4MmM+Cj4+CmVuZG9iagoyIDAgb2JqCjw8Ci9UeXBlIC9QYWdlcwovQ291bnQgMQovS2lkcyBbIDQgMCBSIF0KPj4KZW5kb2JqCjMgMCBvYmoKPDwKL1R5cGUgL0NhdGFsb2cKL1BhZ2VzIDIgMCBSCj4+CmVuZG9iago0IDAgb2JqCjw8Ci9UeXBlIC9QYWdlCi9SZXNvdXJjZXMgPDwKPj4KL01lZGlhQm94IFsgMC4wIDAuMCAxMDAgMTAwIF0KL1BhcmVudCAyIDAgUgo+PgplbmRvYmoKNSAwIG9iago8PAovViAxCi9SIDIKL0xlbmd0aCA0MAovUCA0Mjk0OTY3MjkyCi9GaWx0ZXIgL1N0YW5kYXJkCi9PIDxlNWE4ZDI2ODdiZDlkMGNmZjk0NmI3YWM1NWY1MTA4MWRjZjBkMTE2NTU0YzRiZmNiMGE1ZTQ0NmY2OWVhNDhhPgovVSA8ZTRjOGVjZDQ5YzNkODIzMTgxMjA1YWRhYzhlYmU4N2Y3NGQ4MzBmODZjODhiZTU4NzJmNjQ1OTgxZWZmM2E3Nz4KPj4KZW5kb2JqCnhyZWYKMCA2CjAwMDAwMDAwMDAgNjU1MzUgZiAKMDAwMDAwMDAxNSAwMDAwMCBuIAowMDAwMDAwMDU5IDAwMDAwIG4gCjAwMDAwMDAxMTggMDAwMDAgbiAKMDAwMDAwMDE2NyAwMDAwMCBuIAowMDAwMDAwMjYxIDAwMDAwIG4gCnRyYWlsZXIKPDwKL1NpemUgNgovUm9vdCAzIDAgUgovSW5mbyAxIDAgUgovSUQgWyA8NjVmODIwZjlkNjM0ODViZTlhMDE5ZjRhM2ExODM2MTY+IDw2NWY4MjBmOWQ2MzQ4NWJlOWEwMTlmNGEzYTE4MzYxNj4gXQovRW5jcnlwdCA1IDAgUgo+PgpzdGFydHhyZWYKNDc1CiUlRU9GCg==';

function pdfOf(text: string): Buffer {
  return pdfWith(Buffer.from(`BT /F1 18 Tf 20 200 Td (${text}) Tj ET`), '');
}

/** A page whose content unpacks to so many bytes. */
async function pdfBomb(sizeBytes: number): Promise<Buffer> {
  const deflate = createDeflate({ level: 1 });
  const packed = collect(deflate as AsyncIterable<Buffer>);
  const chunk = Buffer.from('0 0 m '.repeat(1024 ** 2));
  for (let at = 0; at < sizeBytes; at += chunk.length)
    if (!deflate.write(chunk)) await new Promise<void>((drained) => deflate.once('drain', drained));
  deflate.end();
  return pdfWith(Buffer.concat(await packed), '/Filter/FlateDecode');
}

function pdfWith(content: Buffer, filter: string): Buffer {
  const objects = [
    Buffer.from('<</Type/Catalog/Pages 2 0 R>>'),
    Buffer.from('<</Type/Pages/Kids[3 0 R]/Count 1>>'),
    Buffer.from('<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>'),
    Buffer.concat([Buffer.from(`<</Length ${content.length}${filter}>>stream\n`), content, Buffer.from('\nendstream')]),
    Buffer.from('<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>'),
  ];
  const pieces = [Buffer.from('%PDF-1.4\n')];
  for (const [i, object] of objects.entries())
    pieces.push(Buffer.from(`${i + 1} 0 obj`), object, Buffer.from('endobj\n'));
  return Buffer.concat([...pieces, Buffer.from(`trailer<</Size ${objects.length + 1}/Root 1 0 R>>`)]);
}
