// Opening sources for real: files, examples, an HTTP server on the loopback, S3 by its one function; and every way that fails.
import { appendFile, chmod, mkdir } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Source } from '../../src/contracts/data-spec.ts';
import { AnnealError } from '../../src/contracts/failure.ts';
import { showUri } from '../../src/contracts/source-uri.ts';
import { isRefused } from '../../src/data/source/private-address.ts';
import { detectFormat, openSource, type SourceContext } from '../../src/data/sources.ts';
import { collect, dataSpec, inPieces, temporaryFolder } from './given.ts';

async function readAll(uri: string, ctx: Partial<SourceContext> = {}, signal?: AbortSignal, allowPrivate = true) {
  const [source] = dataSpec({ sources: [{ uri, allowPrivate }] }).sources as [Source];
  const opened = await openSource(source, { examplesFolder: '/nowhere', readS3: async () => null, ...ctx }, signal);
  const { bytes, format, etag, sizeBytes } = opened;
  return { uri: opened.uri, format, etag, sizeBytes, text: Buffer.concat(await collect(bytes)).toString() };
}

async function failureOf(promise: Promise<unknown>): Promise<AnnealError> {
  const error = await promise.then(
    () => new Error('It did not fail.'),
    (e) => e,
  );
  expect(error).toBeInstanceOf(AnnealError);
  return error;
}

describe('files', () => {
  test('are read by path, by file:// and as an example', async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write('rows.jsonl', '{"a":1}\n');
    const content = { format: 'jsonl', etag: null, sizeBytes: 8, text: '{"a":1}\n' };
    expect(await readAll(path)).toEqual({ ...content, uri: path });
    expect(await readAll(pathToFileURL(path).href)).toMatchObject(content);
    expect(await readAll('example:rows.jsonl', { examplesFolder: folder.path })).toMatchObject({
      ...content,
      uri: 'example:rows.jsonl',
    });
  });

  test('that are written to while they are read are refused, however little was added', async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write('rows.jsonl', '{"a":1}\n'.repeat(400_000));
    const [source] = dataSpec({ sources: [{ uri: path }] }).sources;
    const { bytes } = await openSource(source as never, { examplesFolder: '/nowhere', readS3: async () => null });
    const readOn = async () => {
      for await (const _ of bytes) await appendFile(path, '{}\n');
    };
    expect(await failureOf(readOn())).toMatchObject({
      kind: 'source_changed',
      message: `Source ${path} changed while it was read; try again when its writer is done.`,
    });
  });

  test('that cannot be read say why and what to do', async () => {
    await using folder = await temporaryFolder();
    await mkdir(join(folder.path, 'inner'));
    await folder.write('empty.csv', '');
    await folder.write('blank.csv', '\ufeff \n\t\r\n'.repeat(20_000));
    await folder.write('utf16.csv', Buffer.from('\ufeffq,a\n', 'utf16le'));
    await folder.write('rows.jsonl.gz', Buffer.from([0x1f, 0x8b, 8, 0]));
    await folder.write('large.jsonl', '{"a":1}\n{"a":2}\n');
    const fail = async (name: string, ctx: Partial<SourceContext> = {}) =>
      failureOf(readAll(join(folder.path, name), ctx));

    expect(await fail('missing.csv')).toMatchObject({
      kind: 'bad_request',
      message: expect.stringMatching(/^Source .*missing\.csv is not there \(.*\); correct the path/),
    });
    expect(await fail('inner')).toMatchObject({ kind: 'bad_request', message: expect.stringContaining('is a folder') });
    for (const name of ['empty.csv', 'blank.csv'])
      expect(await fail(name)).toMatchObject({
        kind: 'data_rejected',
        message: expect.stringMatching(/^Source .* is empty; put rows into it/),
      });
    expect(await fail('utf16.csv')).toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('is not UTF-8 and looks like utf-16le; set `encoding: utf-16le` on it'),
    });
    expect(await fail('rows.jsonl.gz')).toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('is no whole gzip file'),
    });
    expect(await fail('large.jsonl', { bytesMax: 10 })).toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('is larger than 10 bytes'),
    });
  });

  test('that may not be read say so', async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write('secret.jsonl', '{}');
    await chmod(path, 0);
    const failure = await asNobody(() => failureOf(readAll(path)));
    expect(failure).toMatchObject({ kind: 'bad_request', message: expect.stringContaining('may not be read') });
  });

  test('outside the examples are no examples', async () => {
    await using folder = await temporaryFolder();
    const fail = (uri: string) => failureOf(readAll(uri, { examplesFolder: folder.path }));
    expect(await fail('example:../secret.csv')).toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('leaves the folder of the examples'),
    });
    expect(await fail('example:none.csv')).toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('the set-up writes the examples'),
    });
  });
});

