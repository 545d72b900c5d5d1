// The embedded stack against the real servers: it comes up, survives the death of its parts, and leaves nothing behind.
import { type ChildProcess, spawn } from 'node:child_process';
import { on, once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readEnvironment } from '../../src/contracts/environment.ts';
import { FREE_PORTS, readRunningStack, readStack, type Stack, startStack, stopStack } from '../../src/dev/stack.ts';
import type { SupervisorOptions } from '../../src/dev/supervision.ts';
import type { SupervisorMessage } from '../../src/dev/supervisor.ts';
import { createStoreFromEnvironment } from '../../src/storage/open-store.ts';
import { isAlive, waitUntilGone } from '../../src/trainer/process-identity.ts';
import { metricsOfDashboard } from '../support/dashboard.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const parts = ['temporal', 'store'] as const;

let state: string;

beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'anneal-stack-'));
});

afterEach(async () => {
  await stopOthers();
  const left = Object.values(readStack(state)?.parts ?? {}).filter((identity) => identity && isAlive(identity));
  expect(left, 'processes that outlived their stack').toEqual([]);
  rmSync(state, { recursive: true, force: true });
});

/** A stack of this process is stopped by its test; one of another process, here. */
async function stopOthers(): Promise<void> {
  if (readRunningStack(state)?.supervisor.pid !== process.pid) await stopStack(state);
}

const start = (more: Partial<Parameters<typeof startStack>[0]> = {}) =>
  startStack({ project, state, ports: FREE_PORTS, parts, ...more });

const openStoreOf = ({ environment }: Pick<Stack, 'environment'>) =>
  createStoreFromEnvironment(readEnvironment(environment));

