// The little data set of a drill, and its spec: enough to train on, the same every time.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { SpecInput } from '../../contracts/spec.ts';

const ROWS = 64;
export const DRILL_STEPS = 40;

export function writeDrillRows(folder: string): string {
  const rows = Array.from({ length: ROWS }, (_, i) => ({
    messages: [
      { role: 'user', content: `Read meter ${i + 1} and add ${(i * 7) % 23}.` },
      { role: 'assistant', content: `Meter ${i + 1}: ${i + 1 + ((i * 7) % 23)}.` },
    ],
  }));
  const file = join(folder, 'drill.jsonl');
  writeFileSync(file, `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`);
  return pathToFileURL(file).href;
}

export function drillSpec(source: string, base: string): SpecInput {
  return {
    name: 'drill',
    model: { base },
    data: {
      sources: [{ uri: source }],
      system: 'Answer with the reading.',
      split: { test: 0.1, validation: 0 },
      maxLength: 128,
    },
    train: { epochs: 10, maxSteps: DRILL_STEPS, microBatch: 2, saveSteps: 5, learningRate: 0.001 },
    until: 'train',
  };
}
