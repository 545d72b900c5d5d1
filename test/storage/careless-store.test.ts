// A store that lets two writers create one key would let two trainers write into one run: no worker starts on it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, expect, test } from 'vitest';
import { probeStore } from '../../src/storage/open-store.ts';
import { createS3Store } from '../../src/storage/s3-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { bareEnvironment } from '../support/anneal.ts';
import { type Condition, startCarelessStore } from '../support/careless-store.ts';

const state = mkdtempSync(join(tmpdir(), 'anneal-careless-'));
afterAll(() => rmSync(state, { recursive: true }));

const REFUSAL =
  /^The object store does not honour `If-None-Match: \*`: [2-8] of 8 racing writers created one key\. Use .+ that does\.$/;

async function probe(condition: Condition): Promise<void> {
  await using careless = await startCarelessStore(condition);
  const store = createS3Store({
    endpoint: careless.endpoint,
    region: 'us-east-1',
    bucket: 'anneal',
    accessKeyId: 'a',
    secretAccessKey: 'b',
  });
  try {
    await probeStore(store);
  } finally {
    await store.close();
  }
}

test.each<Condition>(['ignored', 'looked up first'])('the probe refuses a store whose condition is %s', async (how) => {
  await expect(probe(how)).rejects.toMatchObject({ kind: 'bad_request', message: expect.stringMatching(REFUSAL) });
});

test('the probe accepts the same server once it keeps the condition', async () => {
  await probe('kept');
});

test.each<[Condition, RegExp]>([
  ['ignored', REFUSAL],
  ['refused', /InvalidAccessKeyId: Unknown key\.\); check the access key, the secret and the bucket policy\.$/],
])('a worker does not start on a store with the condition %s, and says why in one sentence', async (how, sentence) => {
  await using careless = await startCarelessStore(how);
  const worker = spawn(process.execPath, [join(PROJECT_FOLDER, 'src', 'workers', 'gpu.ts')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      ...bareEnvironment(),
      ANNEAL_STATE: state,
      ANNEAL_S3_ENDPOINT: careless.endpoint,
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
    },
  });
  const [said, [code]] = await Promise.all([text(worker.stderr), once(worker, 'exit')]);
  expect(said.trim().split('\n').at(-1)).toMatch(sentence);
  expect(said).not.toContain('waiting for the object store');
  expect(code).toBe(1);
});
