// A store that speaks S3 and does not keep its main promise: either it ignores `If-None-Match: *`, or it looks first and writes later,
// so that writers who come at once all win. Objects live in memory; signatures are not checked.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What becomes of the condition. `kept` is the control: the same server as it ought to be; `refused` knows nobody. */
export type Condition = 'ignored' | 'looked up first' | 'kept' | 'refused';

/** Between the look and the write, ms: long enough for writers that come at once to pass between. */
const GAP_MS = 50;

export interface CarelessStore extends AsyncDisposable {
  endpoint: string;
}

export async function startCarelessStore(condition: Condition): Promise<CarelessStore> {
  const objects = new Map<string, Buffer>();
  const server = createServer((request, response) => void answer(request, response, objects, condition));
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return { endpoint: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => stop(server) };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  objects: Map<string, Buffer>,
  condition: Condition,
): Promise<void> {
  const key = new URL(request.url ?? '', 'http://store').pathname;
  if (condition === 'refused') {
    request.resume();
    response.writeHead(403).end('<Error><Code>InvalidAccessKeyId</Code><Message>Unknown key.</Message></Error>');
    return;
  }
  const body = Buffer.concat(await request.toArray());
  const there = objects.get(key);
  switch (request.method) {
    case 'PUT': {
      if (request.headers['if-none-match'] === '*' && condition !== 'ignored') {
        if (condition === 'looked up first') await sleep(GAP_MS);
        if (there !== undefined || (condition === 'kept' && objects.has(key))) {
          response.writeHead(412).end('<Error><Code>PreconditionFailed</Code></Error>');
          return;
        }
      }
      objects.set(key, body);
      response.writeHead(200, { etag: '"e"' }).end();
      return;
    }
    case 'GET':
      if (there === undefined) response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
      else response.writeHead(200).end(there);
      return;
    case 'DELETE':
      objects.delete(key);
      response.writeHead(204).end();
      return;
    default:
      response.writeHead(501).end();
  }
}

function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((closed) => server.close(() => closed()));
}
