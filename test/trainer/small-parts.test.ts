// The parts of supervision that are a few lines each: step comparison, save pacing, recipe changes, counters of the kernel.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isExact } from '../../src/contracts/gang-size.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { startChild } from '../../src/trainer/child.ts';
import type { StepEvent } from '../../src/trainer/event-log.ts';
import { countOomKills } from '../../src/trainer/oom-kills.ts';
import { changedRecipe, changesAt, lineageOf, lineagesUpTo } from '../../src/trainer/recipe-changes.ts';
import { createSavePacing } from '../../src/trainer/save-pacing.ts';
import { createStepRecord } from '../../src/trainer/step-record.ts';

describe('steps done again', () => {
  const step = (n: number, loss: number, gradNorm = 1): StepEvent => ({
    ...{ ev: 'step', step: n, of: 9, epoch: 1, loss, gradNorm, learningRate: 1, tokens: n, seconds: 1 },
  });

  test('are known, and compared to the bit', () => {
    const record = createStepRecord([]);
    expect(record.seen(step(1, 0.1))).toBe('new');
    expect(record.seen(step(1, 0.1))).toBe('same');
    expect(record.seen(step(1, 0.1 + 2 ** -54))).toEqual({ difference: expect.stringContaining('loss 0.1 then') });
    expect(record.seen(step(1, 0.1, 2))).toEqual({ difference: expect.stringContaining('gradient norm 1 then 2') });
  });

  test('of an earlier attempt count too', () => {
    const record = createStepRecord([step(1, 0.1), step(2, 0.2)]);
    expect(record.seen(step(2, 0.2))).toBe('same');
    expect(record.seen(step(3, 0.3))).toBe('new');
  });

  test('after a change of the recipe are still known, and no longer compared', () => {
    const record = createStepRecord([step(1, 0.1), step(2, 0.2)]);
    record.forget();
    expect(record.seen(step(2, 0.9))).toBe('same');
  });
});

test('what a killed child leaves among its temporary files goes with it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-child-'));
  const executable = join(folder, 'python');
  writeFileSync(executable, '#!/bin/sh\ntouch "$TMPDIR/left" && echo "$TMPDIR" > where && kill -9 $$\n', {
    mode: 0o755,
  });
  const python = { executable, packageFolder: folder, environment: {} };
  const end = await startChild({ python, job: {} as never, folder, graceMs: 0, onEvent: () => undefined }).ended;
  expect(end.signal).toBe('SIGKILL');
  const temporary = readFileSync(join(folder, 'where'), 'utf8').trim();
  expect([temporary.startsWith(tmpdir()), existsSync(temporary)]).toEqual([true, false]);
});

describe('pace of checkpoints', () => {
  test('the first comes soon, the others so that they cost 1 %', () => {
    const pacing = createSavePacing(0);
    expect(pacing.isDue(9_000)).toBe(false);
    expect(pacing.isDue(10_000)).toBe(true);
    pacing.asked(10_000);
    expect(pacing.isDue(10_001)).toBe(false);
    pacing.saved(0.3, 11_000);
    pacing.committed(0.1);
    expect(pacing.isDue(11_000 + 39_000)).toBe(false);
    expect(pacing.isDue(11_000 + 40_001)).toBe(true);
  });

  test('neither cheap nor dear ones leave the bounds', () => {
    const pacing = createSavePacing(0);
    pacing.saved(0.000_1, 0);
    expect(pacing.isDue(9_999)).toBe(false);
    expect(pacing.isDue(10_001)).toBe(true);
    pacing.saved(3_600, 0);
    expect(pacing.isDue(600_001)).toBe(true);
  });
});

