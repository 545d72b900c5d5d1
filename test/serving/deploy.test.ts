// `deploy` against a real gateway that looks for routes by itself: nothing it asks is for the gateway's own host only.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createDeployActivities } from '../../src/activities/deploy.ts';
import type { Parts } from '../../src/activities/parts.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { Progress } from '../../src/contracts/status.ts';
import { registerVersion } from '../../src/registry/versions.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { keys } from '../../src/storage/keys.ts';
import { draftVersion } from '../support/versions.ts';
import { BASE, type Running, scratchFolder, startGateway, writeAdapter } from './given.ts';

const state = scratchFolder();
const store = createFileStore(join(state, 'store'));
const digest = 'd'.repeat(64);
let running: Running;
let looking: NodeJS.Timeout;

beforeAll(async () => {
  running = await startGateway(store, state);
  looking = setInterval(() => void running.routes.sync(), 200);
});
afterAll(async () => {
  clearInterval(looking);
  await running.close();
  rmSync(state, { recursive: true });
});

async function registered(model: string, base: string, adapter = writeAdapter(join(state, model), 1)): Promise<number> {
  const files = await putFolder(store, adapter);
  const draft = draftVersion({ model, digest: files.digest, files, base: { name: base, digest } });
  return (await registerVersion(store, draft)).version;
}

const activityEnvironment = (attempt = 1, minutesAgo = 0) =>
  new MockActivityEnvironment(
    { attempt, scheduledTimestampMs: Date.now() - minutesAgo * 60_000 },
    { logger: new DefaultLogger('ERROR') },
  );

function deploy(environment: MockActivityEnvironment, model: string, version: number, gatewayUrl = running.url) {
  const parts = { store, gatewayUrl } as Parts;
  const spec = parseSpec({ name: model, data: { sources: [{ uri: 'rows.jsonl' }] } });
  return environment.run(createDeployActivities(parts).deploy, { run: 'r', spec, model, version });
}

test('ends when the gateway serves the version and it has answered', async () => {
  const version = await registered('tea', BASE);
  const result = await deploy(activityEnvironment(), 'tea', version);
  expect(result).toMatchObject({ endpoint: 'tea', url: `${running.url}/v1` });
  expect(running.routes.find('tea')).toMatchObject({ model: 'tea', version });
  expect(await (await fetch(`${running.url}/metrics`)).text()).toContain(
    'anneal_requests_total{model="tea",status="200"} 1',
  );
});

test('a version of another base model is refused at once, and no route is published', async () => {
  const version = await registered('milk', 'another-base');
  await expect(deploy(activityEnvironment(), 'milk', version)).rejects.toMatchObject({
    type: 'bad_request',
    nonRetryable: true,
    message: expect.stringMatching(
      /serves the base model tiny, but milk version 1 needs another-base; start a gateway with ANNEAL_SERVE_BASE=another-base/,
    ),
  });
  expect(await store.list(keys.routes('milk'))).toEqual([]);
});

test('a gateway that does not answer is waited for, but not for ever', async () => {
  const version = await registered('water', BASE);
  const away = 'http://127.0.0.1:1';
  const attempt = (number: number, minutesAgo: number) =>
    deploy(activityEnvironment(number, minutesAgo), 'water', version, away);
  await expect(attempt(14, 9)).rejects.toMatchObject({ type: 'engine_unavailable', nonRetryable: false });
  await expect(attempt(1, 60)).rejects.toMatchObject({ type: 'engine_unavailable', nonRetryable: false });
  await expect(attempt(14, 11)).rejects.toMatchObject({
    type: 'engine_unavailable',
    nonRetryable: true,
    message: expect.stringMatching(/start it \(tried 14 times in 11 min\)\.$/),
  });
});

test('another server at the address is no gateway', async () => {
  const version = await registered('juice', BASE);
  await expect(deploy(activityEnvironment(), 'juice', version, `${running.url}/v1`)).rejects.toMatchObject({
    type: 'engine_unavailable',
    message: expect.stringContaining('/health answers 404, but not as a gateway does; correct ANNEAL_GATEWAY_URL'),
  });
});

test('says what keeps the gateway from it, and stops when it is cancelled', async () => {
  const broken = writeAdapter(join(state, 'coffee'), 1);
  writeFileSync(join(broken, 'adapter_config.json'), '{}');
  const version = await registered('coffee', BASE, broken);
  const environment = activityEnvironment();
  let said: string | undefined;
  environment.on('heartbeat', (progress: Progress) => {
    said = progress.waitingFor;
  });
  const deploying = deploy(environment, 'coffee', version);
  deploying.catch(() => undefined);
  await vi.waitFor(() => expect(said).toContain('coffee'), { timeout: 20_000 });
  environment.cancel();
  await expect(deploying).rejects.toThrow();
});