describe('HTTP', () => {
  test('is read with its ETag, and the record holds no query', async () => {
    await using server = await serve((_, response) => response.setHeader('etag', '"v1"').end('[{"a":1}]'));
    expect(await readAll(`${server.url}/rows.json?token=secret`)).toEqual({
      uri: `${server.url}/rows.json`,
      format: 'json',
      etag: '"v1"',
      sizeBytes: 9,
      text: '[{"a":1}]',
    });
  });

  test('without an ETag it is known by the date of its last change and its size, once that is past', async () => {
    const changed = new Date(Date.now() - 60_000).toUTCString();
    let [modified, text] = [changed, '[1]'];
    await using server = await serve((_, response) =>
      response.setHeader('last-modified', modified).setHeader('content-length', text.length).end(text),
    );
    const version = async () => (await readAll(`${server.url}/rows.json`)).etag;
    expect(await version()).toBe(`${changed}, 3 bytes`);
    text = '[12]';
    expect(await version()).toBe(`${changed}, 4 bytes`);
    modified = new Date(Date.now() + 60_000).toUTCString();
    expect(await version()).toBeNull();
  });

  test.each([
    [404, 'bad_request', 'was refused by its server (HTTP 404); correct the address'],
    [403, 'bad_request', 'HTTP 403); put a signed address into the spec'],
    [408, 'source_unavailable', 'is not available now (HTTP 408)'],
    [429, 'source_unavailable', 'HTTP 429'],
    [503, 'source_unavailable', 'HTTP 503'],
  ])('status %i is %s', async (status, kind, sentence) => {
    await using server = await serve((_, response) => response.writeHead(status).end('no'));
    expect(await failureOf(readAll(server.url))).toMatchObject({ kind, message: expect.stringContaining(sentence) });
  });

  test('a server that is not there, is silent, stops midway or sends too much is told apart', async () => {
    const gone = await serve(() => {});
    await gone[Symbol.asyncDispose]();
    expect(await failureOf(readAll(gone.url))).toMatchObject({
      kind: 'source_unavailable',
      message: expect.stringContaining('ECONNREFUSED'),
    });

    await using silent = await serve(() => {});
    expect(await failureOf(readAll(silent.url, { answerTimeoutMs: 50 }))).toMatchObject({
      kind: 'source_unavailable',
      message: expect.stringContaining('nothing came for 50 ms'),
    });

    await using stuck = await serve((_, response) => response.write('{"a":1}\n'));
    expect(await failureOf(readAll(stuck.url, { idleTimeoutMs: 50 }))).toMatchObject({
      kind: 'source_unavailable',
      message: expect.stringContaining('nothing came for 50 ms'),
    });

    await using torn = await serve((_, response) => {
      response.setHeader('content-length', '100');
      response.write('{"a":1}\n', () => response.destroy());
    });
    expect(await failureOf(readAll(torn.url))).toMatchObject({ kind: 'source_unavailable' });

    await using endless = await serve((_, response) => {
      const more = () => response.write('x'.repeat(10_000), (error) => error ?? more());
      more();
    });
    expect(await failureOf(readAll(endless.url, { bytesMax: 100_000 }))).toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('larger than 100000 bytes'),
    });
  });

  test('private addresses are refused, as written, by name and by redirect, unless the source allows them', async () => {
    await using server = await serve((request, response) =>
      request.url === '/away' ? response.writeHead(302, { location: '/rows.jsonl' }).end() : response.end('{"a":1}\n'),
    );
    const { port } = new URL(server.url);
    const hosts = ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '0x7f.1', '2130706433'];
    for (const host of hosts)
      expect(await failureOf(readAll(`http://${host}:${port}/rows.jsonl`, {}, undefined, false))).toMatchObject({
        kind: 'bad_request',
        message: expect.stringMatching(/leads to the private address \S+, which is refused; set `allowPrivate: true`/),
      });
    expect((await readAll(`${server.url}/away`)).text).toBe('{"a":1}\n');
  });

  test.each([
    ...['10.1.2.3', '172.31.0.1', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0', '224.0.0.1', '::1', '::'],
    ...['fe80::1', 'fd00::1', '::ffff:10.0.0.1', '64:ff9b::a00:1', '2002:a00:1::'],
  ])('%s is private', (address) => {
    expect(isRefused(address, false)).toBe(true);
  });

  test.each(['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '::ffff:8.8.8.8'])('%s is not', (address) => {
    expect(isRefused(address, false)).toBe(false);
  });

  test('where clouds keep credentials no source lies, whatever it allows', async () => {
    await using server = await serve((_, response) =>
      response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end(),
    );
    expect(await failureOf(readAll(server.url))).toMatchObject({
      kind: 'bad_request',
      message: expect.stringMatching(
        /leads to 169\.254\.169\.254, where clouds keep credentials, which is always refused/,
      ),
    });
    for (const address of ['fe80::1', '::ffff:169.254.169.254', 'fd00:ec2::254', '100.100.100.200'])
      expect(isRefused(address, true)).toBe(true);
    expect(isRefused('192.168.1.1', true)).toBe(false);
  });

  test('redirects end: in a circle, in the open, nowhere', async () => {
    await using server = await serve((request, response) =>
      response.writeHead(302, { location: request.url === '/out' ? 'file:///etc/passwd' : '/again' }).end(),
    );
    expect((await failureOf(readAll(`${server.url}/`))).message).toContain('is redirected more than 5 times');
    expect((await failureOf(readAll(`${server.url}/out`))).message).toContain(
      'is redirected to where no web server is',
    );
  });

  test('a connection that breaks off is taken up at the same version, and another version is told', async () => {
    const whole = Buffer.from('{"a":1}\n'.repeat(200_000));
    let version = '"v1"';
    let isChanging = false;
    await using server = await serve((request, response) => {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const isSame = (request.headers['if-match'] ?? version) === version;
      response.writeHead(isSame ? (from > 0 ? 206 : 200) : 412, {
        ...{ etag: version, 'accept-ranges': 'bytes', 'content-length': isSame ? whole.length - from : 0 },
      });
      if (!isSame || from > 0) response.end(isSame ? whole.subarray(from) : undefined);
      else
        response.write(whole.subarray(0, 1_000_000), () => {
          if (isChanging) version = '"v2"';
          response.destroy();
        });
    });
    expect((await readAll(server.url)).text).toBe(whole.toString());
    isChanging = true;
    expect(await failureOf(readAll(server.url))).toMatchObject({
      kind: 'source_changed',
      message: expect.stringContaining('changed while it was read'),
    });
  });

  test('a cancelled read ends with the reason of the cancellation', async () => {
    await using silent = await serve(() => {});
    const controller = new AbortController();
    const reading = readAll(silent.url, {}, controller.signal);
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
  });
});

