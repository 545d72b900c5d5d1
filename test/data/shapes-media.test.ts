// Images of chats: where they stand in a row, what is one, where they are read from, and that rows keep references only.
import { mkdir, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { MediaRefSchema } from '../../src/contracts/rows.ts';
import { createRowMapper } from '../../src/data/mapping.ts';
import { readImageHeader } from '../../src/data/media/image-header.ts';
import { createMediaLoader } from '../../src/data/media/load.ts';
import { createMediaReader, IMAGE_BYTES_MAX, keepImage } from '../../src/data/media/media.ts';
import type { Chat } from '../../src/data/shapes.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
import { png } from '../support/images.ts';
import { temporaryFolder } from './given.ts';

const user = (content: unknown) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const map = (row: unknown) => createRowMapper({ method: 'sft', shape: 'auto', system: null })(row).content as Chat;

/** The frame of a JPEG: an application segment, then the start of frame, some bytes, the end. */
function jpeg(width: number, height: number, marker = 0xc0): Buffer {
  const frame = Buffer.from([
    0xff,
    marker,
    0,
    11,
    8,
    height >> 8,
    height & 255,
    width >> 8,
    width & 255,
    1,
    1,
    0x11,
    0,
  ]);
  const app = Buffer.from([0xff, 0xe0, 0, 4, 0x4a, 0x46]);
  const scan = Buffer.from([0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9]);
  return Buffer.concat([Buffer.from([0xff, 0xd8]), app, frame, scan]);
}

const GIF = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');
const WEBP_LOSSY = Buffer.from('UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAwA0JaQAA3AA/vuUAAA=', 'base64');
const WEBP_LOSSLESS = Buffer.from('UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==', 'base64');
const WEBP_EXTENDED = Buffer.from(
  'UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA==',
  'base64',
);

describe('what is an image', () => {
  test.each([
    ['png', png(640, 480), { type: 'image/png', width: 640, height: 480 }],
    ['jpeg', jpeg(640, 480), { type: 'image/jpeg', width: 640, height: 480 }],
    ['progressive jpeg', jpeg(3, 70, 0xc2), { type: 'image/jpeg', width: 3, height: 70 }],
    ['gif', GIF, { type: 'image/gif', width: 1, height: 1 }],
    ['lossy webp', WEBP_LOSSY, { type: 'image/webp', width: 1, height: 1 }],
    ['lossless webp', WEBP_LOSSLESS, { type: 'image/webp', width: 1, height: 1 }],
    ['extended webp', WEBP_EXTENDED, { type: 'image/webp', width: 1, height: 1 }],
  ])('%s, but not when it is cut short or damaged', (_, bytes, header) => {
    expect(readImageHeader(bytes)).toEqual(header);
    expect(readImageHeader(bytes.subarray(0, bytes.length - 9))).toBeNull();
    for (let length = 0; length < 40; length++)
      expect(readImageHeader(bytes.subarray(0, Math.min(length, bytes.length - 9)))).toBeNull();
    const damaged = Buffer.from(bytes);
    damaged[0] = 0;
    expect(readImageHeader(damaged)).toBeNull();
  });

  test.each([
    '',
    'hello',
    '<html>'.repeat(20),
    '\xff\xd8 no image \xff\xd9',
    'RIFF1234WEBPVP8 no image at all, only text',
  ])('%j is none', (text) => {
    expect(readImageHeader(Buffer.from(text, 'latin1'))).toBeNull();
  });

  test('a PNG whose size was changed is none: its checksum says so', () => {
    const bytes = png(640, 480);
    bytes.writeUInt32BE(641, 16);
    expect(readImageHeader(bytes)).toBeNull();
  });
});

describe('where images stand in a row', () => {
  test.each([
    [
      'OpenAI’s parts',
      {
        messages: [
          user([
            { type: 'text', text: 'a' },
            { type: 'image_url', image_url: { url: 'x.png' } },
            { type: 'text', text: 'b' },
          ]),
          assistant('c'),
        ],
      },
      'a<image>b',
      ['x.png'],
    ],
    [
      'Hugging Face’s parts',
      {
        messages: [
          user([
            { type: 'image', path: 'x.png' },
            { type: 'image', url: 'y.png' },
            { type: 'text', text: 'b' },
          ]),
          assistant('c'),
        ],
      },
      '<image><image>b',
      ['x.png', 'y.png'],
    ],
    [
      'parts without an address and a column',
      {
        images: [{ path: 'x.png' }],
        messages: [user([{ type: 'image' }, { type: 'text', text: 'b' }]), assistant('c')],
      },
      '<image>b',
      ['x.png'],
    ],
    [
      'tags and a column, as LLaVA has them',
      {
        image: 'x.png',
        conversations: [
          { from: 'human', value: '<image>\nb' },
          { from: 'gpt', value: 'c' },
        ],
      },
      '<image>\nb',
      ['x.png'],
    ],
    ['an image that is no part of the chat', { image: 'x.png', question: 'b', answer: 'c' }, 'b', undefined],
  ])('%s', (_, row, text, refs) => {
    const { messages, media } = map(row);
    expect(messages[0]?.content).toBe(text);
    expect(media?.map((image) => 'ref' in image && image.ref)).toEqual(refs);
  });

  test.each([
    [
      'media_count_mismatch',
      { images: ['x.png', 'y.png'], messages: [user('<image> a'), assistant('b')] },
      'the turns name places of images (<image>): 1, and the row has images: 2; give each image its place',
    ],
    [
      'media_count_mismatch',
      { images: ['x.png'], messages: [user('a'), assistant('b')] },
      '(<image>): 0, and the row has images: 1',
    ],
    [
      'media_count_mismatch',
      {
        messages: [
          user([
            { type: 'image', path: 'x.png' },
            { type: 'text', text: 'a <image>' },
          ]),
          assistant('b'),
        ],
      },
      '(<image>): 2, and the row has images: 1',
    ],
    [
      'media_count_mismatch',
      { images: ['x.png'], messages: [user([{ type: 'image', path: 'y.png' }]), assistant('b')] },
      'images stand in the turns',
    ],
    [
      'media_count_mismatch',
      { images: Array(65).fill('x'), messages: [user('<image>'.repeat(65)), assistant('b')] },
      'the row has 65 images, and 64 are the most',
    ],
    [
      'media_missing',
      { messages: [user([{ type: 'image' }]), assistant('b')] },
      'the turns have image parts without an address; add one',
    ],
    [
      'media_missing',
      { images: [7], messages: [user('<image>'), assistant('b')] },
      'images[0] must be the address of an image, found the number 7',
    ],
    [
      'wrong_type',
      { messages: [user('a'), { role: 'assistant', content: [{ type: 'image', path: 'x' }] }] },
      'is an image on a assistant turn; only user and tool turns show images',
    ],
  ])('%s: %j', (code, row, sentence) => {
    expect(() => map(row)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(sentence) }));
  });

  test('pairs have none', () => {
    const row = { prompt: [user([{ type: 'image', path: 'x' }])], chosen: 'a', rejected: 'b' };
    const mapper = createRowMapper({ method: 'dpo', shape: 'auto', system: null });
    expect(() => mapper(row)).toThrow('prompt[0].content shows an image, and answers are compared by text alone');
  });
});

