// The real command line in a process of its own: exit codes, and what is written where.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Anneal, createAnneal } from '../support/anneal.ts';

let folder: string;
let anneal: Anneal;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-cli-'));
  anneal = createAnneal({ cwd: folder, env: { ANNEAL_STATE: join(folder, 'state') } });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('--help lists every command and ends with 0', async () => {
  const { code, stdout } = await anneal(['--help']);
  expect(code).toBe(0);
  const commands = 'up down doctor demo run status watch ps resume cancel models chat logs schedule drill';
  for (const command of commands.split(' ')) expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
});

test('every command has --json', async () => {
  const commands = 'up down doctor demo run status watch ps resume cancel models chat logs drill'.split(' ');
  for (const command of commands) expect((await anneal([command, '--help'])).stdout).toContain('--json');
});

test.each([
  ['an unknown command', ['bogus']],
  ['an unknown option', ['ps', '--bogus']],
  ['a missing argument', ['cancel']],
  ['a number out of range', ['ps', '--limit', '0']],
  ['a drill of an unknown part', ['drill', '--kill', 'moon']],
  ['a drill of nothing', ['drill']],
  ['a drill of an unknown cell', ['drill', '--matrix', '--cell', 'moon']],
  ['a schedule without times', ['schedule', 'create', 'nightly']],
  ['a schedule with a wrong interval', ['schedule', 'create', 'nightly', '--every', '1x']],
  ['a wrong spec', ['run', '--set', 'train.epochs=0']],
  ['a missing spec file', ['run', 'none.yaml']],
  ['a missing source', ['run', '--source', 'none.jsonl', '--name', 'a']],
])('%s is a usage error: exit code 2, a sentence, no stack trace', async (_what, args) => {
  const { code, stdout, stderr } = await anneal(args);
  expect(code).toBe(2);
  expect(stdout).toBe('');
  expect(stderr.trim()).not.toBe('');
  expect(stderr).not.toMatch(/^\s+at /m);
});

test('a wrong spec with --json is one object with every problem and its path', async () => {
  const { code, stdout } = await anneal(['run', '--json', '--set', 'train.epochs=0', '--set', 'trian.x=1']);
  expect(code).toBe(2);
  const { error } = JSON.parse(stdout) as { error: { kind: string; problems: { path: string }[] } };
  expect(error.kind).toBe('bad_request');
  expect(error.problems.map(({ path }) => path).sort()).toEqual(['train.epochs', 'trian']);
});

test('a usage error with --json is an object too', async () => {
  const { stdout } = await anneal(['ps', '--json', '--bogus']);
  expect(JSON.parse(stdout)).toMatchObject({ error: { kind: 'usage', message: expect.stringContaining('--bogus') } });
});

test.each([
  ['ps', ['ps']],
  ['status', ['status', 'x']],
  ['run', ['run']],
  ['models', ['models']],
  ['chat', ['chat', '-m', 'hello']],
  ['schedule list', ['schedule', 'list']],
])('%s without a stack says how to start one', async (_what, args) => {
  const { code, stderr } = await anneal(args);
  expect(code).toBe(1);
  expect(stderr).toBe(
    `No stack is running on ${join(folder, 'state')}; start one with \`anneal up\`, or set ANNEAL_TEMPORAL_ADDRESS to the address of another.\n`,
  );
});

test('an address where nobody answers is named', async () => {
  const { code, stdout } = await anneal(['ps', '--json'], { ANNEAL_TEMPORAL_ADDRESS: '127.0.0.1:9' });
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    error: { kind: 'temporal_unavailable', message: expect.stringContaining('127.0.0.1:9 does not answer') },
  });
});

test('a wrong variable is named with its problem', async () => {
  const { code, stderr } = await anneal(['ps'], { ANNEAL_TEMPORAL_ADDRESS: '127.0.0.1:9', ANNEAL_STORE: 'tape' });
  expect(code).toBe(2);
  expect(stderr).toMatch(/ANNEAL_STORE/);
});

test('down without a stack does nothing and says so', async () => {
  expect(await anneal(['down'])).toMatchObject({ code: 0, stdout: 'Nothing was running.\n' });
});

test('logs reads what the parts have written, by part and by run, in the order of time', async () => {
  const logFolder = join(folder, 'state', 'logs');
  await import('node:fs').then(({ mkdirSync }) => mkdirSync(logFolder, { recursive: true }));
  const line = (t: string, part: string, message: string, run?: string) =>
    JSON.stringify({ t: `2026-11-24T08:00:0${t}.000Z`, level: 'info', part, message, ...(run && { run }) });
  writeFileSync(join(logFolder, 'gpu.log'), `${line('2', 'gpu', 'trained', 'r-1')}\n`);
  writeFileSync(join(logFolder, 'data.log'), `${line('1', 'data', 'read', 'r-1')}\n${line('3', 'data', 'idle')}\n`);
  const byRun = await anneal(['logs', 'r-1']);
  expect(byRun.stdout).toBe('08:00:01 data       read run=r-1\n08:00:02 gpu        trained run=r-1\n');
  const byPart = await anneal(['logs', 'data', '-n', '1']);
  expect(byPart.stdout).toBe('08:00:03 data       idle\n');
});
