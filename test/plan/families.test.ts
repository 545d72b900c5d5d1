// What is counted in files is what the trainer counts in the model, whatever the family.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import { readModelShape } from '../../src/plan/model-shape.ts';
import { countParameters, hasExperts } from '../../src/plan/parameters.ts';
import { recipeOf } from './given.ts';

const { python } = locateLocal();

test('parameters of every family, all of them and those of adapters', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-families-'));
  try {
    const output = execFileSync(python.executable, [join(python.packageFolder, 'tests/families.py'), folder], {
      encoding: 'utf8',
      env: { ...process.env, ...python.environment, PYTHONPATH: python.packageFolder, HF_HUB_OFFLINE: '1' },
    });
    const counts = JSON.parse(output.trim().split('\n').at(-1) ?? '') as Record<string, Counts>;
    expect(Object.keys(counts).length).toBeGreaterThan(20);
    for (const [family, { whole, adapted, experts }] of Object.entries(counts)) {
      const shape = await readModelShape(join(folder, family));
      expect(countParameters(shape, recipeOf({ tuning: 'full' })), family).toMatchObject(whole);
      expect(countParameters(shape, recipeOf({ lora: { rank: 16 } })), family).toMatchObject(adapted);
      expect(hasExperts(shape), family).toBe(experts !== undefined);
      if (experts !== undefined)
        expect(countParameters(shape, recipeOf({ lora: { experts: true } })), family).toMatchObject(experts);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  // Python imports each family.
}, 240_000);

interface Counts {
  whole: { trainable: number; total: number };
  adapted: { trainable: number; total: number };
  /** With their experts adapted. */
  experts?: { trainable: number; total: number };
}
