// Rows of databases: PostgreSQL (PGlite, the real server compiled to WASM, over its socket) and SQLite, followed by watermark, and what is refused.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createSecureContext, TLSSocket } from 'node:tls';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseSpec, type SpecInput } from '../../src/contracts/spec.ts';
import { type FreezeOptions, freezeSources } from '../../src/data/snapshot.ts';
import { sampleSources } from '../../src/plan/sample.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { collect, dataSpec, type Folder, readParts, temporaryFolder } from './given.ts';

type SourceInput = NonNullable<SpecInput['data']>['sources'][number];

async function read(folder: Folder, source: SourceInput, options: FreezeOptions = {}) {
  const store = createFileStore(join(folder.path, 'store'));
  const ctx = {
    examplesFolder: folder.path,
    readS3: async () => null,
    temporaryFolder: join(folder.path, 'temporary'),
  };
  const { sources } = dataSpec({ sources: [source] });
  const frozen = await freezeSources(store, sources, ctx, () => undefined, undefined, options);
  const [entry] = frozen.snapshot.sources;
  const bytes = Buffer.concat(await collect(readParts(store, entry?.parts ?? [])));
  const rows = bytes.toString().split('\n').filter(Boolean);
  return {
    ...frozen,
    entry,
    text: bytes.toString(),
    rows: rows.map((row) => JSON.parse(row) as Record<string, unknown>),
  };
}

