// `anneal plan` and the question of `anneal run`, on the real command line: rows and tokens of real data, a real terminal.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { type Anneal, bareEnvironment, createAnneal, lastObject } from '../support/anneal.ts';
import { startServer } from './pretend-workers.ts';

const { python, models } = locateLocal();
const ROWS = 60;

describe.skipIf(!existsSync(join(models, 'tiny')))('plan', () => {
  let folder: string;
  let anneal: Anneal;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-plan-'));
    const rows = Array.from({ length: ROWS }, (_, i) => ({ prompt: `Double ${i}.`, completion: `It is ${2 * i}.` }));
    const lines = [...rows, rows[0], { prompt: '', completion: '' }].map((row) => JSON.stringify(row));
    writeFileSync(join(folder, 'rows.jsonl'), `${lines.join('\n')}\n`);
    const spec = { name: 'doubles', model: { base: 'tiny' }, data: { sources: [{ uri: 'rows.jsonl' }] } };
    writeFileSync(join(folder, 'spec.json'), JSON.stringify({ ...spec, until: 'train', train: { device: 'cpu' } }));
    anneal = createAnneal({ cwd: folder, env: { ANNEAL_STATE: join(folder, 'state'), CUDA_VISIBLE_DEVICES: '' } });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('counts rows, tokens and steps as the stages will, without a stack', async () => {
    const ended = await anneal(['plan', 'spec.json', '--json']);
    expect(ended.code, ended.stderr).toBe(0);
    const plan = lastObject(ended) as unknown as Plan;
    expect(plan.data).toMatchObject({ rowsIn: ROWS + 2, kept: ROWS, duplicates: 1, factor: 1 });
    const train = plan.data?.splits.train;
    const held = (plan.data?.splits.validation?.rows ?? 0) + (plan.data?.splits.test?.rows ?? 0);
    expect((train?.rows ?? 0) + held).toBe(ROWS);
    expect(train?.tokens).toBeGreaterThan(ROWS * 10);
    expect(plan.steps?.total).toBe(3 * Math.ceil((train?.rows ?? 0) / 8));
    expect(plan.parameters?.trainable).toBeGreaterThan(0);
    expect(plan.memory).toMatchObject({ how: 'arithmetic', verdict: 'fits', device: 'cpu' });
    expect(plan.time).toBeNull();
    expect(plan.problems).toEqual([]);
  }, 60_000);

  test('says every problem of the spec, the model and the data at once, and ends with 2', async () => {
    const targets = ['--set', 'train.lora.targets=[moon]', '--set', 'train.lora.firstLayer=9'];
    const ended = await anneal(['plan', 'spec.json', '--set', 'data.maxLength=8', ...targets]);
    expect(ended.code).toBe(2);
    expect(ended.stdout).toMatch(/3 problems:/);
    for (const path of ['data', 'train.lora.targets', 'train.lora.firstLayer'])
      expect(ended.stdout).toMatch(new RegExp(`^ {2}${path}:? `, 'm'));
  }, 60_000);

  test('a model that is not there is a problem of the plan', async () => {
    const { code, stdout } = await anneal(['plan', 'spec.json', '--set', 'model.base=moon']);
    expect(code).toBe(2);
    expect(stdout).toMatch(/One problem:\n {2}model\.base .*moon is not a folder/);
  });

  test('of a sweep: what all of its trials take, with the problems of each told once', async () => {
    const grid = { 'train.lora.rank': [4, 8], 'train.lora.targets': ['auto', ['moon'], ['moon', 'q_proj']] };
    writeFileSync(join(folder, 'sweep.json'), JSON.stringify({ name: 'ranks', spec: 'spec.json', grid }));
    const { code, stdout } = await anneal(['plan', 'sweep.json']);
    expect(code).toBe(2);
    expect(stdout).toMatch(/^Sweep +ranks: 6 trials, compared at 25 %, 50 % of the steps/);
    expect(stdout).toMatch(/One problem:\n {2}train\.lora\.targets names moon/);
  }, 60_000);

  describe('run on a terminal', () => {
    let server: TestWorkflowEnvironment;
    beforeAll(async () => {
      server = await startServer();
    }, 60_000);
    afterAll(async () => server.teardown());

    const started = async () => {
      const found: string[] = [];
      for await (const { workflowId } of server.client.workflow.list()) found.push(workflowId);
      return found;
    };
    const typing = (answer: string, args: string[] = []) =>
      onTerminal(['run', 'spec.json', '--set', 'train.seed=7', ...args], answer, {
        ...{ ANNEAL_TEMPORAL_ADDRESS: server.address, ANNEAL_STATE: join(folder, 'state'), CUDA_VISIBLE_DEVICES: '' },
      });
    const onTerminal = async (args: string[], input: string, env: Record<string, string>) => {
      const program = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))';
      const main = join(PROJECT_FOLDER, 'src', 'cli', 'main.ts');
      const child = spawn(python.executable, ['-c', program, process.execPath, main, ...args], {
        ...{ cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] },
        env: { ...bareEnvironment(), TERM: 'xterm', NO_COLOR: '1', ...env },
      });
      const code = new Promise<number | null>((ended) => child.once('close', ended));
      let seen = '';
      child.stdout.on('data', (piece: Buffer) => {
        seen += piece.toString('utf8');
        if (/\? \[.\/.\] /.test(seen)) child.stdin.end(input);
      });
      await text(child.stdout);
      return { code: await code, seen };
    };

    test('shows the plan and asks; no starts nothing, yes and --yes start it, and a script is not asked', async () => {
      const refused = await typing('n\n');
      expect(refused.seen).toMatch(/Steps .*Memory .*Start it\? \[Y\/n\].*Nothing was started\./s);
      expect(refused.code).toBe(1);
      expect(await started()).toEqual([]);

      const accepted = await typing('\n');
      expect(accepted.code, accepted.seen).toBe(0);
      expect(accepted.seen).toMatch(/Start it\? .*started/s);
      const again = await typing('');
      expect(again.seen).not.toContain('Start it?');
      const yes = await typing('', ['--yes', '--name', 'sure']);
      expect(yes.seen).not.toContain('Start it?');
      const env = { ANNEAL_TEMPORAL_ADDRESS: server.address };
      expect((await anneal(['run', 'spec.json', '--name', 'script'], env)).code).toBe(0);
      expect((await started()).map((run) => run.split('-')[0]).sort()).toEqual(['doubles', 'script', 'sure']);
    }, 120_000);

    test('what cannot work is refused to a script, all of it at once, unless it wants no plan', async () => {
      const before = await started();
      const env = { ANNEAL_TEMPORAL_ADDRESS: server.address };
      const wrong = ['run', 'spec.json', '--name', 'wrong', '--set', 'data.maxLength=8'];
      const targets = ['--set', 'train.lora.targets=[moon]'];
      const refused = await anneal([...wrong, ...targets, '--yes', '--json'], env);
      expect(refused.code).toBe(2);
      const { error } = lastObject(refused) as { error: { message: string; problems: { path: string }[] } };
      expect(error.message).toMatch(/^Nothing was started, because the plan has 2 problems: data: No row can be/);
      expect(error.problems.map(({ path }) => path)).toEqual(['data', 'train.lora.targets']);
      const scheduled = ['schedule', 'create', 'nightly', '--spec', 'spec.json', '--every', '1d'];
      const schedule = await anneal([...scheduled, '--set', 'data.maxLength=8'], env);
      expect(schedule).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/one problem: .*`--no-plan` starts it/),
      });
      expect(await started()).toEqual(before);
      expect((await anneal([...wrong, '--no-plan'], env)).code).toBe(0);
      expect(await started()).toHaveLength(before.length + 1);
    }, 120_000);

    test('what another machine’s workers may have is not refused for this one’s lack of it', async () => {
      const env = { ANNEAL_TEMPORAL_ADDRESS: server.address };
      const elsewhere = await anneal(['run', 'spec.json', '--name', 'far', '--set', 'model.base=moon'], env);
      expect(elsewhere.code, elsewhere.stderr).toBe(0);
      expect(elsewhere.stdout.replace(/\s+/g, ' ')).toContain(
        'This machine cannot look into `model.base`, its workers may: `model.base` moon is not a folder',
      );
    }, 60_000);
  });
});