describe('reading them', () => {
  const reader = (files: Record<string, Uint8Array>) => {
    const kept = new Map<string, Uint8Array>();
    const keep = async (digest: string, bytes: Uint8Array) => void kept.set(digest, bytes);
    const find = async (ref: string) => {
      const bytes = files[ref];
      if (bytes === undefined) throw new AnnealError('bad_request', `Source ${ref} is not there; correct the path.`);
      const image = await keepImage(Buffer.from(bytes), keep);
      if (typeof image === 'string') throw new AnnealError('data_rejected', image);
      return image;
    };
    return { kept, read: createMediaReader({ find, keep }) };
  };
  const chat = (...refs: string[]): Chat => ({ messages: [], media: refs.map((ref) => ({ ref })) });

  test('rows keep references; the bytes are kept under their digest', async () => {
    const bytes = png(5, 3);
    const { kept, read } = reader({ 'x.png': bytes });
    const { media } = await read(chat('x.png', `data:image/png;base64,${bytes.toString('base64')}`));
    const one = { digest: sha256Hex(bytes), type: 'image/png', width: 5, height: 3, sizeBytes: bytes.length };
    expect(media).toEqual([one, one]);
    expect(media?.map((image) => MediaRefSchema.parse(image))).toEqual(media);
    expect([...kept]).toEqual([[one.digest, bytes]]);
    // What was read already is not read again.
    expect(await read({ messages: [], media: media ?? [] })).toEqual({ messages: [], media });
  });

  test.each([
    ['gone.png', 'media_missing', 'images[0] cannot be read: Source gone.png is not there; correct the path'],
    [
      'text.png',
      'media_unreadable',
      'images[0] (text.png) is no whole image of a type that is read (image/png, image/jpeg, image/webp, image/gif)',
    ],
    ['huge.png', 'media_unreadable', 'has 65535 × 65535 pixels, and 67108864 are the most; make it smaller'],
    ['long.png', 'media_unreadable', `is larger than 10 MiB`],
    ['data:image/png,abc', 'media_unreadable', 'images[0] is a data: URI that is not base64'],
    ['data:image/png;base64,AAAA', 'media_unreadable', 'is no whole image'],
  ])('%s is %s', async (ref, code, sentence) => {
    const files = {
      'text.png': Buffer.from('hello'),
      'huge.png': png(65535, 65535),
      'long.png': Buffer.alloc(IMAGE_BYTES_MAX + 1),
    };
    await expect(reader(files).read(chat(ref))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(sentence),
    });
  });

  test('files next to the source and below, and nothing outside of its folder', async () => {
    await using folder = await temporaryFolder();
    const ctx = { examplesFolder: folder.path, readS3: async () => null };
    await mkdir(join(folder.path, 'set', 'images'), { recursive: true });
    await folder.write('set/images/x.png', png(5, 3));
    await folder.write('secret.png', png(1, 1));
    await symlink(join(folder.path, 'secret.png'), join(folder.path, 'set', 'link.png'));
    for (const source of [
      join(folder.path, 'set/rows.jsonl'),
      `file://${folder.path}/set/rows.jsonl`,
      'example:set/rows.jsonl',
    ]) {
      const load = createMediaLoader(source, ctx);
      expect(await load('images/x.png')).toEqual(png(5, 3));
      expect(await load(join(folder.path, 'set/images/x.png'))).toEqual(png(5, 3));
      for (const ref of ['../secret.png', join(folder.path, 'secret.png'), 'link.png'])
        await expect(load(ref)).rejects.toThrow(
          /leaves the folder of the rows that name it \(\S+\); put the image into it/,
        );
      await expect(load('images/gone.png')).rejects.toMatchObject({ kind: 'bad_request' });
    }
  });

  test('addresses on the web, relative to a source there too; a server that is down is not the row’s fault', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/set/images/x.png') response.end(png(5, 3));
      else response.writeHead(request.url === '/busy' ? 503 : 404).end();
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    try {
      const root = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const ctx = { examplesFolder: '/', readS3: async () => null };
      const load = createMediaLoader(`${root}/set/rows.jsonl`, ctx, true);
      expect(await load('images/x.png')).toEqual(png(5, 3));
      expect(await load(`${root}/set/images/x.png`)).toEqual(png(5, 3));
      await expect(load('gone.png')).rejects.toMatchObject({ kind: 'bad_request' });
      await expect(load(`${root}/busy`)).rejects.toMatchObject({ kind: 'source_unavailable' });
      for (const ref of ['file:///etc/hostname', 's3://bucket/x.png', 'sqlite:x.db'])
        await expect(load(ref)).rejects.toMatchObject({
          kind: 'bad_request',
          message: expect.stringContaining('is no web address, and the rows that name it come from'),
        });
      await expect(createMediaLoader(`${root}/set/rows.jsonl`, ctx)('images/x.png')).rejects.toMatchObject({
        kind: 'bad_request',
      });
    } finally {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    }
  });

  test('keys in S3, within the source’s own prefix', async () => {
    const asked: string[] = [];
    const readS3 = async (bucket: string, key: string) => {
      asked.push(`${bucket}/${key}`);
      return {
        bytes: (async function* () {
          yield png(5, 3);
        })(),
        etag: null,
        sizeBytes: null,
      };
    };
    const load = createMediaLoader('s3://bucket/set/rows.jsonl', { examplesFolder: '/', readS3 });
    expect(await load('images/a b.png')).toEqual(png(5, 3));
    await load('s3://other/x.png');
    expect(asked).toEqual(['bucket/set/images/a b.png', 'other/x.png']);
    await expect(load('../x.png')).rejects.toBeInstanceOf(AnnealError);
  });
});