/** A server that speaks TLS as PostgreSQL does, with a certificate of its own, and no further. */
async function startTls(): Promise<AsyncDisposable & { port: number }> {
  const context = createSecureContext({ key: KEY, cert: CERTIFICATE });
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('S');
      new TLSSocket(socket, { isServer: true, secureContext: context }).on('error', () => undefined);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** Of `localhost`, until 2126; used nowhere else. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgekaMAo+WItNJgY4Z
I1sYzBTO5F/iNZ0IpUtS/mLMQ9WhRANCAAT3SRI2o+GpWmlWWepjwIMj8gFbrXjT
N6PJqgUf5itRtYtBTladlG7ZYO/PgcbjrQU84CZdyEeR/BPBeea5qEFo
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUdBNteQnqzKY+6iwc2FHuXv0OLv4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTAxMzY1MloYDzIxMjYxMTA3
MDEzNjUyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT3SRI2o+GpWmlWWepjwIMj8gFbrXjTN6PJqgUf5itRtYtBTladlG7Z
YO/PgcbjrQU84CZdyEeR/BPBeea5qEFoo2kwZzAdBgNVHQ4EFgQUH/+qf6J3/2V7
0YyHbs2IAvBacVswHwYDVR0jBBgwFoAUH/+qf6J3/2V70YyHbs2IAvBacVswDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIgVjOuFcwf2Tr3zFvguK35q6NerYQXukqMO7h8lsIZQpECIQDcZUwwADb1
wU5rInyGC9i65kRHoapoit9NmHIE/a4MYA==
-----END CERTIFICATE-----`;

describe('PostgreSQL', () => {
  let db: PGlite;
  let server: PGLiteSocketServer;
  let uri: string;
  beforeAll(async () => {
    db = await PGlite.create();
    server = new PGLiteSocketServer({ db, port: 0, host: '127.0.0.1' });
    await server.start();
    uri = `postgres://anneal@${server.getServerConn()}/postgres?sslmode=disable`;
    await db.exec(`
      CREATE TABLE tickets (id int PRIMARY KEY, question text, answer text, meta jsonb, at timestamptz NOT NULL);
      INSERT INTO tickets SELECT i, 'Frage ' || i, 'Antwort ü ' || i, '{"tags": ["a"]}', timestamptz '2026-01-01 00:00:00Z' + i * interval '1 minute'
      FROM generate_series(1500, 1, -1) AS i;
      CREATE TABLE empty (a int);`);
  });
  afterAll(async () => {
    await server.stop();
    await db.close();
  });

  test('a table is read in the order of its primary key, each row a JSON object, twice the same bytes', async () => {
    await using folder = await temporaryFolder();
    const { entry, rows, text } = await read(folder, { uri, table: 'tickets' });
    expect(rows.length).toBe(1500);
    expect(rows[0]).toEqual({
      ...{ id: 1, question: 'Frage 1', answer: 'Antwort ü 1', meta: { tags: ['a'] } },
      at: '2026-01-01T00:01:00+00:00',
    });
    expect(rows.map(({ id }) => id)).toEqual(Array.from({ length: 1500 }, (_, i) => i + 1));
    expect(entry).toMatchObject({ format: 'jsonl', converted: 'postgres', newlines: [1500] });
    expect(entry?.uri).toBe(uri.replace('anneal@', '').replace(/\?.*/, ''));
    expect((await read(folder, { uri, table: 'public.tickets' })).text).toBe(text);
  });

  test('a query keeps its own order; what is no SELECT, not there or empty is refused with a sentence', async () => {
    await using folder = await temporaryFolder();
    const query =
      '-- the newest first\nWITH a AS (SELECT * FROM tickets) SELECT id AS n FROM a ORDER BY id DESC LIMIT 3;';
    expect((await read(folder, { uri, query })).rows).toEqual([{ n: 1500 }, { n: 1499 }, { n: 1498 }]);
    const failing = (source: object) => read(folder, { uri, ...source });
    await expect(failing({ query: 'DELETE FROM tickets' })).rejects.toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('has a `query` that is no SELECT'),
    });
    await expect(failing({ query: "SELECT setval('s', 1)" })).rejects.toMatchObject({ kind: 'bad_request' });
    await expect(failing({ query: 'WITH d AS (DELETE FROM tickets RETURNING *) SELECT * FROM d' })).rejects.toThrow();
    await expect(failing({ table: 'nowhere' })).rejects.toMatchObject({
      kind: 'bad_request',
      message: expect.stringMatching(/was refused by PostgreSQL \(relation "nowhere" does not exist, 42P01\)/),
    });
    await expect(failing({ table: 'empty' })).rejects.toMatchObject({ kind: 'data_rejected' });
    await expect(failing({})).rejects.toThrow('is a database; add `table`, or `query` with a SELECT');
    expect((await db.query('SELECT count(*)::int AS n FROM tickets')).rows).toEqual([{ n: 1500 }]);
  });

  test('TLS that one side has and the other has not, and a certificate that nobody knows, are told apart', async () => {
    await using folder = await temporaryFolder();
    const refusal = (address: string) =>
      read(folder, { uri: address, table: 'tickets' }).catch((error: unknown) => error);
    const withMode = (mode: string) => uri.replace('sslmode=disable', `sslmode=${mode}`);
    expect(await refusal(withMode('require'))).toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('has no TLS, and its address asks for it'),
    });
    expect(await refusal(withMode('verify-full&sslrootcert=/nowhere.pem'))).toMatchObject({
      message: expect.stringContaining('names a file that cannot be read on the data worker (/nowhere.pem)'),
    });
    await using secure = await startTls();
    expect(await refusal(`postgres://a@localhost:${secure.port}/x?sslmode=verify-full`)).toMatchObject({
      kind: 'bad_request',
      message: expect.stringMatching(
        /has a certificate that is not trusted \(self-signed certificate\); .*`sslrootcert`/,
      ),
    });
  });

  test('a plan reads the beginning of a table, and has PostgreSQL reckon the rest', async () => {
    await using folder = await temporaryFolder();
    await db.exec('ANALYZE tickets');
    const spec = parseSpec({ name: 'sql', data: { sources: [{ uri, table: 'tickets' }] } });
    const ctx = { examplesFolder: folder.path, readS3: async () => null };
    const store = createFileStore(join(folder.path, 'store'));
    const { snapshot, factor } = await sampleSources({ store, spec, ctx, bytesMax: 10_000 });
    const rows = snapshot.sources[0]?.newlines?.[0] ?? 0;
    expect(rows).toBeGreaterThan(50);
    expect(rows).toBeLessThan(100);
    expect(Math.round(rows * (factor ?? 0))).toBe(1500);
  });

  test('followed for what is new, each run takes the rows behind the watermark, late ones too, and none twice', async () => {
    await using folder = await temporaryFolder();
    const follow = { mode: 'new' as const, watermark: { column: 'at', key: 'id' }, overlap: 600 };
    const source = { uri, query: "SELECT id, at FROM tickets WHERE question <> 'x'", follow };
    const take = (run: string) => read(folder, source, { follower: { name: 'support', run } });
    expect((await take('r1')).rows.length).toBe(1500);
    await db.exec(`INSERT INTO tickets VALUES
      (2001, 'q', 'a', null, '2026-01-02 00:55:30Z'), (2002, 'q', 'a', null, '2026-01-02 02:00:00Z')`);
    const second = await take('r2');
    expect(second.rows.map(({ id }) => id)).toEqual([2001, 2002]);
    expect(second.notes).toEqual(['2 new rows']);
    expect((await take('r2')).snapshot.digest).toBe(second.snapshot.digest);
    const third = await take('r3');
    expect(third.snapshot.sources).toEqual([]);
    expect((await take('r1')).rows.length).toBe(1500);
    const all = await read(
      folder,
      { ...source, follow: { ...follow, mode: 'all' } },
      { follower: { name: 'other', run: 'r' } },
    );
    expect(all.rows.length).toBe(1502);
    await db.exec('DELETE FROM tickets WHERE id > 2000');
  });

  test('a watermark that does not grow, or is missing, is refused', async () => {
    await using folder = await temporaryFolder();
    const take = (follow: object) =>
      read(folder, { uri, table: 'tickets', follow }, { follower: { name: 'a', run: 'r' } });
    await expect(take({ mode: 'new' })).rejects.toThrow('name `follow.watermark` with its column and key');
    await expect(take({ watermark: { column: 'question', key: 'id' } })).rejects.toThrow('neither a time nor a number');
  });

  test('a server that is not there can be asked again; a password in the address is refused with the spec', async () => {
    await using folder = await temporaryFolder();
    const listener = createServer();
    await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
    const { port } = listener.address() as { port: number };
    await new Promise((done) => listener.close(done));
    await expect(read(folder, { uri: `postgres://a@127.0.0.1:${port}/b`, table: 't' })).rejects.toMatchObject({
      kind: 'source_unavailable',
      message: `Source postgres://127.0.0.1:${port}/b could not be read (connect ECONNREFUSED 127.0.0.1:${port}); check the address and the database.`,
    });
    const withPassword = { name: 'a', data: { sources: [{ uri: 'postgres://me:secret@host/db', table: 't' }] } };
    expect(() => parseSpec(withPassword)).toThrow(/holds a password/);
    expect(() => parseSpec(withPassword)).not.toThrow(/secret/);
  });
});