describe('S3', () => {
  const object = { bytes: inPieces('q,a\n1,2\n'), etag: '"e"', sizeBytes: 8 };

  test('is asked for bucket and key', async () => {
    const asked: string[] = [];
    const readS3: SourceContext['readS3'] = async (bucket, key) => {
      asked.push(bucket, key);
      return object;
    };
    expect(await readAll('s3://data/a/rows.csv', { readS3 })).toEqual({
      uri: 's3://data/a/rows.csv',
      format: 'csv',
      etag: '"e"',
      sizeBytes: 8,
      text: 'q,a\n1,2\n',
    });
    expect(asked).toEqual(['data', 'a/rows.csv']);
  });

  test('a wrong bucket or key is a wrong spec', async () => {
    expect(await failureOf(readAll('s3://data/none.csv'))).toMatchObject({
      kind: 'bad_request',
      message: 'Source s3://data/none.csv is not there (bucket data, key none.csv); correct the bucket or the key.',
    });
    expect(await failureOf(readAll('s3://data'))).toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('must be s3://bucket/key'),
    });
  });
});

test('an unknown scheme names those that are known', async () => {
  expect(await failureOf(readAll('ftp://host/rows.csv'))).toMatchObject({
    kind: 'bad_request',
    message: expect.stringContaining(
      'unknown scheme `ftp:`; use a path, file://, http(s)://, s3://, example:, sqlite: or',
    ),
  });
});

test.each([
  ['rows.jsonl', '[', 'jsonl'],
  ['rows.NDJSON', 'x', 'jsonl'],
  ['rows.tsv', '{', 'csv'],
  ['rows.json', '\ufeff \n[{"a":1}]', 'json'],
  ['rows.json', '{"a":1}\n{"a":2}', 'jsonl'],
  ['rows', ' {"a":1}', 'jsonl'],
  ['rows.txt', 'question,answer', 'csv'],
])('the format of %s with %j is %s', (name, head, format) => {
  expect(detectFormat(name, Buffer.from(head))).toBe(format);
});

test('what is shown of an address holds no secrets', () => {
  expect(showUri('https://me:pass@host:8443/a/b.csv?X-Amz-Signature=1#x')).toBe('https://host:8443/a/b.csv');
  expect(showUri('data/rows.csv')).toBe('data/rows.csv');
});

async function serve(listener: RequestListener): Promise<AsyncDisposable & { url: string }> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Root may read everything, so for the time of the call it is somebody else. */
async function asNobody<T>(call: () => Promise<T>): Promise<T> {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  try {
    return await call();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}
