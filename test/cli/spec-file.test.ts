// Spec files, settings from the command line, and source paths relative to the file.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadSpec } from '../../src/cli/spec-file.ts';
import type { AnnealError } from '../../src/contracts/failure.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-spec-'));
  mkdirSync(join(folder, 'specs'));
  writeFileSync(join(folder, 'specs', 'rows.jsonl'), '{}\n');
  writeFileSync(join(folder, 'here.jsonl'), '{}\n');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return name;
}

function problemsOf(fn: () => unknown): string[] {
  try {
    fn();
  } catch (error) {
    const { problems, message } = error as AnnealError;
    return problems.length > 0 ? problems.map((p) => `${p.path}: ${p.message}`) : [message];
  }
  throw new Error('It was accepted.');
}

test('sources are relative to the spec file, and leave as absolute addresses', () => {
  const file = write('specs/a.yaml', 'name: a\ndata:\n  sources:\n    - uri: rows.jsonl\n    - uri: example:x.csv\n');
  expect(loadSpec(file, {}, folder).data.sources.map(({ uri }) => uri)).toEqual([
    pathToFileURL(join(folder, 'specs', 'rows.jsonl')).href,
    'example:x.csv',
  ]);
});

test('evaluation suites are relative to the spec file, too', () => {
  const data = {
    sources: [{ uri: 'rows.jsonl' }],
    decontaminate: { against: ['rows.jsonl', 's3://bucket/suite.jsonl'] },
  };
  const file = write('specs/a.json', JSON.stringify({ name: 'a', data }));
  expect(loadSpec(file, {}, folder).data.decontaminate.against).toEqual([
    pathToFileURL(join(folder, 'specs', 'rows.jsonl')).href,
    's3://bucket/suite.jsonl',
  ]);
  const missing = { ...data, decontaminate: { against: ['suite.jsonl'] } };
  const wrong = write('b.json', JSON.stringify({ name: 'a', data: { ...missing, sources: [{ uri: 'here.jsonl' }] } }));
  expect(problemsOf(() => loadSpec(wrong, {}, folder))).toEqual([
    `data.decontaminate.against[0]: names the file ${join(folder, 'suite.jsonl')}, which does not exist`,
  ]);
});

test('folders, patterns and databases are sources too, those on this disk relative to the spec file', () => {
  const sources = [
    ...[{ uri: '.' }, { uri: '*.{jsonl,csv}' }, { uri: 'sqlite:faq.db', table: 'faq' }, { uri: 's3://bucket/in/**' }],
    { uri: 'postgres://me@host/db', query: 'SELECT 1' },
  ];
  const file = write('specs/a.json', JSON.stringify({ name: 'a', data: { sources } }));
  expect(loadSpec(file, {}, folder).data.sources.map(({ uri }) => decodeURI(uri))).toEqual([
    pathToFileURL(join(folder, 'specs')).href,
    `${pathToFileURL(join(folder, 'specs')).href}/*.{jsonl,csv}`,
    `sqlite:${join(folder, 'specs', 'faq.db')}`,
    's3://bucket/in/**',
    'postgres://me@host/db',
  ]);
  const wrong = write('b.json', JSON.stringify({ name: 'a', data: { sources: [{ uri: 'nowhere/*.csv' }] } }));
  expect(problemsOf(() => loadSpec(wrong, {}, folder))).toEqual([
    `data.sources[0].uri: looks for files in the folder ${join(folder, 'nowhere')}/, which does not exist`,
  ]);
});

test('--source is relative to the working folder and replaces the sources of the file', () => {
  const file = write('specs/a.json', '{"name": "a", "data": {"sources": [{"uri": "rows.jsonl"}]}}');
  const spec = loadSpec(file, { source: ['here.jsonl'], name: 'b' }, folder);
  expect(spec.name).toBe('b');
  expect(spec.data.sources.map(({ uri }) => uri)).toEqual([pathToFileURL(join(folder, 'here.jsonl')).href]);
});

test('nothing at all is the demo', () => {
  expect(loadSpec(undefined, {}, folder).name).toBe('home-assistant');
});

test('--set reads values as YAML, at any depth', () => {
  const set = [
    'train.epochs=2',
    'train.lora.targets=[q_proj, v_proj]',
    'data.system=null',
    'data.sources[0].format=csv',
  ];
  const file = write('a.yaml', 'name: a\ndata: {sources: [{uri: here.jsonl}], system: hello}\n');
  const spec = loadSpec(file, { set }, folder);
  expect(spec.train.epochs).toBe(2);
  expect(spec.train.lora.targets).toEqual(['q_proj', 'v_proj']);
  expect(spec.data.system).toBeNull();
  expect(spec.data.sources[0]?.format).toBe('csv');
});

test('all problems come at once, each with its path: missing files, unknown fields, wrong values', () => {
  const file = write('a.yaml', 'name: A!\ntrian: {}\ndata: {sources: [{uri: here.jsonl}, {uri: gone.jsonl}]}\n');
  const problems = problemsOf(() => loadSpec(file, {}, folder));
  expect(problems).toHaveLength(3);
  expect(problems[0]).toBe(`data.sources[1].uri: names the file ${join(folder, 'gone.jsonl')}, which does not exist`);
  expect(problems).toContainEqual(expect.stringContaining('name: must be 1 to 63 lower-case letters'));
  expect(problems).toContainEqual('trian: is not a field; did you mean `train`?');
});

test('a missing spec file, broken YAML and a malformed --set are named', () => {
  expect(problemsOf(() => loadSpec('no.yaml', {}, folder))[0]).toContain(`${join(folder, 'no.yaml')} does not exist`);
  const broken = write('broken.yaml', 'name: a\ndata: [unclosed\n');
  expect(problemsOf(() => loadSpec(broken, {}, folder))[0]).toMatch(
    /broken\.yaml is neither YAML nor JSON: line \d+: /,
  );
  expect(problemsOf(() => loadSpec(undefined, { set: ['epochs'] }, folder))[0]).toContain('--set takes path=value');
});
