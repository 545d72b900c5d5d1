// The profile of a range's rows, taken as they go by, and of many ranges together. Cheap: a few counts a row, the rest of a sample.
import type { Profile } from '../../contracts/profile.ts';
import type { Message, QuarantinedRow } from '../../contracts/rows.ts';
import type { Content } from '../mapping.ts';
import { countLength, mergeHistograms } from './log-buckets.ts';
import { factsOf, type RowFacts } from './row-facts.ts';
import { addCounts, createRowSample, type HeldRow, mergeSamples } from './row-sample.ts';
import type { Stash } from './stash.ts';

const EXAMPLES_MAX = 3;
/** Chats with more messages are counted with those that have so many. */
const TURNS_MAX = 100;

const COUNTS = [
  'rows',
  'characters',
  'jsonBytes',
  'withSystem',
  'withTools',
  'withToolCalls',
  'withReasoning',
  'withMedia',
  'withUntrained',
  'emptySystem',
  'answerIsQuestion',
] as const;
type CountName = (typeof COUNTS)[number];

/** Where a kept row came from. */
export interface ProfiledPlace {
  source: number;
  line: number;
  /** 32 hex digits. */
  id: string;
  jsonBytes: number;
  /** Of the row as its source has it. */
  sourceBytes: number;
}

/** What is counted of a chat of nothing but roles and texts, none of them empty. */
export interface ChatMeasures {
  messages: number;
  hasSystem: boolean;
  /** UTF-16 code units of all texts, and of the last answer. */
  characters: number;
  answerChars: number;
  answerIsQuestion: boolean;
}

/** Is still there when other rows were read. */
export interface HeldChat {
  content(): Content;
  /** The source row. */
  source(): unknown;
}

export interface RowProfile {
  /** @param source gives the source row, without the columns that are dropped; asked of few, at once. */
  add(content: Content, place: ProfiledPlace, source: () => unknown): void;
  /** @param hold asked of few, at once; keeps the row in the stash. */
  addChat(measures: ChatMeasures, place: ProfiledPlace, hold: (stash: Stash) => HeldChat): void;
  addDropped(row: QuarantinedRow): void;
  toJson(): Profile;
}

export function createProfile(): RowProfile {
  const profile = emptyProfile();
  const sample = createRowSample();
  return {
    add(content, place, source) {
      const facts = factsOf(content);
      countRow(profile, facts, place);
      sample.add(place, () => holdRow(facts, source()));
    },
    addChat(measures, place, hold) {
      countChat(profile, measures, place);
      sample.add(place, (stash) => holdChat(hold(stash)));
    },
    addDropped(row) {
      profile.examples[row.code] ??= [];
      const examples = profile.examples[row.code] as QuarantinedRow[];
      if (examples.length < EXAMPLES_MAX) examples.push(row);
    },
    toJson: () => ({
      ...structuredClone(profile),
      sample: sample.toJson(),
    }),
  };
}

function holdRow(facts: RowFacts, source: unknown): HeldRow {
  return { facts: () => facts, source: () => source };
}

function holdChat({ content, source }: HeldChat): HeldRow {
  return { facts: () => factsOf(content()), source };
}

export function emptyProfile(): Profile {
  return {
    ...(Object.fromEntries(COUNTS.map((name) => [name, 0])) as Record<CountName, number>),
    ...{ rowLengths: [], answerLengths: [], turns: {}, labels: { wanted: 0, unwanted: 0 } },
    ...{ bySource: {}, sample: { level: 0, levels: [] }, examples: {} },
  };
}

