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
    run: async (node, filters) => {
      const vitest = script('vitest', node, VITEST, 'run', ...filters);
      // A filter is meant for the TypeScript side.
      return await (filters.length > 0 ? runAll([vitest]) : runAllTests(vitest));
    },
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

/** Behind the tests in TypeScript, whose times mean something; in the usual scale from -20 to 19. */
const PYTEST_PRIORITY = 5;

/**
 * Vitest waits much for servers and for time-outs, and a run of pytest uses what it leaves of the processors. When it is done a second
 * run takes its share of the files: most of them keep one core busy, and the smallest machine that is meant has two.
 */
async function runAllTests(vitest) {
  const claims = mkdtempSync(join(tmpdir(), 'anneal-pytest-'));
  try {
    const vitestEnds = runTool(vitest);
    const besideEnds = runPytest(claims, vitestEnds);
    const end = await vitestEnds;
    process.stderr.write('— pytest\n');
    const pytestEnds = await Promise.all([besideEnds, runPytest(claims)]);
    return endOfAll([{ name: vitest.name, end }, ...pytestEnds.map((its) => ({ name: 'pytest', end: its }))]);
  } finally {
    rmSync(claims, { recursive: true, force: true });
  }
}

/** @param {Promise<unknown>} [silence] what it says is written when this is over. */
async function runPytest(claims, silence = Promise.resolve()) {
  const options = ['-o', 'console_output_style=classic', '--no-header', '--durations', '10', '--claims', claims];
  return await runByLines(PYTHON, ['-m', 'pytest', ...options, 'tests'], TRAINER, {
    priority: PYTEST_PRIORITY,
    silence,
  });
}

async function runAll(tools) {
  const ends = [];
  for (const tool of tools) {
    const end = await runTool(tool);
    if (end.signal !== null) return end;
    ends.push({ name: tool.name, end });
  }
  return endOfAll(ends);
}

async function runTool({ name, command, args, cwd }) {
  process.stderr.write(`— ${name}\n`);
  return await run(command, args, cwd);
}

/** The end of the first that was killed; or whether one failed, after the names of those that did. */
function endOfAll(ends) {
  const killed = ends.find(({ end }) => end.signal !== null);
  if (killed !== undefined) return killed.end;
  const failed = new Set(ends.filter(({ end }) => end.code !== 0).map(({ name }) => name));
  if (failed.size > 0) process.stderr.write(`Failed: ${[...failed].join(', ')}\n`);
  return { code: failed.size === 0 ? 0 : 1, signal: null };
}
