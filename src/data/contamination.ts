// Finds rows that hold what they will be evaluated on: n words in a row that an evaluation has, too, or a short question as it
// stands there. The rule of GPT-3 and of lm-evaluation-harness.
import { createGramTable } from './near/gram-table.ts';
import { RowWords } from './near/row-words.ts';
import { createWordHasher } from './near/words.ts';

export interface EvalText {
  /** What people call the evaluation. */
  evalName: string;
  text: string;
  /** A question: when it is shorter than n words, a prompt that is the same is a hit. */
  isPrompt: boolean;
}

/** Asked of a cleaned row as it lies in its file: the line [from, to). */
export type Contamination = (source: Buffer, from: number, to: number) => { evalName: string } | null;

/** Shorter questions, such as a greeting, are everybody's. */
const SHORT_WORDS_MIN = 4;

/** `ngram` = words in a row, 8 to 13. `gramsMax` is for tests. */
export function createContamination(texts: Iterable<EvalText>, ngram = 13, gramsMax?: number): Contamination {
  const hashWords = createWordHasher();
  const names: string[] = [];
  const grams = createGramTable(ngram, gramsMax);
  const questions = new Map<string, number>();
  for (const { evalName, text, isPrompt } of texts) {
    if (names.at(-1) !== evalName) names.push(evalName);
    const name = names.length - 1;
    const words = hashWords(text);
    grams.add(words, name);
    if (isPrompt && isShort(words, ngram) && !questions.has(keyOf(words))) questions.set(keyOf(words), name);
  }
  const rowWords = new RowWords();
  return (source, from, to) => {
    let byGram = null as number | null;
    let byQuestion = null as number | null;
    rowWords.eachText(source, from, to, (words, isPrompt) => {
      byGram ??= grams.find(words);
      if (isPrompt && isShort(words, ngram)) byQuestion ??= questions.get(keyOf(words)) ?? null;
    });
    const name = byGram ?? byQuestion;
    return name === null ? null : { evalName: names[name] as string };
  };
}

function isShort(words: Int32Array, ngram: number): boolean {
  return words.length >= SHORT_WORDS_MIN && words.length < ngram;
}

function keyOf(words: Int32Array): string {
  return words.join(' ');
}

/** Fields that hold the question in the evaluation suites that are common. */
const QUESTION_FIELDS: readonly string[] = [
  'question',
  'query',
  'prompt',
  'instruction',
  'input',
  'problem',
  'goal',
  'premise',
  'ctx',
  'sentence',
];
const ASKING_ROLES: readonly unknown[] = ['user', 'human'];
const SHARED_ROLES: readonly unknown[] = ['system', 'developer'];
const NESTING_MAX = 8;

/** The texts of one row of an evaluation suite, whatever its shape; system messages and tools are no evaluation. */
export function evalTexts(row: unknown): Omit<EvalText, 'evalName'>[] {
  return textsIn(row, false, NESTING_MAX);
}

function textsIn(value: unknown, isPrompt: boolean, nesting: number): Omit<EvalText, 'evalName'>[] {
  if (typeof value === 'string') return [{ text: value, isPrompt }];
  if (typeof value !== 'object' || value === null || nesting === 0) return [];
  if (Array.isArray(value)) return value.flatMap((entry: unknown) => textsIn(entry, isPrompt, nesting - 1));
  const fields = value as Record<string, unknown>;
  const role = fields.role ?? fields.from;
  if (SHARED_ROLES.includes(role)) return [];
  return Object.entries(fields).flatMap(([name, field]) => {
    if (name === 'tools' || name === 'role' || name === 'from') return [];
    return textsIn(
      field,
      role === undefined ? QUESTION_FIELDS.includes(name) : ASKING_ROLES.includes(role),
      nesting - 1,
    );
  });
}
