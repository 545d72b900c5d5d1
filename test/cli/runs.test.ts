// Starting, following, cancelling and resuming runs against a real Temporal server, by the client and by the command line.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChildWorkflowFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import type { WorkflowBundle } from '@temporalio/worker';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import type { RunDescription } from '../../src/client/description.ts';
import type { RunInput } from '../../src/client/runs.ts';
import { TASK_QUEUES, WORKFLOWS } from '../../src/contracts/names.ts';
import { type Anneal, createAnneal, lastObject } from '../support/anneal.ts';
import { bundle, type Gatekeeper, type PretendWorkers, startServer, startWorkers } from './pretend-workers.ts';

let env: TestWorkflowEnvironment;
let code: WorkflowBundle;
let workers: PretendWorkers;
let client: AnnealClient;
let folder: string;
let anneal: Anneal;
const gate: Gatekeeper = { held: new Set(), begun: new Map() };
const settings = () => ({
  ANNEAL_TEMPORAL_ADDRESS: env.address,
  ANNEAL_TEMPORAL_NAMESPACE: 'default',
  ANNEAL_WEB_UI: 'http://127.0.0.1:8233',
});

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-runs-'));
  writeFileSync(join(folder, 'rows.jsonl'), '{}\n');
  [env, code] = await Promise.all([startServer(), bundle()]);
  workers = await startWorkers(env, code, gate);
  client = await connect(settings());
  anneal = createAnneal({ cwd: folder, env: { ANNEAL_STATE: join(folder, 'state'), ...settings() } });
});
afterAll(async () => {
  await client?.close();
  await workers?.stop();
  await env?.teardown();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  gate.held.clear();
});

const specOf = (name: string, more: object = {}): RunInput => ({
  name,
  data: { sources: [{ uri: 'example:x' }] },
  ...more,
});

async function describeUntil(run: string, wanted: (description: RunDescription) => boolean): Promise<RunDescription> {
  return vi.waitUntil(
    async () => {
      const description = await client.describeRun(run);
      return wanted(description) ? description : null;
    },
    { timeout: 20_000, interval: 50 },
  ) as Promise<RunDescription>;
}

