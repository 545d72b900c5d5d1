// A sample of the rows of bounded size that depends on nothing but the rows and their places, so that ranges merge into what the whole
// would have given. A row of level L is one in 2^L: where too many were taken, the lowest level is given up.
import { hash } from 'node:crypto';
import { toUSVString } from 'node:util';
import type { Profile, SampledTexts, SampleLevel } from '../../contracts/profile.ts';
import { holdsMojibake } from '../mojibake.ts';
import { redactPreview } from '../privacy/redact.ts';
import { type RowFacts, rolePatternOf } from './row-facts.ts';
import { Stash } from './stash.ts';
import { hasOpenFence, isRefusal } from './text-checks.ts';

/** Rows of a sample: shares are known to ± 3 points then. */
const ROWS_MAX = 1_024;
/** Characters from which a language is told: enough for shares. */
const LANGUAGE_CHARS = 200;
/** Names of fields of a level: a table whose names are values would have as many as rows. */
const FIELDS_MAX = 200;

/** Characters of a text that are kept, and shown when what is personal in them is masked. */
const TEXT_CHARS_KEPT = 300;
const TEXT_CHARS_SHOWN = 80;
/** Of a digest, or of an id: enough to tell a thousand rows apart. */
const KEY_DIGITS = 16;

/** Bytes up to which a row of the sample is held as it is, in the source as in its JSON: most of them give way to others before anybody looks at them. */
const HELD_BYTES_MAX = 8 * 1024;

interface SampledRow {
  level: number;
  /** Once, when it is asked for. */
  look(): SeenRow;
}

/** What is asked of a row of the sample, and is still there when other rows were read. */
export interface HeldRow {
  facts(): RowFacts;
  source(): unknown;
}

interface SeenRow {
  start: string;
  itself: SampledText;
  rolePattern: string;
  systemPrompt: SampledText | null;
  answer: SampledText | null;
  fields: string[];
  mojibake: boolean;
  openFence: boolean;
  refusal: boolean;
}

interface SampledText {
  key: string;
  text: string;
}

interface SampledPlace {
  source: number;
  line: number;
  id: string;
  jsonBytes: number;
  /** Of the row as its source has it. */
  sourceBytes: number;
}

export interface RowSample {
  /** `hold` is asked of few. What it keeps in the stash is gone when its row gave way to others. */
  add(place: SampledPlace, hold: (stash: Stash) => HeldRow): void;
  toJson(): Profile['sample'];
}

export function createRowSample(): RowSample {
  let rows: SampledRow[] = [];
  let least = 0;
  /** By level: the rows of one give way together. */
  const stashes: Stash[] = [];
  return {
    add(place, hold) {
      const level = levelOf(place);
      if (level < least) return;
      const { id, jsonBytes, sourceBytes } = place;
      stashes[level] ??= new Stash();
      const isLarge = Math.max(jsonBytes, sourceBytes) > HELD_BYTES_MAX;
      rows.push({ level, look: (isLarge ? lookNow : lookLater)(id, hold(stashes[level])) });
      while (rows.length > ROWS_MAX) {
        delete stashes[least++];
        rows = rows.filter((one) => one.level >= least);
      }
    },
    toJson() {
      const levels: SampleLevel[] = [];
      for (const row of rows) {
        while (levels.length <= row.level - least) levels.push(emptyLevel());
        countRow(levels[row.level - least] as SampleLevel, row.look());
      }
      return { level: least, levels };
    },
  };
}

// Two functions, because closures of one hold on to whatever any of them needs.
function lookLater(id: string, held: HeldRow): SampledRow['look'] {
  return () => inspect(id, held);
}

function lookNow(id: string, held: HeldRow): SampledRow['look'] {
  return seenBefore(inspect(id, held));
}

function seenBefore(seen: SeenRow): SampledRow['look'] {
  return () => seen;
}

export function mergeSamples(samples: Profile['sample'][]): Profile['sample'] {
  let level = samples.reduce((most, sample) => Math.max(most, sample.level), 0);
  const levels: SampleLevel[] = [];
  for (const sample of samples) {
    for (const [i, one] of sample.levels.slice(level - sample.level).entries()) {
      levels[i] = levels[i] === undefined ? structuredClone(one) : addLevels(levels[i], one);
    }
  }
  while (levels.reduce((sum, { rows }) => sum + rows, 0) > ROWS_MAX) {
    levels.shift();
    level++;
  }
  return { level, levels };
}

/** The levels of a sample together: what is said of the rows. */
export function wholeSample({ levels }: Profile['sample']): SampleLevel {
  return levels.reduce(addLevels, emptyLevel());
}

function emptyLevel(): SampleLevel {
  return {
    ...{ rows: 0, languages: {}, starts: [], fields: {}, mojibake: 0, openFences: 0, refusals: 0 },
    ...{ rolePatterns: {}, systemPrompts: {}, answers: {}, copies: {} },
  };
}