/** Holds a database locked until its input ends. */
const WRITER = `
  import { DatabaseSync } from 'node:sqlite';
  const database = new DatabaseSync(process.argv[1]);
  database.exec("CREATE TABLE faq (question TEXT, answer TEXT); INSERT INTO faq VALUES ('q', 'a'); BEGIN EXCLUSIVE;");
  console.log('locked');
  process.stdin.resume().on('end', () => database.exec('COMMIT;'));
`;

describe('SQLite', () => {
  test('is read in place with what is not in its main file yet, and nothing can be changed', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'faq.db');
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA journal_mode = WAL; CREATE TABLE faq (question TEXT, answer TEXT, n INTEGER, raw BLOB);
      INSERT INTO faq VALUES ('q1', 'ä', 1, x'00ff'), ('q2', null, 9007199254740993, null);`);
    const { entry, rows } = await read(folder, { uri: `sqlite:${path}`, table: 'faq' });
    expect(rows).toEqual([
      { question: 'q1', answer: 'ä', n: 1, raw: 'AP8=' },
      { question: 'q2', answer: null, n: '9007199254740993', raw: null },
    ]);
    expect(entry).toMatchObject({ format: 'jsonl', converted: 'sqlite' });
    expect((await read(folder, { uri: path, query: 'SELECT n FROM faq WHERE n = 1' })).rows).toEqual([{ n: 1 }]);
    await expect(read(folder, { uri: path, table: 'nope' })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: `Source ${path} could not be read as a SQLite database (no such table: nope); correct \`query\` or \`table\`.`,
    });
    await expect(read(folder, { uri: path, query: 'UPDATE faq SET n = 2' })).rejects.toThrow('no SELECT');
    await expect(read(folder, { uri: path })).rejects.toThrow('is a database; add `table`');
    database.close();
  });

  test('is asked for again while another process has locked it: a writer is no fault of the data', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'busy.db');
    // Of its own: locks of a process are gone when it closes another handle of the file.
    const writer = spawn(process.execPath, ['--input-type=module', '-e', WRITER, path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(writer.stdout, 'data');
    await expect(read(folder, { uri: path, table: 'faq' })).rejects.toMatchObject({
      kind: 'source_unavailable',
      message: `Source ${path} is being written by another process and is locked; wait for it, or read a copy (\`VACUUM INTO\`).`,
    });
    writer.stdin.end();
    await once(writer, 'exit');
    expect((await read(folder, { uri: path, table: 'faq' })).rows).toEqual([{ question: 'q', answer: 'a' }]);
  });
});
