// The set-up on machines that lack something: one sentence with the remedy. A copy of its scripts runs against tiny programs in place of Python
// and npm, so that nothing is downloaded; the whole set-up is what a clean clone in CI runs.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const PROJECT = resolve(import.meta.dirname, '../..');

let copy: string;
let binaries: string;

beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), 'anneal-set-up-'));
  binaries = join(copy, 'bin');
  mkdirSync(binaries);
  cpSync(join(PROJECT, 'src', 'dev'), join(copy, 'src', 'dev'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(PROJECT, file), join(copy, file));
});

afterEach(() => {
  for (const pid of toolsOf(join(copy, '.anneal', 'set-up-tools'))) process.kill(Number(pid), 'SIGKILL');
  rmSync(copy, { recursive: true, force: true });
});

const environment = () => ({ PATH: `${binaries}:/usr/bin:/bin`, HOME: copy });

function program(name: string, script: string): void {
  const path = join(binaries, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Every name under which the set-up looks for Python. */
function pythons(script: string): void {
  for (const name of ['python3', 'python3.13', 'python3.12', 'python3.11', 'python']) program(name, script);
}

function bootstrap(...args: string[]) {
  const { status, stderr } = spawnSync(process.execPath, [join(copy, 'src/dev/bootstrap.mjs'), ...args], {
    env: environment(),
    encoding: 'utf8',
  });
  return { status, stderr };
}

/** Answers the probe as this Python would, makes an environment whose pip runs `pip`. */
const pythonWithPip = (pip: string) => `
case "$*" in
  *find_spec*) printf '%s\\n11\\nTrue\\n' "$0" ;;
  *venv*) mkdir -p "$3/bin"; printf '#!/bin/sh\\n${pip}\\n' > "$3/bin/python"; chmod +x "$3/bin/python" ;;
esac`;

test('no Python that is new enough: says which was found and what to install', () => {
  program('npm', 'exit 0');
  pythons(`printf '%s\\n9\\nTrue\\n' /opt/old/python3`);
  const { status, stderr } = bootstrap('npm:build');
  expect(status).toBe(1);
  expect(stderr).toContain('Python 3.11 or later is needed, found /opt/old/python3 (3.9)');
  expect(stderr).toContain('apt install python3 python3-venv');
});

test('a Python without venv: says which package brings it', () => {
  program('npm', 'exit 0');
  pythons(`printf '%s\\n12\\nFalse\\n' /usr/bin/python3`);
  expect(bootstrap('npm:build').stderr).toContain('/usr/bin/python3 has no venv module; install it');
});

test('both registries out of reach: both failures with the end of their output, and the remedy', () => {
  program('npm', 'echo "npm error ENOTFOUND registry" >&2; exit 1');
  pythons(pythonWithPip('echo no route to index >&2; exit 1'));
  const { status, stderr } = bootstrap('npm:build');
  expect(status).toBe(1);
  expect(stderr).toContain('  no route to index\nInstalling Python packages failed (code 1). Check the network');
  expect(stderr).toContain('  npm error ENOTFOUND registry\n`npm ci` failed (code 1). Check the network');
});

test('an installation that failed or was killed begins with a new environment', () => {
  program('npm', 'exit 1');
  pythons(pythonWithPip('exit 1'));
  bootstrap('npm:build');
  const half = join(copy, '.anneal', 'venv', 'half-installed');
  writeFileSync(half, '');
  bootstrap('npm:build');
  expect(existsSync(half)).toBe(false);
});

test('a second set-up waits for the first; the lock of a dead one is taken over, and its tools are ended', async () => {
  program('npm', 'exit 1');
  pythons(pythonWithPip('exec sleep 600'));
  const first = spawn(process.execPath, [join(copy, 'src/dev/bootstrap.mjs'), 'npm:build'], { env: environment() });
  const tools = join(copy, '.anneal', 'set-up-tools');
  await until(() => existsSync(join(copy, '.anneal', 'venv', 'bin', 'python')) && toolsOf(tools).length === 1);
  const [sleeper] = toolsOf(tools);

  const second = spawn(process.execPath, [join(copy, 'src/dev/bootstrap.mjs'), 'npm:build'], { env: environment() });
  let said = '';
  second.stderr.on('data', (chunk) => {
    said += chunk;
  });
  await until(() => said.includes(`Another set-up runs (pid ${first.pid})`));
  pythons(pythonWithPip('exit 1'));
  first.kill('SIGKILL');
  await once(second, 'exit');
  expect(said).toContain('Installing Python packages failed (code 1)');
  expect(isSleeper(String(sleeper))).toBe(false);
});

test('pytest goes on beside vitest, is heard after it, and its failure is the failure of all', () => {
  const file = (path: string, text: string) => {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    writeFileSync(join(copy, path), text, { mode: 0o755 });
  };
  const begun = join(copy, 'begun');
  file('.anneal/venv/bin/python', `#!/bin/sh\necho heard; echo >> ${begun}; exit 3`);
  mkdirSync(join(copy, 'gpu-activity-image'));
  // Ends only when a run of pytest has begun.
  const wait = `const look = () => (existsSync('${begun}') ? console.log('vitest is done') : setTimeout(look, 20)); look();`;
  file('node_modules/vitest/vitest.mjs', `import { existsSync } from 'node:fs'; ${wait}`);
  const chain = `import { TOOL_CHAINS } from '${join(copy, 'src/dev/set-up/tool-chains.mjs')}';
    process.exitCode = (await TOOL_CHAINS['npm:test'].run(process.execPath, [])).code;`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', chain], {
    encoding: 'utf8',
  });
  expect(stdout).toBe('vitest is done\nheard\nheard\n');
  expect(stderr).toBe('— vitest\n— pytest\nFailed: pytest\n');
  expect(status).toBe(1);
});

test('the lock file holds every platform, so that `npm ci` accepts it everywhere', () => {
  const { packages } = JSON.parse(readFileSync(join(PROJECT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
    ),
  );
  expect(missing).toEqual([]);
});

test('the scripts before the packages parse as the oldest Node that is promised would have them', () => {
  const scripts = execFileSync('find', [join(PROJECT, 'src/dev'), '-name', '*.mjs'], { encoding: 'utf8' })
    .trim()
    .split('\n');
  expect(scripts.length).toBeGreaterThan(10);
  for (const script of scripts) {
    const text = readFileSync(script, 'utf8');
    // Newer than Node 14: logical assignment, private methods, `at`, `replaceAll`, `hasOwn`, structured clones, import attributes.
    expect(text, script).not.toMatch(
      /\?\?=|\|\|=|&&=|\.#\w|\.at\(|\.replaceAll\(|Object\.hasOwn|structuredClone|\bwith \{/,
    );
    for (const [, source] of text.matchAll(/from '([^']+)'/g)) expect(source, script).toMatch(/^(node:|\.)/);
  }
});

function toolsOf(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return execFileSync('ls', [folder], { encoding: 'utf8' }).split('\n').filter(isSleeper);
}

function isSleeper(pid: string): boolean {
  return /^\d+$/.test(pid) && readCommand(pid).includes('sleep');
}

/** Nothing of a process that is gone, also since a moment ago, or dead but not yet reaped. */
function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolveTick) => setTimeout(resolveTick, 20));
}
