// Sources on a web server. Silence ends the reading, before the answer and within it.
import { AnnealError } from '../../contracts/failure.ts';
import { badSource, type RawSource } from './raw.ts';

export interface HttpLimits {
  /** Until the server begins to answer. */
  answerTimeoutMs: number;
  /** Between two pieces. */
  idleTimeoutMs: number;
}

export async function openHttp(
  address: string,
  uri: string,
  limits: HttpLimits,
  signal?: AbortSignal,
): Promise<RawSource> {
  if (!URL.canParse(address)) throw badSource(uri, 'is no valid web address; correct it');
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  const done = () => signal?.removeEventListener('abort', onAbort);
  try {
    const request = fetch(address, { signal: stop.signal, headers: { accept: '*/*' } });
    const response = await within(request, limits.answerTimeoutMs, stop);
    if (!response.ok) {
      await response.body?.cancel();
      throw statusError(response, uri);
    }
    // A compressed answer's length says nothing about the bytes that are read.
    const length = response.headers.get('content-encoding') === null ? response.headers.get('content-length') : null;
    const bytes = streamHttp(response, uri, limits.idleTimeoutMs, stop, done);
    return { bytes, etag: response.headers.get('etag'), sizeBytes: length === null ? null : Number(length) };
  } catch (error) {
    done();
    throw networkError(error, uri, signal);
  }
}

async function* streamHttp(
  response: Response,
  uri: string,
  idleTimeoutMs: number,
  stop: AbortController,
  done: () => void,
): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  try {
    while (reader !== undefined) {
      const piece = await within(reader.read(), idleTimeoutMs, stop);
      if (piece.done) return;
      yield piece.value;
    }
  } catch (error) {
    throw networkError(error, uri, stop.signal.reason instanceof Silence ? undefined : stop.signal);
  } finally {
    done();
    await reader?.cancel().catch(() => undefined);
  }
}

/** Nothing came for this long. */
class Silence extends Error {
  constructor(ms: number) {
    super(`nothing came for ${ms} ms`);
    this.name = 'Silence';
  }
}

async function within<T>(promise: Promise<T>, ms: number, stop: AbortController): Promise<T> {
  const timer = setTimeout(() => stop.abort(new Silence(ms)), ms);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function statusError(response: Response, uri: string): AnnealError {
  const { status } = response;
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
  if (error instanceof AnnealError || signal?.aborted) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause);
  if (error instanceof TypeError && /credentials/.test(error.message))
    return badSource(uri, 'holds a user or password, which is not supported; use a signed address', error);
  return new AnnealError(
    'source_unavailable',
    `Source ${uri} could not be read (${reason}); check the address and the network.`,
    { cause: error },
  );
}
