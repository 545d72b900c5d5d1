// Sources on a web server. Silence ends the reading, before the answer and within it; what is read is one version, known by its ETag.
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { AnnealError } from '../../contracts/failure.ts';
import { changedSource, resumed } from '../../storage/resumed.ts';
import { lookupFor, PrivateAddress, requireHost } from './private-address.ts';
import { badSource, type RawSource } from './raw.ts';
import { webVersion } from './web-version.ts';

export interface HttpOptions {
  /** Until the server begins to answer. */
  answerTimeoutMs: number;
  /** Between two pieces. */
  idleTimeoutMs: number;
  /** Whether the server may have a private, loopback or link-local address. */
  allowPrivate: boolean;
}

/** Redirects followed; a chain that is longer goes in a circle. */
const REDIRECTS_MAX = 5;

export async function openHttp(
  address: string,
  uri: string,
  options: HttpOptions,
  signal?: AbortSignal,
): Promise<RawSource> {
  if (!URL.canParse(address)) throw badSource(uri, 'is no valid web address; correct it');
  const ask = (headers: Record<string, string>) => askThrough(new URL(address), headers, uri, options, signal);
  const answer = await ask({});
  if (answer.statusCode !== 200) {
    answer.destroy();
    throw statusError(answer.statusCode ?? 0, uri);
  }
  requirePlainBody(answer, uri);
  const { etag = null, 'content-length': length } = answer.headers;
  // Only a strong ETag says that the bytes are the same.
  const version = etag?.startsWith('"') && answer.headers['accept-ranges'] === 'bytes' ? etag : null;
  const bytes = resumed(readBody(answer, uri, options.idleTimeoutMs, signal), {
    reopen: async (from) => {
      const rest = await ask({ range: `bytes=${from}-`, 'if-match': version as string });
      if (rest.statusCode === 206 && rest.headers.etag === version)
        return readBody(rest, uri, options.idleTimeoutMs, signal);
      rest.destroy();
      throw [200, 404, 412].includes(rest.statusCode ?? 0)
        ? changedSource(uri)
        : statusError(rest.statusCode ?? 0, uri);
    },
    isBreak: (error) => version !== null && error instanceof AnnealError && error.cause instanceof Error,
    signal,
  });
  const { headers } = answer;
  const headerOf = (name: string) => (headers[name] as string | undefined) ?? null;
  return { bytes, etag: webVersion(headerOf), sizeBytes: length === undefined ? null : Number(length) };
}

/** Follows redirects, each of which is looked at like the first address. */
async function askThrough(
  first: URL,
  headers: Record<string, string>,
  uri: string,
  options: HttpOptions,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  let url = first;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    const answer = await ask(url, headers, options, signal).catch((error: unknown) => {
      throw networkError(error, uri, signal);
    });
    const { statusCode = 0 } = answer;
    if (statusCode < 300 || statusCode > 399) return answer;
    answer.destroy();
    url = nextAddress(url, answer.headers.location, uri);
  }
  throw badSource(uri, `is redirected more than ${REDIRECTS_MAX} times; name the address where it ends`);
}

function nextAddress(from: URL, location: string | undefined, uri: string): URL {
  const next = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from) : null;
  if (next === null || !/^https?:$/.test(next.protocol))
    throw badSource(uri, 'is redirected to where no web server is; name the address where it lies');
  if (from.protocol === 'https:' && next.protocol === 'http:')
    throw badSource(uri, `is redirected from https to http (${next.host}); name an address that stays encrypted`);
  return next;
}

async function ask(
  url: URL,
  headers: Record<string, string>,
  { answerTimeoutMs, allowPrivate }: HttpOptions,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  if (url.username || url.password) throw new Credentials();
  requireHost(url.hostname, allowPrivate);
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  return await new Promise((resolve, reject) => {
    const request = send(url, {
      agent: false,
      headers: { accept: '*/*', 'accept-encoding': 'identity', ...headers },
      lookup: lookupFor(allowPrivate),
      ...(signal ? { signal } : {}),
    });
    const timer = setTimeout(() => request.destroy(new Silence(answerTimeoutMs)), answerTimeoutMs);
    const settle = () => clearTimeout(timer);
    request.once('close', settle).once('response', (answer) => {
      settle();
      resolve(answer);
    });
    request.on('error', reject);
    request.end();
  });
}

async function* readBody(
  answer: IncomingMessage,
  uri: string,
  idleTimeoutMs: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const onSilence = () => answer.destroy(new Silence(idleTimeoutMs));
  answer.setTimeout(idleTimeoutMs, onSilence);
  try {
    for await (const piece of answer) yield piece as Buffer;
  } catch (error) {
    throw networkError(error, uri, signal);
  } finally {
    answer.destroy();
  }
}

/** gzip and zstd are undone like those of a file; nobody asked for another coding. */
function requirePlainBody(answer: IncomingMessage, uri: string): void {
  const coding = answer.headers['content-encoding'];
  if (coding === undefined || ['identity', 'gzip', 'x-gzip', 'zstd'].includes(coding)) return;
  answer.destroy();
  throw badSource(uri, `is sent in the coding ${coding}, which was not asked for; have its server send it as it is`);
}

/** Nothing came for this long. */
class Silence extends Error {
  constructor(ms: number) {
    super(`nothing came for ${ms} ms`);
    this.name = 'Silence';
  }
}

class Credentials extends Error {}

function statusError(status: number, uri: string): AnnealError {
  if (status === 408 || status === 429 || status >= 500)
    return new AnnealError(
      'source_unavailable',
      `Source ${uri} is not available now (HTTP ${status}); look after its server, or name another source.`,
    );
  const remedy =
    status === 401 || status === 403
      ? 'put a signed address into the spec, or make it readable for the data worker'
      : 'correct the address';
  return badSource(uri, `was refused by its server (HTTP ${status}); ${remedy}`);
}

function networkError(error: unknown, uri: string, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof AnnealError) return error;
  if (error instanceof Credentials)
    return badSource(uri, 'holds a user or password, which is not supported; use a signed address', error);
  if (error instanceof PrivateAddress)
    return badSource(
      uri,
      error.isForbidden
        ? `leads to ${error.address}, where clouds keep credentials, which is always refused; name an address where rows lie`
        : `leads to the private address ${error.address}, which is refused; set \`allowPrivate: true\` on the source if it is yours`,
      error,
    );
  const reason = error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error);
  return new AnnealError(
    'source_unavailable',
    `Source ${uri} could not be read (${reason}); check the address and the network.`,
    { cause: error },
  );
}
