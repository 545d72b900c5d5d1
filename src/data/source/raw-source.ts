// Opens the bytes at one address, wherever it lies: a file, an example, HTTP or S3. Every way in which that can fail is one sentence.
import { resolve } from 'node:path';
import type { Source } from '../../contracts/data-spec.ts';
import { showUri } from '../../contracts/source-uri.ts';
import type { SourceContext } from './context.ts';
import { exampleOf, type FilePlace, fileOf, openFile } from './file.ts';
import { openHttp } from './http.ts';
import { badSource, type RawSource } from './raw.ts';
import { openS3, type S3Version } from './s3.ts';

/** A server that has not begun to answer by then is down. */
const HTTP_ANSWER_TIMEOUT_MS = 30_000;

/** A server that sends nothing for so long has lost the connection. */
const HTTP_IDLE_TIMEOUT_MS = 60_000;

export type Address = Pick<Source, 'uri'> & Partial<Pick<Source, 'allowPrivate'>>;

/** @throws AnnealError `bad_request` when the address is wrong, `source_unavailable` when its server does not answer. */
export async function openRaw(
  { uri: address, allowPrivate = false }: Address,
  ctx: SourceContext,
  signal?: AbortSignal,
  version?: S3Version,
): Promise<RawSource> {
  const uri = showUri(address);
  const place = placeOf(address, ctx);
  if (place !== null) return await openFile(place);
  switch (schemeOf(address)) {
    case 'http':
    case 'https':
      return await openHttp(
        address,
        uri,
        {
          answerTimeoutMs: ctx.answerTimeoutMs ?? HTTP_ANSWER_TIMEOUT_MS,
          idleTimeoutMs: ctx.idleTimeoutMs ?? HTTP_IDLE_TIMEOUT_MS,
          allowPrivate,
        },
        signal,
      );
    case 's3':
      return await openS3(address, uri, ctx.readS3, signal, version);
    default:
      throw badSource(
        uri,
        `has the unknown scheme \`${schemeOf(address)}:\`; use a path, file://, http(s)://, s3://, example:, sqlite: or postgres://`,
      );
  }
}

export function schemeOf(address: string): string | null {
  return /^([a-z][a-z0-9+.-]+):/i.exec(address)?.[1]?.toLowerCase() ?? null;
}

/** Where the address leads on this disk; null = it leads elsewhere. */
export function placeOf(address: string, ctx: SourceContext): FilePlace | null {
  const uri = showUri(address);
  const own = { uri, root: ctx.root ?? null, remedy: 'correct the path, which is looked for on the data worker' };
  switch (schemeOf(address)) {
    case null:
      return { ...own, path: resolve(address) };
    case 'file':
      return { ...own, path: fileOf(address, uri) };
    case 'sqlite':
      return { ...own, path: resolve(address.slice('sqlite:'.length)) };
    case 'example':
      return {
        ...{ uri, path: exampleOf(address, ctx.examplesFolder), root: ctx.examplesFolder },
        remedy: 'the set-up writes the examples; run it again, or correct the name',
      };
    default:
      return null;
  }
}
