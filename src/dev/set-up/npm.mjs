// The npm packages, exactly as locked.
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findNode } from './node.mjs';
import { COMPILE_CACHE, PROJECT } from './places.mjs';
import { NETWORK_REMEDY } from './python.mjs';
import { digestOf } from './stamps.mjs';
import { runTool } from './tool.mjs';

const MODULES = join(PROJECT, 'node_modules');

export const npmPackages = {
  name: 'npm packages',
  stamp: 'npm-packages',
  what: 'npm ci',
  digest: () => digestOf([`file:${join(PROJECT, 'package-lock.json')}`, `file:${join(PROJECT, 'package.json')}`]),
  isPresent: () => existsSync(join(MODULES, '.package-lock.json')),
  /** What is installed is what is locked, whoever installed it; npm writes its hidden lock last. */
  isSatisfied: () =>
    sameVersions(readLock(join(PROJECT, 'package-lock.json')), readLock(join(MODULES, '.package-lock.json'))),
  async run(task) {
    const [command, args] = findNpm();
    await runTool(command, [...args, 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: PROJECT,
      onLine: (line) => task.detail(line),
      what: '`npm ci`',
      remedy: NETWORK_REMEDY,
    });
    linkOwnCommand();
  },
};

/** The npm that called us, which is the machine's; the Node wheel's is not usable. */
function findNpm() {
  const caller = process.env.npm_execpath;
  if (caller && basename(caller) === 'npm-cli.js' && existsSync(caller)) return [process.execPath, [caller]];
  return ['npm', []];
}

/** With this link `npx anneal` starts at once instead of asking npm's resolver about this very package. */
function linkOwnCommand() {
  const folder = join(MODULES, '.bin');
  mkdirSync(folder, { recursive: true });
  const link = join(folder, 'anneal');
  if (!existsSync(link)) symlinkSync('../../src/dev/bootstrap.mjs', link);
}

/** Every package that is installed is the locked one, and only optional ones (other platforms') are missing. */
function sameVersions(locked, installed) {
  if (locked === null || installed === null) return false;
  const names = Object.keys(locked).filter((name) => name !== '');
  return names.every((name) =>
    installed[name] ? installed[name].version === locked[name].version : locked[name].optional === true,
  );
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return null;
  }
}

/** Environment in which tools that call plain `node` get the right one. */
export function environmentWithNode() {
  const folder = join(findNode(), '..');
  // Compiled sources are kept, with their types taken out: half of what a short command would cost.
  const { PATH, NODE_COMPILE_CACHE = COMPILE_CACHE } = process.env;
  return { ...process.env, PATH: `${folder}:${PATH}`, NODE_COMPILE_CACHE };
}
