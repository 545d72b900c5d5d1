// Models that read images: which they are, and what a run with one cannot do (yet), said before anything is spent.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Problem } from '../contracts/failure.ts';
import type { Spec } from '../contracts/spec.ts';

/** The trainer's own rule (`chat.py`): a part that sees, and what turns images into its pixels. */
export async function readsImages(folder: string): Promise<boolean> {
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as object;
  if (!('vision_config' in config)) return false;
  const files = ['preprocessor_config.json', 'processor_config.json'].map((name) => stat(join(folder, name)));
  return (await Promise.allSettled(files)).some(({ status }) => status === 'fulfilled');
}

/** Every problem of the spec with the base model in the folder, if it reads images. */
export async function visionProblems(folder: string, spec: Spec): Promise<Problem[]> {
  if (!(await readsImages(folder))) return [];
  const { train, until } = spec;
  const base = `\`model.base: ${spec.model.base}\`, which reads images`;
  const reasons: [boolean, string, string][] = [
    [train.method !== 'sft', 'train.method', 'must be `sft`'],
    [train.tuning === 'qlora', 'train.tuning', 'must be `lora` or `full`'],
    [train.packing, 'train.packing', 'must be false'],
    [train.streaming, 'train.streaming', 'must be false'],
    [train.tokenDropout > 0, 'train.tokenDropout', 'must be 0'],
    [train.strategy === 'fsdp' || train.strategy === 'deepspeed', 'train.strategy', 'must be `auto` or `ddp`'],
    [until === 'deploy', 'until', 'must be `register` or earlier (the gateway serves text alone)'],
  ];
  return reasons.flatMap(([holds, path, message]) => (holds ? [{ path, message: `${message} with ${base}` }] : []));
}
