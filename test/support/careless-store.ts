// A store that speaks S3 and does not keep its main promise: either it ignores `If-None-Match: *`, or it looks first and writes later,
// so that writers who come at once all win. It can also be in trouble. Objects live in memory; signatures are not checked.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What becomes of the condition. `kept` is the control: the same server as it ought to be; `refused` knows nobody. */
export type Condition = 'ignored' | 'looked up first' | 'kept' | 'refused';

/**
 * What goes wrong with a request: it is refused for now, its answer breaks off in the middle, one bit of its answer is wrong, or it is
 * carried out and never answered.
 */
export type Trouble = 'unavailable' | 'cut' | 'flipped' | 'unanswered';

/** Between the look and the write, ms: long enough for writers that come at once to pass between. */
const GAP_MS = 50;

export interface CarelessStore extends AsyncDisposable {
  endpoint: string;
}

interface Answer {
  status: number;
  body?: Buffer | string;
}

/** @param troubles of the next requests, in order; each is taken out when it happens. */
export async function startCarelessStore(condition: Condition, troubles: Trouble[] = []): Promise<CarelessStore> {
  const objects = new Map<string, Buffer>();
  const server = createServer(async (request, response) => {
    const trouble = troubles.shift();
    const body = Buffer.concat(await request.toArray());
    if (trouble === 'unavailable') response.writeHead(503).end();
    else send(response, await answer(request, body, objects, condition), trouble);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return { endpoint: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => stop(server) };
}

async function answer(
  { url, method, headers }: IncomingMessage,
  body: Buffer,
  objects: Map<string, Buffer>,
  condition: Condition,
): Promise<Answer> {
  if (condition === 'refused')
    return { status: 403, body: '<Error><Code>InvalidAccessKeyId</Code><Message>Unknown key.</Message></Error>' };
  const key = new URL(url ?? '', 'http://store').pathname;
  const there = objects.get(key);
  switch (method) {
    case 'PUT':
      if (headers['if-none-match'] === '*' && condition !== 'ignored') {
        if (condition === 'looked up first') await sleep(GAP_MS);
        if (there !== undefined || (condition === 'kept' && objects.has(key)))
          return { status: 412, body: '<Error><Code>PreconditionFailed</Code></Error>' };
      }
      objects.set(key, body);
      return { status: 200 };
    case 'GET':
    case 'HEAD':
      return there === undefined
        ? { status: 404, body: '<Error><Code>NoSuchKey</Code></Error>' }
        : { status: 200, body: there };
    case 'DELETE':
      objects.delete(key);
      return { status: 204 };
    default:
      return { status: 501 };
  }
}

function send(response: ServerResponse, { status, body = '' }: Answer, trouble: Trouble | undefined): void {
  const bytes = Buffer.from(body);
  if (trouble === 'unanswered') {
    response.destroy();
    return;
  }
  response.writeHead(status, { etag: '"e"', ...(status === 204 ? {} : { 'content-length': bytes.length }) });
  if (trouble === 'flipped') bytes[0] = (bytes[0] as number) ^ 1;
  if (trouble === 'cut') response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
  else response.end(bytes);
}

function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((closed) => server.close(() => closed()));
}