async function withClient<T>(stack: Pick<Stack, 'environment'>, use: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: stack.environment.ANNEAL_TEMPORAL_ADDRESS });
  try {
    return await use(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

const isRunning = (stack: Stack, workflowId: string) =>
  withClient(
    stack,
    async (client) => (await client.workflow.getHandle(workflowId).describe()).status.name === 'RUNNING',
  );

test('a killed Temporal and a killed store come back under their addresses with all they held', async () => {
  const stack = await start();
  const store = openStoreOf(stack);
  try {
    await withClient(stack, (client) => client.workflow.start('Nobody', { taskQueue: 'nobody', workflowId: 'kept' }));
    expect(await store.putIfAbsent('kept', Buffer.from('bytes'))).toBe('created');
    for (const part of parts) {
      const before = stack.pidOf(part);
      await stack.kill(part);
      await stack.waitReady(part);
      expect(stack.pidOf(part)).not.toBe(before);
    }
    expect(await isRunning(stack, 'kept')).toBe(true);
    expect(Buffer.from((await store.get('kept')) ?? []).toString()).toBe('bytes');
    expect(await store.putIfAbsent('kept', Buffer.from('other'))).toBe('exists');
  } finally {
    await store.close();
    await stack.stop();
  }
});

test('a stopped stack finds its runs and objects again on the next start', async () => {
  const first = await start();
  await withClient(first, (client) => client.workflow.start('Nobody', { taskQueue: 'nobody', workflowId: 'kept' }));
  const firstStore = openStoreOf(first);
  await firstStore.putIfAbsent('kept', Buffer.from('bytes'));
  await firstStore.close();
  await first.stop();
  expect(readStack(state)).toBeNull();

  const second = await start();
  const secondStore = openStoreOf(second);
  try {
    expect(await isRunning(second, 'kept')).toBe(true);
    expect(Buffer.from((await secondStore.get('kept')) ?? []).toString()).toBe('bytes');
  } finally {
    await secondStore.close();
    await second.stop();
  }
});

test('Temporal has the metrics that the dashboard shows of it', async () => {
  const stack = await start({ parts: ['temporal'], database: 'memory' });
  try {
    await withClient(stack, (client) => expect(client.workflow.getHandle('none').describe()).rejects.toThrow());
    const port = (readStack(state)?.ports.temporal ?? 0) + 2;
    const wanted = metricsOfDashboard().filter((name) => !name.startsWith('anneal_'));
    expect(wanted.length).toBeGreaterThan(2);
    const had = async () => await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    for (const name of wanted) await expect.poll(had, { message: name }).toMatch(new RegExp(`^${name}\\{`, 'm'));
  } finally {
    await stack.stop();
  }
});

test('a stack whose file cannot be written goes on, and says so', async () => {
  const lines: string[] = [];
  const stack = await start({ parts: ['temporal'], database: 'memory', onLine: (line) => lines.push(line) });
  const draft = join(state, `stack.json.${process.pid}`);
  try {
    mkdirSync(draft); // no file can be written there
    await stack.kill('temporal');
    await stack.waitReady('temporal');
    expect(lines).toContainEqual(expect.stringMatching(/stack\.json cannot be written \(EISDIR\)/));
  } finally {
    rmdirSync(draft);
    await stack.stop();
  }
});

test('without restarts a killed part stays dead until it is started', async () => {
  const stack = await start({ parts: ['temporal'], restart: false, database: 'memory' });
  try {
    await stack.kill('temporal');
    expect(stack.pidOf('temporal')).toBeNull();
    await expect(stack.waitReady('temporal')).rejects.toThrow(/temporal died of SIGKILL/);
    await stack.start('temporal');
    expect(stack.pidOf('temporal')).not.toBeNull();
  } finally {
    await stack.stop();
  }
});

test('the state folder belongs to one stack at a time, and its secrets to one user', async () => {
  const stack = await start({ parts: ['store'] });
  try {
    await expect(start({ parts: ['store'] })).rejects.toThrow(`supervisor pid ${process.pid}`);
    for (const file of ['stack.json', 'store/credentials.json']) {
      expect(statSync(join(state, file)).mode & 0o077, file).toBe(0);
    }
  } finally {
    await stack.stop();
  }
});

test('a stack without some parts still hands out addresses that can be read', async () => {
  const stack = await start({ parts: ['store'] });
  try {
    const { ANNEAL_GATEWAY_PORT, ANNEAL_GATEWAY_URL, ANNEAL_TEMPORAL_ADDRESS } = readEnvironment(stack.environment);
    expect(ANNEAL_GATEWAY_URL).toBe(`http://127.0.0.1:${ANNEAL_GATEWAY_PORT}`);
    expect(ANNEAL_TEMPORAL_ADDRESS).not.toMatch(/:0$/);
  } finally {
    await stack.stop();
  }
});

test('a taken port is named with its holder and the flag that moves it', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = (server.address() as { port: number }).port;
  try {
    const attempt = start({ parts: ['temporal'], ports: { ...FREE_PORTS, webUi: port } });
    await expect(attempt).rejects.toThrow(
      `Port ${port} (webUi) is taken by process ${process.pid} (${readFileSync('/proc/self/comm', 'utf8').trim()}); end it or choose another with --web-ui-port.`,
    );
  } finally {
    server.close();
  }
});

test('`up --detach` that cannot start says why and ends', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = (server.address() as { port: number }).port;
  try {
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
    const child = spawn(process.execPath, [main, 'up', '--detach', '--web-ui-port', String(port)], {
      env: { ...process.env, ANNEAL_STATE: state },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect(said).toContain(`Port ${port} (webUi) is taken by process ${process.pid}`);
    expect(code).toBe(1);
  } finally {
    server.close();
  }
});

async function spawnSupervisor(): Promise<ChildProcess> {
  const options: SupervisorOptions = { project, state, ports: FREE_PORTS, parts };
  const script = fileURLToPath(new URL('../../src/dev/supervisor.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  for await (const [message] of on(child, 'message') as AsyncIterable<[SupervisorMessage]>)
    if (message.event === 'ready') break;
  return child;
}

test('what a killed supervisor left behind is ended by the next start, and by `down`', async () => {
  for (const end of [async () => await (await start()).stop(), async () => void (await stopStack(state))]) {
    const supervisor = await spawnSupervisor();
    const left = Object.values(readStack(state)?.parts ?? {});
    supervisor.kill('SIGKILL');
    await once(supervisor, 'exit');
    expect(left.map((identity) => identity && isAlive(identity))).toEqual([true, true]);
    await end();
    expect(left.map((identity) => identity && isAlive(identity))).toEqual([false, false]);
  }
});

test('`down` ends a living supervisor with all its parts', async () => {
  const supervisor = await spawnSupervisor();
  const running = readRunningStack(state);
  expect(running?.ready).toBe(true);
  const exited = once(supervisor, 'exit');
  expect(await stopStack(state)).toEqual({ stopped: ['temporal', 'store'] });
  expect(await exited).toEqual([0, null]);
  expect(readStack(state)).toBeNull();
  for (const identity of Object.values(running?.parts ?? {})) {
    expect(identity && (await waitUntilGone(identity, 0))).toBe(true);
  }
});
