// Remembers which steps of the set-up are done, and for which inputs: a step is done when its stamp holds the digest of its inputs.
// A stamp is overwritten before its step begins, so a set-up that was killed half-way begins that step again.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { STAMPS } from './places.mjs';

/** Digest of texts and files: inputs that begin with `file:` are read; a missing file counts as empty. */
export function digestOf(inputs) {
  const hash = createHash('sha256');
  for (const input of inputs) {
    const content = input.startsWith('file:') ? readOrEmpty(input.slice('file:'.length)) : input;
    hash.update(`${content.length}:`).update(content);
  }
  return hash.digest('hex');
}

/** The digest that the step was last done for, or null. */
export function readStamp(name) {
  const content = readOrEmpty(join(STAMPS, name)).toString().trim();
  return content === '' ? null : content;
}

export function writeStamp(name, digest) {
  mkdirSync(STAMPS, { recursive: true });
  const draft = join(STAMPS, `.${name}.${process.pid}`);
  writeFileSync(draft, `${digest}\n`);
  renameSync(draft, join(STAMPS, name));
}

export function removeStamp(name) {
  const path = join(STAMPS, name);
  if (existsSync(path)) unlinkSync(path);
}

function readOrEmpty(path) {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}
