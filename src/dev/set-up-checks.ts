// What the set-up must have put in place: packages in their pinned versions, binaries, base models, example data.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Check, finding } from './check.ts';
import { locateProject } from './stack-layout.ts';

const run = promisify(execFile);

/** A cold `import`-free Python start is 0.1 s, a cold binary of 150 MB some seconds on a slow disk. */
const COMMAND_TIMEOUT_MS = 20_000;

const REPAIR = 'Delete .anneal/stamps and run `npx anneal doctor` again: the set-up then repairs what is missing.';

const REQUIREMENTS = ['gpu-activity-image/requirements.txt', 'src/dev/requirements.txt'];

const MODEL_FILES = ['config.json', 'model.safetensors', 'tokenizer.json'];

export async function checkSetUp(project: string): Promise<Check[]> {
  const { temporal, weed, python } = locateProject(project);
  return await Promise.all([
    checkPython(python),
    checkPythonPackages(project, python),
    checkNodePackages(project),
    checkBinary('temporal', temporal, ['--version']),
    checkBinary('weed', weed, ['version']),
    checkModels(project),
    checkExamples(project),
  ]);
}

async function checkPython(python: string): Promise<Check> {
  const version = await firstLine(python, ['--version']);
  return finding('python', version !== null, version ?? `${python} does not run`, REPAIR);
}

/** Compares what is installed with what is pinned, without importing anything. */
async function checkPythonPackages(project: string, python: string): Promise<Check> {
  const pins = REQUIREMENTS.flatMap((file) => readPins(join(project, file)));
  const script = [
    'import sys, importlib.metadata as m',
    'def version(name):',
    '    try: return m.version(name)',
    '    except m.PackageNotFoundError: return "missing"',
    'print(*(version(name) for name in sys.argv[1:]), sep="\\n")',
  ].join('\n');
  const out = await run(python, ['-c', script, ...pins.map(({ name }) => name)], { timeout: COMMAND_TIMEOUT_MS }).catch(
    () => null,
  );
  if (out === null) return finding('python packages', false, 'Python does not run', REPAIR);
  const versions = out.stdout.trim().split('\n');
  const wrong = pins
    .map(({ name, version }, index) => ({ name, version, is: versions[index] ?? 'missing' }))
    .filter(({ version, is }) => is !== version && !is.startsWith(`${version}+`));
  const found =
    wrong.length === 0
      ? `${pins.length} as pinned`
      : wrong.map(({ name, version, is }) => `${name} ${is} instead of ${version}`).join(', ');
  return finding('python packages', wrong.length === 0, found, REPAIR);
}

/** Lines of the form `name==version`; a line with a condition counts only when the package is there, so it is left out. */
function readPins(file: string): { name: string; version: string }[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const match = /^([A-Za-z0-9._-]+)==([^\s;#]+)\s*(?:#.*)?$/.exec(line.trim());
      return match?.[1] && match[2] ? [{ name: match[1], version: match[2] }] : [];
    });
}

async function checkNodePackages(project: string): Promise<Check> {
  const manifest = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >;
  const wanted = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
  const wrong = wanted.flatMap(([name, range]) => {
    const version = readPackageVersion(join(project, 'node_modules', name));
    const exact = /^\d/.test(range);
    return version === null || (exact && version !== range)
      ? [`${name} ${version ?? 'missing'} instead of ${range}`]
      : [];
  });
  const found = wrong.length === 0 ? `${wanted.length} as pinned` : wrong.join(', ');
  return finding('npm packages', wrong.length === 0, found, REPAIR);
}

function readPackageVersion(folder: string): string | null {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    return null;
  }
}

async function checkBinary(name: string, path: string, args: string[]): Promise<Check> {
  const version = await firstLine(path, args);
  return finding(name, version !== null, version ?? `${path} does not run`, REPAIR);
}

async function firstLine(command: string, args: string[]): Promise<string | null> {
  try {
    const { stdout } = await run(command, args, { timeout: COMMAND_TIMEOUT_MS });
    return stdout.trim().split('\n')[0] ?? '';
  } catch {
    return null;
  }
}

async function checkModels(project: string): Promise<Check> {
  const { models } = locateProject(project);
  const names = foldersOf(models);
  const broken = names.filter((name) => MODEL_FILES.some((file) => !existsSync(join(models, name, file))));
  const ok = names.length > 0 && broken.length === 0;
  const found =
    names.length === 0
      ? `none in ${models}`
      : broken.length > 0
        ? `incomplete: ${broken.join(', ')}`
        : names.join(', ');
  return finding('base models', ok, found, REPAIR);
}

async function checkExamples(project: string): Promise<Check> {
  const { examples } = locateProject(project);
  const names = foldersOf(examples);
  return finding('examples', names.length > 0, names.length === 0 ? `none in ${examples}` : names.join(', '), REPAIR);
}

function foldersOf(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => entry.name);
}
