// The commands of package.json: check, test, build, format, bench. Every tool of a chain runs, then the chain fails if one did.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, runByLines } from './command.mjs';
import { PROJECT, PYTHON, VENV } from './places.mjs';

const RUFF = join(VENV, 'bin', 'ruff');
const TRAINER = join(PROJECT, 'gpu-activity-image');
const PYTHON_SOURCES = ['gpu-activity-image', 'examples', 'bench'];

const BIOME = 'node_modules/@biomejs/biome/bin/biome';
const TSC = 'node_modules/typescript/bin/tsc';
const KNIP = 'node_modules/knip/bin/knip.js';
const VITEST = 'node_modules/vitest/vitest.mjs';

/** A tool: what it is called in the output, its command, its arguments, its folder. */
const script = (name, node, ...args) => ({ name, command: node, args, cwd: PROJECT });
const ruff = (name, ...args) => ({ name, command: RUFF, args: [...args, ...PYTHON_SOURCES], cwd: PROJECT });

export const TOOL_CHAINS = {
  'npm:check': {
    needsModels: false,
    run: (node) =>
      runAll([
        script('format and lint', node, BIOME, 'check', '--error-on-warnings'),
        script('types of src', node, TSC, '--noEmit', '-p', '.'),
        script('types of test', node, TSC, '-p', 'test'),
        script('dead code', node, KNIP),
        ruff('python lint', 'check'),
        ruff('python format', 'format', '--check'),
        script('import directions', node, VITEST, 'run', 'test/architecture.test.ts'),
      ]),
  },
  'npm:test': {
    needsModels: true,
    run: (node, filters) =>
      runAll([
        script('vitest', node, VITEST, 'run', ...filters),
        // A filter is meant for the TypeScript side.
        ...(filters.length > 0 ? [] : [{ name: 'pytest', run: runPytest }]),
      ]),
  },
  'npm:build': { needsModels: false, run: (node) => runAll([script('compile', node, TSC, '-p', '.')]) },
  'npm:bench': { needsModels: true, run: (node, args) => run(node, [join('bench', 'main.ts'), ...args], PROJECT) },
  'npm:format': {
    needsModels: false,
    run: (node) =>
      runAll([
        script('biome', node, BIOME, 'check', '--write'),
        ruff('ruff lint', 'check', '--fix'),
        ruff('ruff format', 'format'),
      ]),
  },
};

/** Runs of pytest that share the tests: most of them keep one core busy, and the smallest machine that is meant has two. */
const PYTEST_RUNS = 2;

async function runPytest() {
  const claims = mkdtempSync(join(tmpdir(), 'anneal-pytest-'));
  const args = [
    '-m',
    'pytest',
    '-o',
    'console_output_style=classic',
    '--no-header',
    '--durations',
    '10',
    '--claims',
    claims,
    'tests',
  ];
  try {
    const ends = await Promise.all(Array.from({ length: PYTEST_RUNS }, () => runByLines(PYTHON, args, TRAINER)));
    return ends.find(({ code }) => code !== 0) || ends[0];
  } finally {
    rmSync(claims, { recursive: true, force: true });
  }
}

async function runAll(tools) {
  const failed = [];
  for (const { name, command, args, cwd, run: runTool = () => run(command, args, cwd) } of tools) {
    process.stderr.write(`— ${name}\n`);
    const end = await runTool();
    if (end.signal !== null) return end;
    if (end.code !== 0) failed.push(name);
  }
  if (failed.length > 0) process.stderr.write(`Failed: ${failed.join(', ')}\n`);
  return { code: failed.length === 0 ? 0 : 1, signal: null };
}