describe('the client', () => {
  test('a run starts once: a second start attaches, and after its end it answers at once', async () => {
    gate.held.add('once');
    expect(await client.attachOrStart(specOf('once'), { runId: 'once' })).toBe('started');
    expect(await client.attachOrStart(specOf('once'), { runId: 'once' })).toBe('attached');
    gate.held.clear();
    const end = await client.waitForRun('once', { intervalMs: 50 });
    expect(end).toMatchObject({ state: 'completed', status: { version: 1, endpoint: 'once', failure: null } });
    await expect(client.cancelRun('once')).rejects.toMatchObject({ kind: 'run_not_running' });
    expect(await client.attachOrStart(specOf('once'), { runId: 'once' })).toBe('finished');
    expect(gate.begun.get('once')).toBe(1);
  });

  test('a running run shows its stages, the progress of its activity and Temporal’s own state', async () => {
    gate.held.add('shown');
    await client.startRun(specOf('shown'), { runId: 'shown' });
    const seen = await describeUntil('shown', ({ progress }) => progress !== null);
    expect(seen.status.stages.map(({ stage, state }) => `${stage} ${state}`)).toEqual([
      'ingest done',
      'preprocess done',
      'train running',
      'evaluate waiting',
      'register waiting',
      'deploy waiting',
    ]);
    expect(seen.progress).toMatchObject({ stage: 'train', step: 3, of: 10, loss: 0.5 });
    expect(seen.pending).toMatchObject([{ activity: 'train', attempt: 1, state: 'running' }]);
    const listed = async () => (await client.listRuns()).find(({ run }) => run === 'shown');
    await expect
      .poll(listed)
      .toMatchObject({ state: 'running', stage: 'train', model: 'shown', progress: { step: 3 } });
  });

  test('a cancelled run is resumed under its id with its own input, and only then', async () => {
    gate.held.add('resumed');
    await client.startRun(specOf('resumed', { register: { model: 'own' } }), { runId: 'resumed' });
    await describeUntil('resumed', ({ progress }) => progress !== null);
    await expect(client.resumeRun('resumed')).rejects.toMatchObject({ kind: 'run_not_resumable' });
    await client.cancelRun('resumed');
    const first = await client.waitForRun('resumed', { intervalMs: 50 });
    expect(first).toMatchObject({ state: 'cancelled', status: { failure: { kind: 'cancelled' } } });
    gate.held.clear();
    await client.resumeRun('resumed');
    const second = await client.waitForRun('resumed', { intervalMs: 50 });
    expect(second).toMatchObject({ state: 'completed', status: { model: 'own' } });
    expect(second.execution).not.toBe(first.execution);
    await expect(client.resumeRun('resumed')).rejects.toMatchObject({ kind: 'run_not_resumable' });
  });

  test('a failed run says its kind and sentence, and an attach starts it again', async () => {
    await client.startRun(specOf('broken'), { runId: 'broken' });
    const end = await client.waitForRun('broken', { intervalMs: 50 });
    expect(end.status.failure).toEqual({
      kind: 'loss_not_finite',
      message: expect.stringContaining('The loss is NaN at step 3; lower the learning rate.'),
    });
    expect(await client.attachOrStart(specOf('broken'), { runId: 'broken' })).toBe('started');
    await client.waitForRun('broken', { intervalMs: 50 });
    expect(gate.begun.get('broken')).toBe(2);
  });

  test('the list of workflows says what a run is, without what its addresses keep secret', async () => {
    const secret = { name: 'told', data: { sources: [{ uri: 'https://host/rows.jsonl?signature=s3cret' }] } };
    await client.startRun(secret as never, { runId: 'told' });
    const described = await env.client.workflow.getHandle('told').describe();
    expect(await described.staticSummary()).toBe('told: smollm2-135m, LoRA r16, 1 source');
    expect(await described.staticDetails()).toMatch(/- source `https:\/\/host\/rows\.jsonl`$/);
    await client.waitForRun('told', { intervalMs: 50 });
  });

  test('an unknown run is named', async () => {
    await expect(client.describeRun('nowhere')).rejects.toMatchObject({
      kind: 'run_not_found',
      message: expect.stringContaining('Run nowhere is not known'),
    });
  });

  test('a retraining starts the run of its content, and leaves one alone that `anneal run` has started', async () => {
    const retrain = (name: string, id: string) =>
      env.client.workflow.execute(WORKFLOWS.retraining, {
        taskQueue: TASK_QUEUES.control,
        workflowId: `retraining-${id}`,
        args: [{ spec: specOf(name) }],
      });
    expect(await retrain('fresh', '1')).toMatchObject({ run: 'fresh', skipped: null, status: { version: 1 } });
    expect(gate.begun.get('fresh')).toBe(1);
    gate.held.add('twice');
    await client.startRun(specOf('twice'), { runId: 'twice' });
    const skipped = { run: 'twice', skipped: expect.stringContaining('under way or complete'), status: null };
    expect(await retrain('twice', '2')).toEqual(skipped);
    gate.held.clear();
    await client.waitForRun('twice', { intervalMs: 50 });
    expect(await retrain('twice', '3')).toEqual(skipped);
    expect(gate.begun.get('twice')).toBe(1);
  });

  test('a retraining whose run fails gives back what it took of followed sources', async () => {
    const retrain = (follow: boolean) =>
      env.client.workflow
        .execute(WORKFLOWS.retraining, {
          taskQueue: TASK_QUEUES.control,
          workflowId: `retraining-broken-${follow}`,
          args: [{ spec: { ...specOf('broken'), data: { sources: [{ uri: 's3://logs/', follow }] } } }],
        })
        .catch((error: Error) => error.cause);
    gate.givenBack = [];
    for (const follow of [false, true]) expect(await retrain(follow)).toBeInstanceOf(ChildWorkflowFailure);
    expect(gate.givenBack).toEqual(['retraining-broken-true']);
  });

  test('schedules are created paused, triggered without overlap, and deleted', async () => {
    const { schedules } = client;
    await schedules.create({ id: 'nightly', spec: specOf('nightly') as never, every: '1 days', paused: true });
    await expect(schedules.create({ id: 'nightly', spec: {} as never, cron: '0 3 * * *' })).rejects.toMatchObject({
      kind: 'schedule_exists',
    });
    const find = async () => (await schedules.list()).find(({ id }) => id === 'nightly');
    await expect.poll(find).toMatchObject({ paused: true, when: 'every 1 d' });
    await schedules.unpause('nightly');
    await expect.poll(find).toMatchObject({ paused: false });
    const described = await env.client.schedule.getHandle('nightly').describe();
    expect(described.policies).toMatchObject({ overlap: 'SKIP', catchupWindow: 3_600_000 });
    expect(described.action).toMatchObject({ workflowType: 'Retraining', taskQueue: 'anneal-control' });
    await schedules.trigger('nightly');
    await vi.waitFor(
      async () =>
        expect(await find()).toMatchObject({
          lastOutcome: { state: 'completed', run: 'nightly', why: 'Nothing is new.' },
        }),
      { timeout: 30_000 },
    );
    // A run that waits for people holds its schedule up, and the list says so.
    gate.held.add('weekly');
    await schedules.create({ id: 'weekly', spec: specOf('weekly') as never, every: '7 days', paused: true });
    await schedules.trigger('weekly');
    await vi.waitFor(async () => expect(gate.begun.get('weekly')).toBe(1), { timeout: 10_000 });
    await client.pauseRun('weekly', { by: 'ann', why: 'the GPU is needed' });
    gate.held.clear();
    const weekly = async () => (await schedules.list()).find(({ id }) => id === 'weekly')?.lastOutcome;
    await vi.waitFor(
      async () => expect(await weekly()).toEqual({ state: 'paused', run: 'weekly', why: 'the GPU is needed' }),
      { timeout: 10_000 },
    );
    await client.cancelRun('weekly');
    await schedules.delete('weekly');
    await schedules.delete('nightly');
    await expect(schedules.trigger('nightly')).rejects.toMatchObject({ kind: 'schedule_not_found' });
  });
});

