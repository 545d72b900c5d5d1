// A source that stays away: asked again for a while, then the end, with how long it was tried.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { expect, test } from 'vitest';
import { createIngestActivities } from '../../src/activities/ingest.ts';
import type { Parts } from '../../src/activities/parts.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';

const parts = { models: join(PROJECT_FOLDER, '.anneal', 'models') } as Parts;
const { ingest } = createIngestActivities(parts, async () => null);

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

test('a server that does not answer is asked again for two minutes', async () => {
  const uri = `http://127.0.0.1:${await closedPort()}/rows.jsonl`;
  const spec = parseSpec({ name: 'away', model: { base: 'tiny' }, data: { sources: [{ uri }] } });
  const attempt = (number: number, seconds: number) => {
    const info = { attempt: number, scheduledTimestampMs: Date.now() - seconds * 1000 };
    return new MockActivityEnvironment(info, { logger: new DefaultLogger('ERROR') }).run(ingest, { run: 'r', spec });
  };
  for (const early of [attempt(1, 7200), attempt(8, 60), attempt(7, 130)]) {
    await expect(early).rejects.toMatchObject({ type: 'source_unavailable', nonRetryable: false });
  }
  await expect(attempt(8, 130)).rejects.toMatchObject({
    type: 'source_unavailable',
    nonRetryable: true,
    message: expect.stringMatching(/\(ECONNREFUSED\); check the address and the network \(tried 8 times in 2 min\)\.$/),
  });
});