describe('changes of the recipe', () => {
  const recipe = { ...parseSpec({}).train, microBatch: 8, accumulation: 2 };
  const inputs = { baseDigest: 'b', dataset: { digest: 'd', files: [] }, recipe };
  const SAME = { factor: 1, processesMax: Number.POSITIVE_INFINITY };
  const HALF = { ...SAME, factor: 2 };

  test('keep the effective batch', () => {
    const changes = changesAt(recipe, changesAt(recipe, [], 10, HALF), 30, HALF);
    expect(changes).toEqual([
      { atStep: 10, microBatch: 4, accumulation: 4 },
      { atStep: 30, microBatch: 2, accumulation: 8 },
    ]);
    expect(changedRecipe(recipe, changes)).toMatchObject({ microBatch: 2, accumulation: 8 });
  });

  test.each([
    // [processes, accumulation] that the recipe says, GPUs, what becomes of it.
    [4, 1, 2, { processes: 2, accumulation: 2 }],
    [4, 1, 3, { processes: 2, accumulation: 2 }],
    [3, 2, 2, { processes: 2, accumulation: 3 }],
    [3, 1, 2, { processes: 1, accumulation: 3 }],
    [4, 2, 1, { processes: 1, accumulation: 8 }],
  ])('%i processes × %i micro-batches go on with %i GPUs', (processes, accumulation, processesMax, now) => {
    const gang = { ...recipe, processes, accumulation };
    const changes = changesAt(gang, [], 10, { factor: 1, processesMax });
    expect(changes).toEqual([{ atStep: 10, microBatch: 8, ...now }]);
    expect(changesAt(gang, changes, 20, { factor: 1, processesMax })).toEqual(changes);
    // Half the micro-batch leaves more ways to divide the rest.
    const smaller = changedRecipe(gang, changesAt(gang, changes, 20, { factor: 2, processesMax }));
    expect(smaller.processes).toBeLessThanOrEqual(processesMax);
    expect(smaller.microBatch * smaller.accumulation * smaller.processes).toBe(8 * accumulation * processes);
    const again = changesAt(gang, changes, 30, { factor: 1, processesMax: 16 });
    expect(changedRecipe(gang, again)).toMatchObject({ processes, accumulation });
  });

  test.each([
    // Hosts, ranks on each and micro-batches that the recipe says; what somebody wants; what becomes of it; whether the bytes stay.
    [[2, 1, 2], { hosts: 1, processes: 1 }, { hosts: 1, processes: 1, accumulation: 4 }, false],
    [[2, 1, 2], { hosts: 1, processes: 2 }, { hosts: 1, processes: 2, accumulation: 2 }, true],
    [[1, 2, 1], { hosts: 2, processes: 1 }, { hosts: 2, processes: 1, accumulation: 1 }, true],
    [[2, 2, 3], { hosts: 3, processes: 4 }, { hosts: 3, processes: 4, accumulation: 1 }, false],
  ] as const)('hosts, ranks and micro-batches %j go on with %j', (of, size, now, isSame) => {
    const [hosts, processes, accumulation] = of;
    const gang = { ...recipe, hosts, processes, accumulation };
    const changes = changesAt(gang, [], 10, { ...SAME, size });
    expect(changedRecipe(gang, changes)).toMatchObject({ ...now, microBatch: 8 });
    expect(changesAt(gang, changes, 20, { ...SAME, size })).toEqual(changes);
    expect(isExact(gang, changes)).toBe(isSame);
    expect(changedRecipe(gang, changesAt(gang, changes, 20, SAME))).toEqual(gang);
  });

  test('a number of hosts that would change the effective batch is refused', () => {
    const gang = { ...recipe, hosts: 2 };
    expect(() => changesAt(gang, [], 10, { ...SAME, size: { hosts: 3, processes: 1 } })).toThrow(
      /^Each step has 8 micro-batches of 8, which 3 hosts with 1 rank each cannot share equally/,
    );
  });

  test('none lies after the step that is resumed at', () => {
    const changes = [
      { atStep: 10, microBatch: 4, accumulation: 4 },
      { atStep: 30, microBatch: 2, accumulation: 8 },
    ];
    expect(changesAt(recipe, changes, 20, SAME)).toEqual([changes[0], { ...changes[1], atStep: 20 }]);
    expect(changesAt(recipe, changes, 5, SAME)).toEqual([{ ...changes[1], atStep: 5 }]);
  });

  test('give another lineage, which accepts checkpoints from before them', () => {
    const changes = changesAt(recipe, [], 10, HALF);
    expect(lineageOf(inputs, changes)).not.toBe(lineageOf(inputs, []));
    expect(lineagesUpTo(inputs, changes)).toEqual([lineageOf(inputs, []), lineageOf(inputs, changes)]);
  });
});

describe('kills for want of memory', () => {
  function system(files: Record<string, string>): string {
    const root = mkdtempSync(join(tmpdir(), 'anneal-system-'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return root;
  }
  const V1 = 'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n';

  test.each([
    ['cgroup v2', { 'proc/self/cgroup': '0::/a/b\n', 'sys/fs/cgroup/a/b/memory.events': 'oom 9\noom_kill 2\n' }, 2],
    [
      'cgroup v1',
      { 'proc/self/cgroup': '3:cpu:/\n4:memory:/a\n0::/\n', 'sys/fs/cgroup/memory/a/memory.oom_control': V1 },
      3,
    ],
    [
      'a container that sees its group at the top',
      { 'proc/self/cgroup': '0::/../x\n', 'sys/fs/cgroup/memory.events': 'oom_kill 1\n' },
      1,
    ],
    [
      'a v1 container likewise',
      { 'proc/self/cgroup': '4:memory:/a/b/c\n', 'sys/fs/cgroup/memory/memory.oom_control': V1 },
      3,
    ],
    ['none', {}, null],
  ] as [string, Record<string, string>, number | null][])('%s', (_name, files, expected) => {
    expect(countOomKills(system(files))).toBe(expected);
  });

  test('this system has a counter or none, and asking is no error', () => {
    expect(() => countOomKills()).not.toThrow();
  });
});
