// Base models: a folder by name, checked before anything is spent on it, with the digest that goes into every record.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { digestOf } from '../storage/digest.ts';

export interface BaseModel {
  name: string;
  folder: string;
  /** SHA-256 over the names and digests of the files that decide its output. */
  digest: string;
}

const DECIDING = /\.(safetensors|json|jinja|model|txt)$/;

/** @throws AnnealError `bad_request` naming what the folder lacks. */
export async function openBaseModel(name: string, modelsFolder: string): Promise<BaseModel> {
  const folder = await findBaseModel(name, modelsFolder);
  const files = (await readdir(folder)).filter((file) => DECIDING.test(file)).sort();
  const digests = await Promise.all(files.map(async (file) => [file, await hashFile(join(folder, file))]));
  return { name, folder, digest: digestOf(digests) };
}

/** The folder, without reading the weights. */
export async function findBaseModel(name: string, modelsFolder: string): Promise<string> {
  const folder = isAbsolute(name) ? name : join(modelsFolder, name);
  const files = await readdir(folder).catch(() => null);
  if (files === null) {
    const known = (await readdir(modelsFolder).catch(() => [])).filter((entry) => !entry.startsWith('.'));
    throw new AnnealError(
      'bad_request',
      `\`model.base\` ${name} is not a folder (looked at ${folder}); known are ${known.join(', ') || 'none'}. Name one of them or give an absolute path.`,
    );
  }
  const lacks = (wanted: string, present: boolean) => (present ? [] : [wanted]);
  const missing = [
    ...lacks('config.json', files.includes('config.json')),
    ...lacks('a tokenizer (tokenizer.json)', files.includes('tokenizer.json')),
    ...lacks(
      'weights (*.safetensors)',
      files.some((file) => file.endsWith('.safetensors')),
    ),
  ];
  if (missing.length > 0) {
    throw new AnnealError(
      'bad_request',
      `\`model.base\` ${name} in ${folder} lacks ${missing.join(' and ')}; add it or name another model.`,
    );
  }
  return folder;
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  const { size } = await stat(path);
  for await (const chunk of createReadStream(path, { highWaterMark: Math.min(Math.max(size, 1), 1024 * 1024) }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}
