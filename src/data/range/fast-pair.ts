// The fast way of tables that hold a question and its answer: which two columns they are is decided once, from the header.
// It says nothing of a row that it cannot prove good; the mapper alone decides what is wrong with one.
import type { CsvRow } from '../csv.ts';
import type { Chat } from '../shapes.ts';

/** Columns of a question and of its answer, in the shapes whose two texts become two turns as they stand. */
const PAIRS: readonly (readonly [question: string, answer: string])[] = [
  ['question', 'answer'],
  ['question', 'response'],
  ['query', 'answer'],
  ['query', 'response'],
  ['prompt', 'completion'],
  ['instruction', 'output'],
];

/** Columns with a meaning: with one more of them than two, the mapper is asked. */
const KNOWN = new Set(
  (
    'messages conversations instruction input output prompt completion question query answer response context history system user ' +
    'assistant tools functions images image media chosen rejected preferred_output non_preferred_output label score text weight'
  ).split(' '),
);

export interface FastPair {
  content: Chat;
  text: string;
}

export type ReadFastPair = (row: CsvRow) => FastPair | null;

/** null when the columns tell of anything but a pair. */
export function createFastPair(columns: string[]): ReadFastPair | null {
  const known = columns.filter((column) => KNOWN.has(column.toLowerCase()));
  const pair = PAIRS.find((names) => known.length === 2 && names.every((name) => known.includes(name)));
  if (pair === undefined) return null;
  const [question, answer] = pair.map((name) => columns.indexOf(name)) as [number, number];
  return (row) => readPair(row.cell(question), row.cell(answer));
}

function readPair(question: string, answer: string): FastPair | null {
  if (question.trim() === '' || answer.trim() === '') return null;
  const content: Chat = {
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  };
  return { content, text: JSON.stringify(content) };
}
