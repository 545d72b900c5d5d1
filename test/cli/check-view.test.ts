// How a check of data looks: headings that say what they count, also where the terminal is narrow.
import { expect, test } from 'vitest';
import { checkLines } from '../../src/cli/views/data.ts';
import { createPaint } from '../../src/cli/views/format.ts';
import type { CheckedData } from '../../src/data/check.ts';

const FILE = {
  ...{ uri: 'file:///data/tickets.jsonl', rowsIn: 1200, kept: 1100, duplicates: 60, nearDuplicates: 30 },
  ...{ dropped: { invalid_json: 10 }, fixed: {}, warned: {}, pii: { email: 7 }, firstBadLines: {} },
};
const checked = {
  ...{ files: [FILE], total: FILE, blocked: null },
  card: { json: { verdict: { state: 'pass', sentence: 'Ready.' }, alerts: [] } },
} as unknown as CheckedData;
const linesAt = (width: number) => checkLines(checked, width, createPaint(false));

test('a wide terminal has a line a file', () => {
  const lines = linesAt(120);
  const head = lines.find((line) => line.startsWith('FILE')) ?? '';
  for (const title of ['ROWS IN', 'KEPT', 'DUPLICATES', 'NEAR DUPLICATES', 'DROPPED', 'PERSONAL DATA FOUND'])
    expect(head).toContain(title);
  expect(lines.find((line) => line.startsWith('tickets.jsonl '))).toMatch(/1,200 +1,100 +60 +30 +10 +7$/);
});

test('a narrow one has a line a count, and none is cut', () => {
  const lines = linesAt(40);
  const table = lines.slice(lines.indexOf('tickets.jsonl'));
  expect(table.slice(1, 7)).toEqual([
    expect.stringMatching(/^ {2}ROWS IN +1,200$/),
    expect.stringMatching(/^ {2}KEPT +1,100$/),
    expect.stringMatching(/^ {2}DUPLICATES +60$/),
    expect.stringMatching(/^ {2}NEAR DUPLICATES +30$/),
    expect.stringMatching(/^ {2}DROPPED +10$/),
    expect.stringMatching(/^ {2}PERSONAL DATA FOUND +7$/),
  ]);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);
});
