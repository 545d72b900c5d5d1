// What makes `preprocess` do its work again: the rows and the tokenizer with its template, not the name of the model.
import { appendFileSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterAll, expect, test } from 'vitest';
import type { Parts } from '../../src/activities/parts.ts';
import { createPreprocessActivities } from '../../src/activities/preprocess.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { PreprocessResult } from '../../src/contracts/stages.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';

const folder = mkdtempSync(join(tmpdir(), 'anneal-preprocess-'));
afterAll(() => rmSync(folder, { recursive: true }));

const store = createFileStore(join(folder, 'store'));
const parts: Parts = {
  store,
  python: {
    executable: join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python'),
    packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
    environment: { PATH: process.env.PATH ?? '' },
  },
  state: join(folder, 'state'),
  models: join(folder, 'models'),
  examples: folder,
  host: 'here',
  gatewayUrl: '',
};

async function preprocess(base: string): Promise<PreprocessResult> {
  const spec = parseSpec({
    name: 'colours',
    model: { base },
    data: { sources: [{ uri: join(folder, 'rows.jsonl') }], split: { test: 0.2, validation: 0 } },
  });
  const context = { examplesFolder: folder, readS3: async () => null };
  const { digest } = await takeSnapshot(store, spec, context, () => undefined);
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR') });
  const activity = createPreprocessActivities(parts, { sources: context, pseudonymKey: null }).preprocess;
  return (await environment.run(activity, { run: 'colours-1', spec, snapshot: digest })) as PreprocessResult;
}

const receipts = async () => (await store.list('runs/colours-1/stages/preprocess-')).length;

test('another name for the same tokenizer is the same work; a changed template is not', async () => {
  for (let i = 0; i < 40; i++)
    appendFileSync(join(folder, 'rows.jsonl'), `${JSON.stringify({ question: `colour ${i}?`, answer: 'red' })}\n`);
  for (const name of ['a', 'b'])
    cpSync(join(PROJECT_FOLDER, '.anneal', 'models', 'tiny'), join(parts.models, name), { recursive: true });
  const first = await preprocess('a');
  expect(first.accounts).toMatchObject({ rowsIn: 40, kept: 40 });
  expect(await preprocess('b')).toEqual(first);
  expect(await receipts()).toBe(1);
  appendFileSync(join(parts.models, 'a', 'chat_template.jinja'), '{# another #}!');
  const again = await preprocess('a');
  expect(again.dataset).not.toBe(first.dataset);
  expect(await receipts()).toBe(2);
});
