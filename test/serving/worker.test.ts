// The gateway worker as a process: says when it is ready, serves what it served before although its store is dead, ends when told.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { choosePorts, FREE_PORTS } from '../../src/dev/ports.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { bareEnvironment } from '../support/anneal.ts';
import { BASE, clientOf, MODELS, PYTHON, scratchFolder, writeAdapter } from './given.ts';

const state = scratchFolder();
let worker: ChildProcess;
afterAll(() => {
  worker.kill('SIGKILL');
  rmSync(state, { recursive: true });
});

/** What an earlier gateway leaves behind: the version's files and the routes that worked. */
async function leaveBehind(): Promise<void> {
  const adapter = writeAdapter(join(state, 'adapter'), 1);
  const files = await putFolder(createFileStore(join(state, 'elsewhere')), adapter);
  const folder = join(state, 'gateway', 'versions', files.digest);
  mkdirSync(folder, { recursive: true });
  writeAdapter(folder, 1);
  const route = {
    endpoint: 'banking',
    number: 3,
    model: 'intents',
    version: 1,
    digest: files.digest,
    base: BASE,
    files,
  };
  const remembered = [{ ...route, system: null, at: new Date().toISOString(), writeId: 'w' }];
  writeFileSync(join(state, 'gateway', 'routes.json'), JSON.stringify(remembered));
}

test('a restarted gateway serves without its store, and at SIGTERM ends without waiting for a long answer', async () => {
  await leaveBehind();
  // Below those of outgoing connections, so that no other program gets one of them before it is opened.
  const { gateway: port, store: deadPort } = await choosePorts(FREE_PORTS, []);
  const readyFile = join(state, 'ready');
  worker = spawn(process.execPath, [join(PROJECT_FOLDER, 'src', 'workers', 'gateway.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...bareEnvironment(),
      ANNEAL_STATE: state,
      ANNEAL_STORE: 's3',
      ANNEAL_S3_ENDPOINT: `http://127.0.0.1:${deadPort}`,
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
      ANNEAL_PYTHON: PYTHON,
      ANNEAL_MODELS: MODELS,
      ANNEAL_SERVE_BASE: BASE,
      ANNEAL_GATEWAY_PORT: String(port),
      ANNEAL_READY_FILE: readyFile,
    },
  });
  let log = '';
  worker.stdout?.on('data', (chunk) => {
    log += chunk;
  });
  await vi.waitFor(() => expect(readFileSync(readyFile, 'utf8')).toBe(String(worker.pid)), { timeout: 50_000 });

  const client = clientOf(`http://127.0.0.1:${port}`);
  const messages = [{ role: 'user' as const, content: 'What is the sea?' }];
  const ask = { model: 'banking', messages, temperature: 0, max_tokens: 8 };
  const { data, response } = await client.chat.completions.create(ask).withResponse();
  expect(response.headers.get('x-anneal-version')).toBe('intents--v1');
  const base = await client.chat.completions.create({ ...ask, model: BASE });
  expect(data.choices[0]?.message.content).not.toBe(base.choices[0]?.message.content);

  const stream = await client.chat.completions.create({ ...ask, max_tokens: 2000, stream: true });
  let finish: string | null = null;
  const cut = (async () => {
    for await (const chunk of stream) finish = chunk.choices[0]?.finish_reason ?? finish;
  })();
  cut.catch(() => undefined);
  const engine = log.match(/"message":"engine ready","pid":(\d+)/)?.[1];
  worker.kill('SIGTERM');
  const [code] = await once(worker, 'exit');
  expect(code).toBe(0);
  expect(() => process.kill(Number(engine), 0)).toThrow('ESRCH');
  await cut.catch(() => undefined);
  expect(['stop', 'length']).not.toContain(finish);
});
