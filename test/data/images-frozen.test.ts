// Images at addresses are read once, with the source that names them: whatever becomes of the addresses, a range stays what it was.
import { rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Snapshot } from '../../src/contracts/records.ts';
import type { Chat } from '../../src/data/shapes.ts';
import { type FreezeOptions, freezeSources } from '../../src/data/snapshot.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
import { png } from '../support/images.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { cleanSnapshot, type Folder, hostIn, specOf, temporaryFolder } from './given.ts';

let folder: Folder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

const asking = (url: string, i: number | string = url) => ({
  messages: [
    {
      role: 'user',
      content: [
        { type: 'image_url', image_url: { url } },
        { type: 'text', text: `what is picture ${i}?` },
      ],
    },
    { role: 'assistant', content: 'a square' },
  ],
});
const jsonl = (rows: unknown[]) =>
  rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join('');

/** So that no split is empty. */
const PLAIN = Array.from({ length: 60 }, (_, i) => ({ prompt: `what is ${i}?`, completion: `${i}` }));

/** Each test has a source of its own. */
async function freeze(name: string, rows: unknown[], options: FreezeOptions = {}, allowPrivate = true) {
  const uri = await folder.write(`${name}.jsonl`, jsonl([...rows, ...PLAIN]));
  const spec = specOf({ sources: [{ uri, allowPrivate }] });
  const host = { ...hostIn(folder.path), store: createMemoryStore() };
  const whole = async () =>
    await freezeSources(host.store, spec.data.sources, host.sources, () => {}, undefined, { spec, ...options });
  const frozen = async () => (await whole()).snapshot;
  return {
    host,
    spec,
    frozen,
    contents: async () => (await whole()).contents,
    cleaned: async (snapshot: Snapshot) => await cleanSnapshot(folder, spec, snapshot, host),
  };
}

