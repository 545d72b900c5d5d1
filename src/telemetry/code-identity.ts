// Which code this is: package version, git commit where there is one, and a digest of the sources.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface CodeIdentity {
  version: string;
  gitCommit: string | null;
  /** SHA-256 over the sources that decide a model's bytes: the pipeline and the trainer. */
  digest: string;
}

/** The folder that holds `package.json`. */
export const PROJECT_FOLDER = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** What decides a model's bytes; ways in, views and the dev stack do not. */
const DECIDING = [
  'src/contracts',
  'src/data',
  'src/trainer',
  'gpu-activity-image/anneal_trainer',
  'gpu-activity-image/requirements.txt',
];

let known: CodeIdentity | null = null;

export function codeIdentity(): CodeIdentity {
  known ??= {
    version: (JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8')) as { version: string }).version,
    gitCommit: gitCommit(),
    digest: digestOfSources(),
  };
  return known;
}

function gitCommit(): string | null {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], {
      cwd: PROJECT_FOLDER,
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 5000,
    })
      .toString()
      .trim();
  } catch {
    return null; // an image or an archive has no repository
  }
}

function digestOfSources(): string {
  const hash = createHash('sha256');
  for (const entry of DECIDING) {
    for (const file of filesOf(join(PROJECT_FOLDER, entry))) {
      hash
        .update(`${relative(PROJECT_FOLDER, file)}\0`)
        .update(readFileSync(file))
        .update('\0');
    }
  }
  return hash.digest('hex');
}

function filesOf(path: string): string[] {
  if (!existsSync(path)) return [];
  if (path.endsWith('.txt')) return [path];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|js|py)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
