// Memory by arithmetic: what a recipe's choices do to it, what is said when it does not fit, and what a probe changes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ProbeResult } from '../../src/contracts/trainer-protocol.ts';
import { fixedOf, type MemoryQuestion, predictMemory, totalOf } from '../../src/plan/memory.ts';
import { checkMemory, judge, requireFit, wantsProbe } from '../../src/plan/memory-check.ts';
import { readModelShape } from '../../src/plan/model-shape.ts';
import { countParameters } from '../../src/plan/parameters.ts';
import { extrapolate } from '../../src/plan/probe.ts';
import { findRemedies } from '../../src/plan/remedies.ts';
import { CPU_HOST, GIB, H100, llama8b, question, writeModel } from './given.ts';

const total = (fields: object, more: Parameters<typeof question>[1] = {}) =>
  totalOf(predictMemory(question(fields, more)));

describe('arithmetic', () => {
  test('an 8-billion model: weights in bf16 for LoRA, and 4 + 4 + 8 bytes and a narrow copy for each weight in full', () => {
    expect(predictMemory(question()).parameters / GIB).toBeCloseTo(15.1, 0);
    const { parameters, gradients, optimizer } = predictMemory(question({ tuning: 'full' }));
    expect(gradients / 4).toBe(8_030_261_248);
    expect(optimizer / gradients).toBe(2);
    expect(parameters / gradients).toBe(1.5);
  });

  test.each([
    ['gradient checkpointing', { gradientCheckpointing: true }, {}],
    ['a smaller micro-batch', { microBatch: 4 }, {}],
    ['quantisation', { tuning: 'qlora' }, { gradientCheckpointing: true }],
    ['an 8-bit optimizer', { tuning: 'full', optimizer: 'adamw8bit' }, { tuning: 'full' }],
    ['LoRA', {}, { tuning: 'full' }],
    ['adapting fewer layers', { lora: { firstLayer: 16 } }, {}],
  ])('%s needs less', (_what, less, more) => {
    expect(total(less)).toBeLessThan(0.95 * total(more));
  });

  test('a reference model and pairs need more', () => {
    expect(total({ method: 'dpo' })).toBeGreaterThan(total({}));
    expect(total({ method: 'dpo', tuning: 'full' }) - total({ tuning: 'full' })).toBeGreaterThan(15 * GIB);
  });

  test('preferences of an adapter that is continued need a second one', () => {
    const parameters = (train: object) => predictMemory(question(train)).parameters;
    const from = 'support@3';
    const adapter = 4 * countParameters(question().shape, question().recipe).trainable;
    expect(parameters({ method: 'dpo', from }) - parameters({ method: 'dpo' })).toBe(adapter);
    expect(parameters({ from })).toBe(parameters({}));
    expect(parameters({ method: 'dpo', tuning: 'full', from })).toBe(parameters({ method: 'dpo', tuning: 'full' }));
  });

  test('of several ranks, DDP has its gradients twice, ZeRO 2 and 3 and FSDP a part each', () => {
    const by = (sharding: 'ddp' | 'zero2' | 'zero3' | 'fsdp') =>
      predictMemory(question({ tuning: 'full', processes: 4 }, { sharding, ranks: 4 }));
    const alone = predictMemory(question({ tuning: 'full' }));
    expect(by('ddp')).toEqual({ ...alone, gradients: 2 * alone.gradients });
    expect(by('zero2')).toEqual({ ...alone, gradients: alone.gradients / 4, optimizer: alone.optimizer / 4 });
    expect(by('zero3').parameters).toBe(alone.parameters / 4);
    expect(by('fsdp')).toEqual(by('zero3'));
  });

  test('a part is smaller with more hosts; what a host keeps to start again is shared by its own ranks', () => {
    const on = (hosts: number) =>
      predictMemory(
        question({ tuning: 'full', processes: 4, hosts }, { sharding: 'zero3', ranks: 4 * hosts, device: 'cpu' }),
      );
    const [one, two] = [on(1), on(2)];
    expect(two.parameters).toBe(one.parameters / 2);
    expect(two.optimizer).toBe(one.optimizer / 2);
    const kept = (4 * 8_030_261_248) / 4;
    expect(two.recovery - kept).toBe((one.recovery - kept) / 2);
  });
});

describe('recovery', () => {
  test('on CPUs the parent keeps weights that all change, but with FSDP, whose ranks take their parts from the files', () => {
    const by = (sharding: 'ddp' | 'zero3' | 'fsdp') =>
      predictMemory(question({ tuning: 'full', processes: 4 }, { device: 'cpu', sharding, ranks: 4 }));
    const { parameters, recovery } = by('zero3');
    expect(recovery - by('fsdp').recovery).toBe(parameters);
    expect(by('ddp').recovery).toBeGreaterThan(recovery);
  });
});

