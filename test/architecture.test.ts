// The layout is the architecture: who may import whom, and where the outside world may be touched.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = resolve(import.meta.dirname, '../src');

/** Folders that a folder may import from, besides itself. */
const MAY_IMPORT: Record<string, string[]> = {
  contracts: [],
  telemetry: ['contracts'],
  storage: ['contracts', 'telemetry'],
  security: ['contracts', 'telemetry'],
  data: ['contracts', 'telemetry', 'storage'],
  trainer: ['contracts', 'telemetry', 'storage', 'security'],
  plan: ['contracts', 'telemetry', 'storage', 'data', 'trainer'],
  evaluation: ['contracts', 'telemetry', 'storage', 'trainer'],
  registry: ['contracts', 'telemetry', 'storage', 'security'],
  serving: ['contracts', 'telemetry', 'storage', 'security', 'trainer'],
  activities: [
    ...[
      'contracts',
      'telemetry',
      'storage',
      'security',
      'data',
      'trainer',
      'plan',
      'evaluation',
      'registry',
      'serving',
    ],
  ],
  workflows: ['contracts', 'activities'],
  client: ['contracts', 'telemetry', 'storage', 'security', 'registry', 'workflows', 'data'],
};
/** Wire everything; nothing imports `workers` or `cli`. */
const TOPS = ['workers', 'cli', 'dev'];
const TEMPORAL = ['workflows', 'activities', 'workers', 'client', 'security', 'dev'];

interface Import {
  file: string;
  folder: string;
  target: string;
  typeOnly: boolean;
}

const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.(ts|mjs)$/.test(entry.name))
  .map((entry) => join(entry.parentPath, entry.name));
const textOf = (file: string) => readFileSync(file, 'utf8');
const folderOf = (file: string) => relative(SRC, file).split(sep)[0] as string;

const imports: Import[] = files.flatMap((file) =>
  [...textOf(file).matchAll(/^(import|export)\s+(type\s)?[^'"]*?from\s+'([^']+)'|\bimport\('([^']+)'\)/gm)].map(
    (match) => ({
      file: relative(SRC, file),
      folder: folderOf(file),
      target: (match[3] ?? match[4]) as string,
      typeOnly: match[2] !== undefined,
    }),
  ),
);
const inside = imports
  .filter(({ target }) => target.startsWith('.'))
  .map((found) => ({ ...found, to: folderOf(resolve(SRC, dirname(found.file), found.target)) }));

describe('architecture', () => {
  test('the scan sees the sources', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(inside.length).toBeGreaterThan(100);
  });

  test('imports follow the directions', () => {
    const wrong = inside.filter(
      ({ folder, to }) => folder !== to && !TOPS.includes(folder) && !(MAY_IMPORT[folder] ?? []).includes(to),
    );
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('nothing imports workers or cli', () => {
    const wrong = inside.filter(({ folder, to }) => ['workers', 'cli'].includes(to) && folder !== to);
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('workflows take values only from contracts that import no value, and types from anywhere', () => {
    const values = inside.filter(
      ({ folder, to, typeOnly }) => folder === 'workflows' && to !== 'workflows' && !typeOnly,
    );
    const targetOf = ({ file, target }: Import) => relative(SRC, resolve(SRC, dirname(file), target));
    const isFree = (target: string) =>
      target.startsWith(`contracts${sep}`) && imports.every(({ file, typeOnly }) => file !== target || typeOnly);
    const wrong = values.filter((found) => !isFree(targetOf(found)));
    expect(values.length).toBeGreaterThan(5);
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('Temporal stays where it belongs', () => {
    const wrong = imports.filter(
      ({ folder, target }) => target.startsWith('@temporalio/') && !TEMPORAL.includes(folder),
    );
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('the environment is read in workers, cli and dev only', () => {
    const wrong = files.filter((file) => /\bprocess\.env\b/.test(textOf(file)) && !TOPS.includes(folderOf(file)));
    expect(wrong.map((file) => relative(SRC, file))).toEqual([]);
  });

  test('every file says in its first line what it owns', () => {
    const silent = files.filter((file) => !/^(#!.*\n)?(import .*\n)*\/\/ \S/.test(textOf(file)));
    expect(silent.map((file) => relative(SRC, file))).toEqual([]);
  });
});