/** In the order of the sources. */
export function mergeProfiles(profiles: Profile[]): Profile {
  const sum = (pick: (profile: Profile) => number) => profiles.reduce((total, one) => total + pick(one), 0);
  return {
    ...(Object.fromEntries(COUNTS.map((name) => [name, sum((one) => one[name])])) as Record<CountName, number>),
    rowLengths: mergeHistograms(profiles.map((one) => one.rowLengths)),
    answerLengths: mergeHistograms(profiles.map((one) => one.answerLengths)),
    turns: profiles.reduce((turns, one) => addCounts(turns, one.turns), {}),
    labels: { wanted: sum(({ labels }) => labels.wanted), unwanted: sum(({ labels }) => labels.unwanted) },
    bySource: mergeSources(profiles),
    sample: mergeSamples(profiles.map((one) => one.sample)),
    examples: mergeExamples(profiles.map((one) => one.examples)),
  };
}

export function mergeExamples(parts: Profile['examples'][]): Profile['examples'] {
  const merged: Profile['examples'] = {};
  for (const [code, rows] of parts.flatMap((examples) => Object.entries(examples)))
    merged[code] = [...(merged[code] ?? []), ...rows].slice(0, EXAMPLES_MAX);
  return merged;
}

function mergeSources(profiles: Profile[]): Profile['bySource'] {
  const merged: Profile['bySource'] = {};
  for (const [source, { rows, characters }] of profiles.flatMap(({ bySource }) => Object.entries(bySource))) {
    const before = merged[source] ?? { rows: 0, characters: 0 };
    merged[source] = { rows: before.rows + rows, characters: before.characters + characters };
  }
  return merged;
}

/** Counts all that is cheap to know of a row. */
function countRow(profile: Profile, facts: RowFacts, place: ProfiledPlace): void {
  const { messages, text, answer, label } = facts;
  countSize(profile, text === null ? countMessages(profile, messages) : text.length, place);
  if (answer !== null) countAnswer(profile, answer.length, answer === facts.question);
  if (facts.tools) profile.withTools++;
  if (facts.media) profile.withMedia++;
  if (label !== null) profile.labels[label ? 'wanted' : 'unwanted']++;
}

function countChat(profile: Profile, measures: ChatMeasures, place: ProfiledPlace): void {
  countSize(profile, measures.characters, place);
  countAnswer(profile, measures.answerChars, measures.answerIsQuestion);
  countTurns(profile, measures.messages);
  if (measures.hasSystem) profile.withSystem++;
}

function countSize(profile: Profile, characters: number, { source, jsonBytes }: ProfiledPlace): void {
  profile.rows++;
  profile.characters += characters;
  profile.jsonBytes += jsonBytes;
  countLength(profile.rowLengths, characters);
  profile.bySource[source] ??= { rows: 0, characters: 0 };
  const book = profile.bySource[source] as { rows: number; characters: number };
  book.rows++;
  book.characters += characters;
}

function countAnswer(profile: Profile, characters: number, isQuestion: boolean): void {
  countLength(profile.answerLengths, characters);
  if (isQuestion) profile.answerIsQuestion++;
}

function countTurns(profile: Profile, messages: number): void {
  const turns = Math.min(messages, TURNS_MAX);
  profile.turns[turns] = (profile.turns[turns] ?? 0) + 1;
}

/** @returns characters of all texts */
function countMessages(profile: Profile, messages: Message[]): number {
  let characters = 0;
  let hasCalls = false;
  let hasReasoning = false;
  let hasUntrained = false;
  for (const { content, tool_calls, weight, reasoning_content } of messages) {
    characters += content.length;
    hasCalls ||= tool_calls !== undefined;
    hasReasoning ||= reasoning_content !== undefined;
    hasUntrained ||= weight === 0;
  }
  if (hasCalls) profile.withToolCalls++;
  if (hasReasoning) profile.withReasoning++;
  if (hasUntrained) profile.withUntrained++;
  if (messages[0]?.role === 'system') countSystem(profile, messages[0].content);
  countTurns(profile, messages.length);
  return characters;
}

function countSystem(profile: Profile, content: string): void {
  profile.withSystem++;
  if (content.trim() === '') profile.emptySystem++;
}