describe('verdict', () => {
  test.each([
    [10, 12, 'fits'],
    [11, 12, 'tight'],
    [13, 12, 'too_large'],
  ])('%d of %d is %s', (bytes, limit, verdict) => {
    expect(judge(bytes, limit)).toBe(verdict);
  });

  test('what is far from the limit is not probed, nor what cannot fit, nor ranks with a part each on several hosts', () => {
    expect(wantsProbe(question({ microBatch: 1 }), H100)).toBe(false);
    expect(wantsProbe(question({ microBatch: 8 }), H100)).toBe(true);
    expect(fixedOf(predictMemory(question({ tuning: 'full' })))).toBeGreaterThan(80 * GIB);
    expect(wantsProbe(question({ tuning: 'full' }), H100)).toBe(false);
    const ranks = { processes: 2, microBatch: 8 };
    expect(wantsProbe(question(ranks, { sharding: 'fsdp', ranks: 2 }), H100)).toBe(true);
    expect(wantsProbe(question({ ...ranks, hosts: 2 }, { sharding: 'fsdp', ranks: 4 }), H100)).toBe(false);
  });

  test('what does not fit is refused with every change that is enough and what it would need', () => {
    const asked = question({ microBatch: 16, accumulation: 2 });
    const check = checkMemory(asked, H100, null);
    expect(check.verdict).toBe('too_large');
    expect(() => requireFit(check, asked.recipe)).toThrow(/`train.microBatch` 16 training needs .* GiB/);
    expect(() => requireFit(check, asked.recipe)).toThrow(
      /`train.microBatch: \d+` with `train.accumulation: \d+` \(\d.* GiB\)/,
    );
    expect(() => requireFit(check, asked.recipe)).toThrow(/`train.gradientCheckpointing: true`/);
    expect(check.remedies.map(({ change }) => change)).not.toContain('train.tuning: lora');
  });

  test('where no single change is enough, that is said', () => {
    const asked = question({ tuning: 'full', microBatch: 64 });
    const check = checkMemory(asked, { ...H100, gpus: [{ name: 'L4', memoryBytes: 22 * GIB }] }, null);
    expect(() => requireFit(check, asked.recipe)).toThrow(/No single change is enough; the most saves/);
  });

  test('a CPU host shares its memory among the ranks', () => {
    const ranks = question({ processes: 2 }, { device: 'cpu', sharding: 'ddp', ranks: 2 });
    expect(checkMemory(ranks, CPU_HOST, null).limitBytes).toBe(32 * GIB);
  });
});

describe('remedies', () => {
  const remediesOf = (asked: MemoryQuestion, limitBytes: number) =>
    findRemedies(asked, { limitBytes, bytes: totalOf(predictMemory(asked)), atRows: () => null });

  test('the smaller micro-batch is the largest divisor that fits, and keeps the effective batch', () => {
    const asked = question({ microBatch: 12, accumulation: 3 });
    const limit = totalOf(
      predictMemory(question({ microBatch: 12 }, { batch: { rows: 4, tokens: 1024, labels: 0.5 } })),
    );
    expect(remediesOf(asked, limit).map(({ change }) => change)).toContain(
      'train.microBatch: 4 with train.accumulation: 9',
    );
  });

  test('kto keeps two rows, and a micro-batch of 1 asks for shorter rows', () => {
    expect(remediesOf(question({ method: 'kto', microBatch: 2 }), GIB).map(({ change }) => change)).not.toContainEqual(
      expect.stringContaining('microBatch'),
    );
    expect(remediesOf(question({ microBatch: 1 }), GIB).map(({ change }) => change)).toContain('data.maxLength: 512');
  });
});

