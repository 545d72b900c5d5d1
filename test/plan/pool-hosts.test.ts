// Which host of the pool a plan counts with, and what a training of one host cannot get there.
import { expect, test } from 'vitest';
import type { PoolHost } from '../../src/contracts/pool.ts';
import { lackOfGpus, smallestHost } from '../../src/plan/pool-hosts.ts';
import { GIB, recipeOf } from './given.ts';

const host = (name: string, slots: number, gpuGib: number | null, memoryGib = 64): PoolHost => ({
  ...{ name, bootId: 'b', labels: '', slots, device: gpuGib === null ? 'cpu' : 'gpu' },
  memory: {
    memoryBytes: memoryGib * GIB,
    gpu: gpuGib === null ? null : { name: `G${gpuGib}`, memoryBytes: gpuGib * GIB },
  },
});
const silent: PoolHost = { name: 'old', bootId: 'b', labels: '', slots: 8, device: 'gpu' };

test.each([
  ['the one with the smallest GPU', [host('a', 8, 80), host('b', 8, 24)], {}, 'b'],
  ['not one with fewer GPUs than ranks', [host('a', 8, 80), host('b', 2, 24)], { processes: 4 }, 'a'],
  ['a host with GPUs rather than one without', [host('a', 8, 80), host('c', 2, null, 8)], {}, 'a'],
  ['one without where processors are asked for', [host('a', 8, 80), host('c', 2, null, 8)], { device: 'cpu' }, 'c'],
  ['of hosts without GPUs the one with the least memory', [host('c', 4, null, 8), host('d', 4, null, 16)], {}, 'c'],
  ['nobody where no host has told its memory', [silent], {}, undefined],
  ['only those that have told theirs', [silent, host('a', 8, 80)], {}, 'a'],
] as const)('a plan counts with %s', (_, hosts, recipe, name) => {
  expect(smallestHost([...hosts], recipeOf(recipe))?.name).toBe(name);
});

test('more ranks than the largest host has GPUs are refused by name, unless hosts share them', () => {
  const hosts = [host('a', 4, 80), host('b', 2, 24)];
  expect(lackOfGpus(hosts, recipeOf({ processes: 4 }))).toEqual([]);
  expect(lackOfGpus(hosts, recipeOf({ processes: 8 }))).toEqual([
    {
      path: 'train.processes',
      message: expect.stringMatching(/^must be at most 4, because the pool’s largest host a has 4 GPUs, got 8; /),
    },
  ]);
  expect(lackOfGpus(hosts, recipeOf({ processes: 8, hosts: 2 }))).toEqual([]);
  expect(lackOfGpus(hosts, recipeOf({ processes: 8, device: 'cpu' }))).toEqual([]);
  expect(lackOfGpus([host('c', 2, null)], recipeOf({ processes: 8 }))).toEqual([]);
});