async function serve(answer: RequestListener) {
  const server = createServer(answer);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    root: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

const digestsOf = ({ kept }: { kept: unknown[] }) =>
  kept.flatMap((row) => {
    const { media } = row as Chat;
    return media === undefined ? [] : [media.map((image) => 'digest' in image && image.digest)];
  });

test('a file that is another one later, or gone, changes nothing of the snapshot that was taken before', async () => {
  const path = await folder.write('x.png', png(5, 3));
  const rows = Array.from({ length: 40 }, (_, i) => asking('x.png', i));
  const { frozen, contents, cleaned } = await freeze('files', rows);
  const before = await frozen();
  const known = await contents();
  expect(await contents()).toEqual(known);
  await writeFile(path, png(7, 7));
  // What a scheduled run is known by.
  expect(await contents()).not.toEqual(known);
  const after = await frozen();
  await rm(path);
  const digests = digestsOf(await cleaned(before));
  expect(digests).toHaveLength(40);
  expect(new Set(digests.flat())).toEqual(new Set([sha256Hex(png(5, 3))]));
  expect(new Set(digestsOf(await cleaned(after)).flat())).toEqual(new Set([sha256Hex(png(7, 7))]));
  expect(after.digest).not.toBe(before.digest);
});

test('one address has one content in a snapshot, though its server gives another each time, and is asked once', async () => {
  let asked = 0;
  await using server = await serve((_, response) => response.end(png(++asked, 1)));
  const rows = Array.from({ length: 30 }, (_, i) => asking(`${server.root}/x.png`, i));
  const { frozen, cleaned } = await freeze('web', rows);
  const digests = digestsOf(await cleaned(await frozen()));
  expect(new Set(digests.flat())).toEqual(new Set([sha256Hex(png(1, 1))]));
  expect(asked).toBe(1);
});

test('what cannot be had is named row by row; what a row holds itself is not asked for', async () => {
  await using server = await serve((request, response) => {
    if (request.url === '/page.png') response.end('<html>not an image</html>');
    else response.writeHead(404).end();
  });
  const data = `data:image/png;base64,${png(2, 2).toString('base64')}`;
  const refs = [
    `${server.root}/page.png`,
    `${server.root}/gone.png`,
    'gone.png',
    '../out.png',
    'http://no-such-host.invalid/x',
  ];
  const { frozen, cleaned } = await freeze(
    'faults',
    [...refs, data].map((ref) => asking(ref)),
    {},
    true,
  );
  const { kept, quarantine } = await cleaned(await frozen());
  expect(digestsOf({ kept })).toEqual([[sha256Hex(png(2, 2))]]);
  const told = quarantine.map(({ line, code, message }) => [line, code, message]);
  expect(told.slice(0, 5)).toEqual([
    [1, 'media_unreadable', expect.stringContaining('is no whole image of a type that is read')],
    [2, 'media_missing', expect.stringMatching(/images\[0\] cannot be read: .* \(HTTP 404\)/)],
    [3, 'media_missing', expect.stringContaining('is not there')],
    [4, 'media_missing', expect.stringContaining('leaves the folder of the rows that name it')],
    [5, 'media_missing', expect.stringContaining('ENOTFOUND')],
  ]);
});

test('private addresses are refused where the source does not allow them', async () => {
  await using server = await serve((_, response) => response.end(png(1, 1)));
  const rows = [asking(`${server.root}/x.png`), asking(`data:image/png;base64,${png(2, 2).toString('base64')}`)];
  const { frozen, cleaned } = await freeze('private', rows, {}, false);
  const { quarantine } = await cleaned(await frozen());
  expect(quarantine).toMatchObject([
    { line: 1, code: 'media_missing', message: expect.stringContaining('leads to the private address 127.0.0.1') },
  ]);
});

test('a server that is down or too slow stops the stage and not the row; one that comes back in time is waited for', async () => {
  let answers = 0;
  await using server = await serve((request, response) => {
    if (request.url === '/slow.png') response.write('x');
    else if (request.url === '/back.png' && ++answers === 2) response.end(png(3, 3));
    else response.writeHead(503).end();
  });
  const imageLimits = { pauseMs: 1 };
  const back = await freeze('back', [asking(`${server.root}/back.png`)], { imageLimits });
  expect(digestsOf(await back.cleaned(await back.frozen()))).toEqual([[sha256Hex(png(3, 3))]]);
  const down = await freeze('down', [asking(`${server.root}/down.png`)], { imageLimits });
  await expect(down.frozen()).rejects.toMatchObject({
    kind: 'source_unavailable',
    message: expect.stringContaining('HTTP 503'),
  });
  const slow = await freeze('slow', [asking(`${server.root}/slow.png`)], { imageLimits: { pauseMs: 1, imageMs: 300 } });
  await expect(slow.frozen()).rejects.toMatchObject({
    kind: 'source_unavailable',
    message: expect.stringContaining('was not there after 300 ms'),
  });
});

test('images have limits together, and names of images that are no more than text cost nothing', async () => {
  await folder.write('small.png', png(1, 1));
  const rows = ['small.png', './small.png'].map((ref) => asking(ref));
  const many = await freeze('many', rows, { imageLimits: { images: 1 } });
  await expect(many.frozen()).rejects.toMatchObject({
    kind: 'data_rejected',
    message: expect.stringContaining('names more than 1 images'),
  });
  const large = await freeze('large', rows, { imageLimits: { bytes: 100 } });
  await expect(large.frozen()).rejects.toMatchObject({
    kind: 'data_rejected',
    message: expect.stringContaining('names images of more than 100 bytes together'),
  });
  const words = await freeze('words', [{ prompt: 'an image of "images/small.png"', completion: 'an <image> tag' }]);
  expect((await words.frozen()).sources[0]).not.toHaveProperty('images');
});

test('an attempt that comes after one that died asks for no image that was read before', async () => {
  let asked = 0;
  let isDown = true;
  await using server = await serve((request, response) => {
    asked++;
    if (isDown && request.url === '/last.png') response.writeHead(503).end();
    else response.end(png(2, 1));
  });
  const memory = new Map<string, unknown>();
  const remember: FreezeOptions['remember'] = async (input, schema, work) => {
    const key = JSON.stringify(input);
    if (!memory.has(key)) memory.set(key, await work());
    return schema.parse(memory.get(key)) as never;
  };
  // Rows of more than one part of the store: what is read is remembered part by part.
  const filling = 'x'.repeat(33 * 1024 ** 2);
  const rows = [asking(`${server.root}/first.png`), filling, asking(`${server.root}/last.png`)];
  const { frozen } = await freeze('died', rows, { remember, imageLimits: { pauseMs: 1 } });
  await expect(frozen()).rejects.toMatchObject({ kind: 'source_unavailable' });
  const before = asked;
  isDown = false;
  const snapshot = await frozen();
  expect(asked).toBe(before + 1);
  expect(snapshot.sources[0]?.images?.map(({ part }) => part)).toEqual([0, 1]);
});

test('a piece that was cleaned is found again, images and all; other images make another piece', async () => {
  await folder.write('y.png', png(1, 1));
  const rows = [asking('y.png')];
  const { host, frozen, cleaned } = await freeze('again', rows);
  await cleaned(await frozen());
  const pieces = async () => (await host.store.list('preparation/pieces/')).length;
  const once = await pieces();
  await cleaned(await frozen());
  expect(await pieces()).toBe(once);
  await folder.write('y.png', png(2, 2));
  await cleaned(await frozen());
  expect(await pieces()).toBe(once + 1);
});

test('images are found however their rows write them: columns, escapes, text in text, mended rows', async () => {
  await folder.write('z.png', png(3, 1));
  const part = { type: 'image_url', image_url: { url: 'z.png' } };
  const messages = [
    { role: 'user', content: [part, { type: 'text', text: 'what?' }] },
    { role: 'assistant', content: 'a square' },
  ];
  const escaped = (text: string) => text.replaceAll('image', '\\u0069m\\u0061g\\u0065');
  const latin = Buffer.from(`{"prompt":"<image> gr\xfcn?","completion":"ja","images":["z.png"]}\n`, 'latin1');
  const files: Record<string, string | Buffer> = {
    'plain.csv': `prompt,completion\n${PLAIN.map((row) => `${row.prompt},${row.completion}\n`).join('')}`,
    'columns.csv': 'prompt,completion,images\n<image> what?,a square,z.png\n',
    'mapped.csv': 'q,a,picture\n<image> what?,a circle,z.png\n',
    'escaped.jsonl': `${escaped(JSON.stringify({ messages, id: 1 }))}\n`,
    'text.jsonl': `${JSON.stringify({ messages: JSON.stringify([...messages, ...messages]) })}\n`,
    'mended.jsonl': latin,
  };
  const uris = await Promise.all(Object.entries(files).map(([name, content]) => folder.write(name, content)));
  const columns = { user: '{{q}}', assistant: '{{a}}', images: '{{picture}}' };
  const sources = uris.map((uri) => ({ uri, ...(uri.endsWith('mapped.csv') && { columns }) }));
  const spec = specOf({ sources, rules: { invalid_utf8: 'fix', wrong_type: 'fix' } });
  const host = { ...hostIn(folder.path), store: createMemoryStore() };
  const { snapshot } = await freezeSources(host.store, spec.data.sources, host.sources, () => {}, undefined, { spec });
  const { kept, quarantine } = await cleanSnapshot(folder, spec, snapshot, host);
  expect(quarantine).toEqual([]);
  expect(digestsOf({ kept }).map((row) => new Set(row))).toEqual(
    uris.slice(1).map(() => new Set([sha256Hex(png(3, 1))])),
  );
});