describe('the command line', () => {
  test('run --wait --json ends with one object and 0; the same run again answers without doing anything', async () => {
    const args = ['run', '--no-plan', '--wait', '--json', '--name', 'ci', '--source', 'rows.jsonl'];
    const first = await anneal(args);
    expect(first.stderr).toMatch(
      /Run ci-[0-9a-f]{12} started: http:\/\/127\.0\.0\.1:8233\/namespaces\/default\/workflows\/ci-/,
    );
    expect(first.code).toBe(0);
    const result = lastObject(first);
    expect(result).toMatchObject({
      run: expect.stringMatching(/^ci-[0-9a-f]{12}$/),
      status: 'completed',
      data: { rowsIn: 10, kept: 7, duplicates: 2, dropped: { invalid_json: 1 } },
      evaluation: { candidate: { match: { correct: 153 } } },
      version: 1,
      endpoint: 'ci',
    });
    expect(result).not.toHaveProperty('failure');
    const second = await anneal(args);
    expect(second.stderr).toContain('was completed before');
    expect(lastObject(second)).toEqual(result);
    expect(gate.begun.get(result.run as string)).toBe(1);
  });

  test('a gate that does not pass is exit code 10, with the evaluation and the reason', async () => {
    const { code, stdout } = await anneal([
      'run',
      '--no-plan',
      '--wait',
      '--json',
      '--name',
      'refused',
      '--source',
      'rows.jsonl',
    ]);
    expect(code).toBe(10);
    expect(lastObject({ stdout })).toMatchObject({
      status: 'failed',
      version: null,
      failure: { kind: 'gate_failed' },
      evaluation: { gate: { verdict: 'fail' } },
    });
  });

  test('a run that fails is exit code 1', async () => {
    const { code, stdout } = await anneal(['run', '--no-plan', '--wait', '--name', 'broken', '--source', 'rows.jsonl']);
    expect(code).toBe(1);
    expect(stdout).toContain('loss_not_finite: The loss is NaN');
  });

  test('watch without a terminal writes a line per change and ends with the run', async () => {
    gate.held.add('watched');
    await client.startRun(specOf('watched'), { runId: 'watched' });
    await describeUntil('watched', ({ progress }) => progress !== null);
    const watching = anneal(['watch', 'watched']);
    const asNdjson = anneal(['watch', 'watched', '--json']);
    const listed = await anneal(['ps', '--json']);
    expect(JSON.parse(listed.stdout)).toContainEqual(expect.objectContaining({ run: 'watched', state: 'running' }));
    expect((await anneal(['ps'])).stdout).toMatch(/^watched +running +train +step 3 of 10, loss 0\.500 +\d+ s$/m);
    const status = await anneal(['status', 'watched', '--json']);
    expect(JSON.parse(status.stdout)).toMatchObject({ state: 'running', progress: { step: 3 } });
    gate.held.clear();
    const { code, stdout } = await watching;
    expect(code).toBe(0);
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toMatch(/train: step 3 of 10, loss 0\.500, checkpoint step 2 \(claim 1\)$/m);
    expect(stdout).toMatch(/watched completed: watched version 1$/m);
    const objects = (await asNdjson).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as RunDescription);
    expect(objects.at(-1)).toMatchObject({ run: 'watched', state: 'completed' });
  });

  test('demo tells the run, the numbers and what the endpoint answers, and ends with one object', async () => {
    const asked: unknown[] = [];
    const gateway = createServer(async (request, response) => {
      asked.push({ url: request.url, body: JSON.parse(Buffer.concat(await request.toArray()).toString()) });
      response.end(JSON.stringify({ choices: [{ message: { content: '{"intent":"StartTimer"}' } }] }));
    });
    await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
      const { code, stdout, stderr } = await anneal(['demo', '--json', '--exit'], { ANNEAL_GATEWAY_URL: url });
      expect(code).toBe(0);
      const result = lastObject({ stdout });
      expect(result).toEqual({
        run: expect.stringMatching(/^demo-\d{8}-\d{6}$/),
        model: 'home-assistant',
        version: 1,
        base: { n: 200, correct: 0, control: 7 },
        candidate: { n: 200, correct: 153 },
        endpoint: 'home-assistant',
        answer: '{"intent":"StartTimer"}',
        wallSeconds: expect.any(Number),
        stages: {
          ingest: expect.any(Number),
          preprocess: expect.any(Number),
          train: expect.any(Number),
          evaluate: expect.any(Number),
          register: expect.any(Number),
          deploy: expect.any(Number),
        },
      });
      expect(asked).toEqual([
        {
          url: '/v1/chat/completions',
          body: expect.objectContaining({
            model: 'home-assistant',
            messages: [{ role: 'user', content: 'timer for 64-hour and 11 seconds' }],
          }),
        },
      ]);
      for (const part of [
        'home-assistant-intents, Apache-2.0',
        '153 of 200',
        'npx anneal chat',
        'npx anneal down',
        url,
      ]) {
        expect(stderr).toContain(part);
      }
    } finally {
      gateway.closeAllConnections();
      await new Promise((resolve) => gateway.close(resolve));
    }
  });

  test('cancel --wait ends when the run has stopped, and resume --wait with its end', async () => {
    gate.held.add('stopped');
    await client.startRun(specOf('stopped'), { runId: 'stopped' });
    await describeUntil('stopped', ({ progress }) => progress !== null);
    const cancelled = await anneal(['cancel', 'stopped', '--wait', '--json']);
    expect(cancelled.code).toBe(0);
    expect(lastObject(cancelled)).toEqual({ run: 'stopped', status: 'cancelled' });
    gate.held.clear();
    const resumed = await anneal(['resume', 'stopped', '--wait', '--json']);
    expect(resumed.code).toBe(0);
    expect(lastObject(resumed)).toMatchObject({ status: 'completed', version: 1 });
  });

  test('pause --wait ends when the run waits; what it is told is refused by its own sentence, and resume goes on', async () => {
    gate.held.add('pausing');
    await client.startRun(specOf('pausing'), { runId: 'pausing' });
    await describeUntil('pausing', ({ progress }) => progress !== null);
    const paused = await anneal(['pause', 'pausing', '--reason', 'lunch', '--wait', '--json']);
    expect(paused.code).toBe(0);
    expect(lastObject(paused)).toMatchObject({ status: 'paused', paused: { kind: 'requested', why: 'lunch' } });
    expect((await anneal(['status', 'pausing'])).stdout).toContain('lunch. `anneal resume pausing` goes on.');
    const refused = await anneal(['budget', 'pausing', '--deadline', '2020-01-01T00:00:00Z']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('`budget.deadline` 2020-01-01T00:00:00.000Z has passed.');
    gate.held.clear();
    const resumed = await anneal(['resume', 'pausing', '--gpu-hours', '2', '--wait', '--json']);
    expect(lastObject(resumed)).toMatchObject({ status: 'completed', version: 1 });
  });

  test('a run whose budget is used up ends the wait with a code of its own, and says what goes on', async () => {
    gate.held.add('broke');
    const input = specOf('broke', { budget: { deadline: '0.01 min' } });
    await client.startRun(input, { runId: 'broke' });
    const watched = await anneal(['watch', 'broke']);
    expect(watched.code).toBe(11);
    expect(watched.stdout).toMatch(
      /Run broke waits after step \d+, saved and off the GPU: `budget.deadline` .* passed/,
    );
    expect(watched.stdout).toContain('`anneal budget broke`');
    expect(watched.stdout).toContain('`anneal resume broke --wait`');
    expect(lastObject(await anneal(['watch', 'broke', '--json']))).toMatchObject({ state: 'paused' });
    const waiting = anneal(['watch', 'broke', '--keep-waiting', '--json']);
    gate.held.clear();
    const resumed = await anneal(['resume', 'broke', '--deadline', '1h', '--wait', '--json']);
    expect(lastObject(resumed)).toMatchObject({ status: 'completed' });
    expect((await waiting).code).toBe(0);
  });

  test('sweep --wait --json ends with its trials and its winner, and watch shows the table', async () => {
    const trials = [{ 'train.seed': 1 }, { 'train.seed': 2 }];
    const sweep = { name: 'seeds', spec: specOf('seeds', { queue: { team: 'research' } }), trials, rungs: [1] };
    writeFileSync(join(folder, 'seeds.json'), JSON.stringify(sweep));
    const ended = await anneal(['sweep', join(folder, 'seeds.json'), '--no-plan', '--wait', '--json']);
    expect(ended.code).toBe(0);
    const { sweep: id, winner, ...result } = lastObject(ended) as { sweep: string; winner: string };
    expect(id).toMatch(/^seeds-sweep-[0-9a-f]{12}$/);
    expect(result).toMatchObject({ status: 'completed', trials: [{ state: 'won' }, { state: 'lost' }] });
    const watched = await anneal(['watch', id]);
    expect(watched.code).toBe(0);
    expect(watched.stdout).toContain(`best: ${winner}`);
    expect(watched.stdout).toMatch(/-02 +lost +10 +0\.5000 +seed=2 +place 2 of 2 at 100 %/);
    const again = await anneal(['sweep', join(folder, 'seeds.json'), '--json']);
    expect(lastObject(again)).toMatchObject({ sweep: id, outcome: 'finished' });
    await client.cancelRun(`${id}-02`);
  });

  test('a schedule is made, listed and removed', async () => {
    expect((await anneal(['schedule', 'create', 'weekly', '--no-plan', '--cron', '0 3 * * 1', '--paused'])).code).toBe(
      0,
    );
    await vi.waitFor(
      async () => {
        const { stdout } = await anneal(['schedule', 'list', '--json']);
        expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ id: 'weekly', paused: true }));
      },
      { timeout: 30_000 },
    );
    expect((await anneal(['schedule', 'delete', 'weekly'])).stdout).toContain('Schedule weekly is deleted');
    expect((await anneal(['schedule', 'pause', 'weekly'])).code).toBe(1);
  });
});

describe('without a worker', () => {
  beforeAll(async () => {
    gate.held.add('orphan');
    await client.startRun(specOf('orphan'), { runId: 'orphan' });
    await describeUntil('orphan', ({ progress }) => progress !== null);
    // The shutdown ends the pretend training's sleep; only then may the gate open, or the run would go on while the workers drain.
    await workers.stop();
    gate.held.clear();
  });
  afterAll(async () => {
    workers = await startWorkers(env, code, gate);
  });

  test('a running run is read from its history, and the note says so', async () => {
    const description = await client.describeRun('orphan');
    expect(description.state).toBe('running');
    expect(description.note).toMatch(/this is what Temporal's history says/);
    expect(description.status.name).toBe('orphan');
    const states = Object.fromEntries(description.status.stages.map(({ stage, state }) => [stage, state]));
    expect(states).toMatchObject({ ingest: 'done', preprocess: 'done', register: 'waiting' });
  });

  test('a completed run has its whole result; a failed one its kind and sentence', async () => {
    expect(await client.describeRun('once')).toMatchObject({ state: 'completed', note: null, status: { version: 1 } });
    expect((await client.describeRun('broken')).status.failure).toMatchObject({ kind: 'loss_not_finite' });
  });
});