describe('probe', () => {
  const point = (rows: number, bytes: number | null, saveBytes = bytes) => ({
    rows,
    bytes,
    saveBytes,
    tokens: 100,
    seconds: 1,
  });
  const probe = (...points: ProbeResult['points']): ProbeResult => ({ points });

  test('the peak lies on the line through two points', () => {
    expect(extrapolate(probe(point(2, 100), point(4, 160)), 8)).toBe(280);
    expect(extrapolate(probe(point(1, 70)), 1)).toBe(70);
  });

  test('it is never below what writing a checkpoint takes', () => {
    expect(extrapolate(probe(point(1, 70), point(2, 80, 500)), 4)).toBe(500);
  });

  test('what did not fit is too large however small it was thought to be, and what did fit is what to change to', () => {
    const asked = question({ microBatch: 2 });
    const tried = probe(point(1, 50 * GIB), point(2, null));
    expect([extrapolate(tried, 1), extrapolate(tried, 2), extrapolate(tried, 3)]).toEqual([50 * GIB, null, null]);
    const check = checkMemory(asked, H100, tried);
    expect(check.verdict).toBe('too_large');
    expect(check.remedies).toContainEqual({
      change: 'train.microBatch: 1 with train.accumulation: 2',
      bytes: 50 * GIB,
    });
  });

  test('a measurement replaces arithmetic, and remedies are scaled by it', () => {
    const asked = question({ microBatch: 8 });
    const check = checkMemory(asked, H100, probe(point(2, 40 * GIB), point(4, 60 * GIB)));
    expect(check).toMatchObject({ how: 'probe', bytes: 100 * GIB, verdict: 'too_large' });
    expect(check.remedies.find(({ change }) => change.startsWith('train.microBatch: 4'))?.bytes).toBe(60 * GIB);
  });

  test('DDP adds its buckets to what one process was measured with', () => {
    const asked = question({ tuning: 'full', microBatch: 2 }, { sharding: 'ddp', ranks: 2 });
    const check = checkMemory(asked, H100, probe(point(1, GIB), point(2, 2 * GIB)));
    expect(check.bytes).toBe(2 * GIB + 4 * 8_030_261_248);
  });
});

describe('images', () => {
  const sight = { patchesPerToken: 4, numbersPerPatch: 1176, hidden: 384, intermediate: 1536 };

  test('a row of one image of 448 × 448 takes what was measured, recomputed or not', () => {
    // Qwen2-VL's kind with a small language model, on a CPU: 43 MB a row (in full 38), 256 of its 301 tokens the image's.
    const shape = { ...llama8b(), sight, layers: 2, hidden: 128, intermediate: 256, queries: 128, keys: 128 };
    const rows = (microBatch: number, more: object) => {
      const asked = question({ microBatch, ...more }, { device: 'cpu' });
      const batch = { rows: microBatch, tokens: 301, labels: 0 };
      return predictMemory({ ...asked, shape: { ...shape, vocabulary: 263 }, batch }).activations;
    };
    for (const more of [{}, { gradientCheckpointing: true }, { tuning: 'full' }]) {
      const megabytes = (rows(8, more) - rows(4, more)) / 4 / 1e6;
      expect(megabytes).toBeGreaterThan(38);
      expect(megabytes).toBeLessThan(48);
    }
  });

  test('a layer of what sees is gone when a large language model has what it keeps; pixels stay', () => {
    const tokens = 8 * 1024;
    const [blind, seeing] = [question(), question({}, { shape: { ...llama8b(), sight } })].map(predictMemory);
    expect((seeing?.activations ?? 0) - (blind?.activations ?? 0)).toBe(tokens * 4 * 1176 * (4 + 2));
  });

  test.each([
    ['Qwen2-VL', { patch_size: 14, embed_dim: 1280, spatial_merge_size: 2, temporal_patch_size: 2 }, {}, 4, 1176, 5120],
    ['Idefics3', { patch_size: 14, hidden_size: 1152, intermediate_size: 4304 }, { scale_factor: 2 }, 4, 588, 4304],
    ['LLaVA', { patch_size: 14, image_size: 336, hidden_size: 1024, intermediate_size: 4096 }, {}, 1, 588, 4096],
    [
      ...['Gemma 3', { patch_size: 14, image_size: 896, hidden_size: 1152, intermediate_size: 4304 }],
      ...[{ mm_tokens_per_image: 256 }, 16, 588, 4304],
    ],
    [
      ...['InternVL', { patch_size: [14, 14], image_size: [448, 448], hidden_size: 1024, intermediate_size: 4096 }],
      ...[{ downsample_ratio: 0.5 }, 4, 588, 4096],
    ],
  ] as [string, object, object, number, number, number][])(
    'sizes of what sees are read from the configuration: %s',
    async (family, vision_config, more, patchesPerToken, numbersPerPatch, intermediate) => {
      const folder = mkdtempSync(join(tmpdir(), `anneal-sight-${family[0]}-`));
      try {
        const shape = await readModelShape(writeModel(folder, llama8b(), { vision_config, ...more }));
        expect(shape.sight).toMatchObject({ patchesPerToken, numbersPerPatch, intermediate });
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