function addLevels(a: SampleLevel, b: SampleLevel): SampleLevel {
  return {
    rows: a.rows + b.rows,
    languages: addCounts(a.languages, b.languages),
    starts: [...a.starts, ...b.starts],
    fields: firstFields(addCounts(a.fields, b.fields)),
    mojibake: a.mojibake + b.mojibake,
    openFences: a.openFences + b.openFences,
    refusals: a.refusals + b.refusals,
    rolePatterns: addCounts(a.rolePatterns, b.rolePatterns),
    systemPrompts: addTexts(a.systemPrompts, b.systemPrompts),
    answers: addTexts(a.answers, b.answers),
    copies: addTexts(a.copies, b.copies),
  };
}

function addTexts(a: SampledTexts, b: SampledTexts): SampledTexts {
  const sum = { ...a };
  for (const [key, { rows, text }] of Object.entries(b)) sum[key] = { rows: rows + (sum[key]?.rows ?? 0), text };
  return sum;
}

export function addCounts(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const sum = { ...a };
  for (const [key, n] of Object.entries(b)) sum[key] = (sum[key] ?? 0) + n;
  return sum;
}

function countRow(into: SampleLevel, row: SeenRow): void {
  into.rows++;
  if (row.mojibake) into.mojibake++;
  if (row.openFence) into.openFences++;
  if (row.refusal) into.refusals++;
  into.starts.push(toUSVString(redactPreview(row.start)));
  countText(into.copies, row.itself);
  if (row.rolePattern !== '') countOne(into.rolePatterns, row.rolePattern);
  countText(into.systemPrompts, row.systemPrompt);
  countText(into.answers, row.answer);
  for (const field of row.fields) countOne(into.fields, field);
  into.fields = firstFields(into.fields);
}

function countOne(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}

function countText(texts: SampledTexts, sampled: SampledText | null): void {
  if (sampled === null) return;
  const { key, text } = sampled;
  texts[key] = { rows: (texts[key]?.rows ?? 0) + 1, text: texts[key]?.text ?? shownText(text) };
}

function shownText(text: string): string {
  const shown = redactPreview(text);
  return toUSVString(shown.slice(0, TEXT_CHARS_SHOWN)) + (shown.length > TEXT_CHARS_SHOWN ? '…' : '');
}

function firstFields(fields: Record<string, number>): Record<string, number> {
  const names = Object.keys(fields);
  if (names.length <= FIELDS_MAX) return fields;
  return Object.fromEntries(firstNames(names).map((name) => [name, fields[name] as number]));
}

function firstNames(names: string[]): string[] {
  return names.length <= FIELDS_MAX ? names : names.toSorted().slice(0, FIELDS_MAX);
}

function inspect(id: string, { facts, source }: HeldRow): SeenRow {
  const { messages, text, question, answer } = facts();
  const texts = text === null ? messages.filter(({ role }) => role !== 'system').map(({ content }) => content) : [text];
  const [first] = messages;
  return {
    start: copyOf(texts.join('\n').slice(0, LANGUAGE_CHARS)),
    itself: { key: copyOf(id.slice(0, KEY_DIGITS)), text: startOf(question ?? texts[0] ?? '') },
    rolePattern: rolePatternOf(messages),
    systemPrompt: first?.role === 'system' ? sampledText(first.content) : null,
    answer: answer === null ? null : sampledText(answer),
    // Of more the first in their order would be all that is left in the end.
    fields: firstNames(fieldsOf(source())),
    mojibake: texts.some(holdsMojibake),
    openFence: answer !== null && hasOpenFence(answer),
    refusal: answer !== null && isRefusal(answer),
  };
}

function sampledText(text: string): SampledText {
  return { key: hash('sha256', text, 'hex').slice(0, KEY_DIGITS), text: startOf(text) };
}

function startOf(text: string): string {
  return copyOf(text.slice(0, TEXT_CHARS_KEPT));
}

/** A slice holds the whole string that it was cut from. */
function copyOf(slice: string): string {
  return Buffer.from(slice, 'utf16le').toString('utf16le');
}

function fieldsOf(row: unknown): string[] {
  if (row === null || typeof row !== 'object') return [];
  const fields = new Set<string>();
  for (const [name, value] of Object.entries(row)) {
    fields.add(`${name}:${typeOf(value)}`);
    const inner = Array.isArray(value) ? value : [value];
    for (const one of inner.slice(0, 20)) {
      if (one === null || typeof one !== 'object') continue;
      const path = Array.isArray(value) ? `${name}[]` : name;
      for (const [key, leaf] of Object.entries(one)) fields.add(`${path}.${key}:${typeOf(leaf)}`);
    }
  }
  return [...fields];
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

/** Leading zero bits of a hash of the place (the finaliser of MurmurHash3). */
function levelOf({ source, line }: { source: number; line: number }): number {
  let h = Math.imul(source + 1, 0x9e3779b1) ^ line;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return Math.clz32(h ^ (h >>> 16));
}
