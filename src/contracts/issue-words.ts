// What is wrong with a value that does not fit its schema, in words of people who write YAML: `must be a whole number of at least 1`.
import type { z } from 'zod';

type Issue = z.core.$ZodIssue;

/** Of a value that does not fit, characters. */
const SHOWN_MAX = 80;

/** `a, b or c`. */
const CHOICE = new Intl.ListFormat('en-GB', { type: 'disjunction' });

const KINDS: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object with fields',
  record: 'an object with fields',
  null: 'null',
};

/** `data.sources[0].uri`; empty for the whole. */
export function pathOf(path: PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i > 0 ? '.' : ''}${String(part)}`))
    .join('');
}

/** As `wordsOf`, with what is there instead. An address may hold a password, which is left out. */
export function wordsWithValue(issue: Issue, input: unknown): string {
  const found = issue.path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | null | undefined)?.[part],
    input,
  );
  if (found === undefined) return `${wordsOf(issue)}, and is missing`;
  const shown = JSON.stringify(found)
    ?.replace(/\/\/[^/@]*@/, '//…@')
    .slice(0, SHOWN_MAX);
  return `${wordsOf(issue)}, got ${shown}`;
}

/** Without the path. An issue that a rule of ours has found has its own words. */
export function wordsOf(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${kindOf(issue.expected)}`;
    case 'too_small':
      return `must ${boundOf(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum)}`;
    case 'too_big':
      return `must ${boundOf(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum)}`;
    case 'invalid_value':
      return `must be ${CHOICE.format(issue.values.map((value) => `\`${String(value)}\``))}`;
    case 'invalid_union':
      return wordsOfUnion(issue.errors);
    default:
      return issue.message.replace(/^Invalid input: /, '');
  }
}

function kindOf(expected: string): string {
  return KINDS[expected] ?? expected;
}

function boundOf(origin: string, bound: string, limit: number | bigint): string {
  if (origin === 'string') return `have ${bound} ${limit} characters`;
  if (origin === 'array' || origin === 'set')
    return `have ${bound} ${limit} ${Number(limit) === 1 ? 'entry' : 'entries'}`;
  return `be ${bound} ${limit}`;
}

/** What it must be, one by one where there are several. */
function choicesOf(issue: Issue): string[] {
  if (issue.code === 'invalid_value') return issue.values.map((value) => `\`${String(value)}\``);
  return [wordsOf(issue).replace(/^must be /, '')];
}

/** What each of its forms would have had to be; a form that fits but for something inside tells that. */
function wordsOfUnion(forms: Issue[][]): string {
  const inside = forms.flat().filter(({ path }) => path.length > 0);
  const [first] = inside;
  if (first !== undefined) return `has a \`${pathOf(first.path)}\` that ${wordsOf(first)}`;
  const words = forms.flatMap(([issue]) => (issue === undefined ? [] : choicesOf(issue)));
  return words.length === 0 ? 'has no form that is known' : `must be ${CHOICE.format([...new Set(words)])}`;
}
