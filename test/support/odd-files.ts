// Files as people bring them, in five shapes and three formats, with everything odd in them, and the accounts that they must give.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface Book {
  rowsIn: number;
  kept: number;
  duplicates: number;
  dropped: Record<string, number>;
}

/** Rows above this many tokens are `too_long` (`data.maxLength` of the spec that reads the files). */
export const LENGTH_MAX = 200;

const GOOD = 30;
const numbers = Array.from({ length: GOOD }, (_, i) => i);
const json = (value: unknown) => JSON.stringify(value);
const user = (content: unknown, more: object = {}) => ({ role: 'user', content, ...more });
const assistant = (content: unknown, more: object = {}) => ({ role: 'assistant', content, ...more });
const chat = (...messages: unknown[]) => json({ messages });

/** OpenAI messages as JSONL: byte order mark, CRLF, blank lines, invalid UTF-8, a row of 17 MB. */
const CHATS = {
  name: 'chats.jsonl',
  content: () => {
    const good = numbers.map((i) =>
      chat(user(`Wie spät ist es in Zürich ${i}? 🕰️`), assistant(`Es ist ${i} Uhr. „Ja“`)),
    );
    const lines = [
      ...good,
      '',
      '   ',
      good[0],
      `  ${good[1]}  `,
      json({ id: 7, messages: [user('Wie spät ist es in Zürich 2? 🕰️'), assistant('Es ist 2 Uhr. „Ja“')] }),
      '{"messages": [',
      '[1, 2]',
      'null',
      '{"body": "no shape"}',
      chat(),
      chat(user('no answer')),
      chat({ role: 'bot', content: 'x' }, assistant('y')),
      chat(user(5), assistant('y')),
      chat(user('a'), assistant(' \n ')),
      chat(user('a'), assistant('b', { weight: 2 })),
      chat(user('a'), assistant('b', { weight: 0 })),
      chat(user('a'), user('b'), assistant('c')),
      chat(user('word '.repeat(2 * LENGTH_MAX)), assistant('c')),
      chat(user('half a pair \ud800'), assistant('c')),
    ];
    const invalid = Buffer.concat([Buffer.from('{"messages": "'), Buffer.from([0xff, 0xfe]), Buffer.from('"}\r\n')]);
    const huge = Buffer.from(`${chat(user('x'.repeat(17 * 1024 * 1024)), assistant('y'))}\r\n`);
    return Buffer.concat([Buffer.from(`\ufeff${lines.join('\r\n')}\r\n`), invalid, huge]);
  },
  book: {
    rowsIn: GOOD + 19,
    kept: GOOD,
    duplicates: 3,
    dropped: {
      invalid_json: 1,
      not_object: 2,
      unknown_shape: 1,
      missing_field: 1,
      last_not_assistant: 1,
      unknown_role: 1,
      wrong_type: 1,
      empty_content: 1,
      bad_weight: 1,
      no_trainable_turn: 1,
      bad_turn_order: 1,
      too_long: 1,
      invalid_utf8: 2,
      too_large: 1,
    },
  },
};

/** Questions and answers as CSV with semicolons: quoted line ends, doubled quotes, broken quotes, no line end at the end. */
const QUESTIONS = {
  name: 'questions.csv',
  content: () =>
    [
      'question;answer;note',
      ...numbers.map((i) => `"Was heißt ""Tür ${i}""?\nBitte kurz; danke";"door ${i}; the ""${i}"" one";`),
      '"Was heißt ""Tür 0""?\nBitte kurz; danke";"door 0; the ""0"" one";another note',
      '',
      'too;few',
      'one;field;too;many',
      'a stray "quote";b;',
      '"closed" too soon;b;',
      '"never closed;b;',
      'plain;after it;',
      ';no question;',
      'no answer;;',
      '"the last one;is not closed either;',
    ].join('\n'),
  book: {
    rowsIn: GOOD + 1 + 9,
    kept: GOOD + 1,
    duplicates: 1,
    dropped: {
      csv_missing_columns: 1,
      csv_too_many_columns: 1,
      csv_stray_quote: 2,
      csv_unterminated_quote: 2,
      empty_content: 2,
    },
  },
};

/** Alpaca as a JSON array: an element that breaks off, a comma too many, nested quotes, elements that are no objects. */
const INSTRUCTIONS = {
  name: 'instructions.json',
  content: () => {
    const good = numbers.map((i) =>
      json({
        instruction: `Translate "${i}\\\\${i}" and say {"a": [${i}]}`,
        input: i % 2 ? `input ${i}` : '',
        output: `out ${i} ]},{`,
      }),
    );
    const odd = [good[3], '"text"', '42', 'null', '{"instruction": "no output"}', '{"instruction": 1, "output": "x"}'];
    return `\n[${good.join(',\n')},\n${odd.join(',\n')},,\n{"instruction": "breaks off", "output": "here\n},\n${json({ instruction: 'after it', output: 'fine' })},\n]\n`;
  },
  book: {
    rowsIn: GOOD + 8,
    kept: GOOD + 1,
    duplicates: 1,
    dropped: { not_object: 3, missing_field: 1, wrong_type: 1, invalid_json: 1 },
  },
};

/** ShareGPT as JSONL without a line end at the end; one row is the same chat as one of `chats.jsonl`. */
const SHARED = {
  name: 'shared.jsonl',
  content: () => {
    const turns = (...pairs: [string, unknown][]) =>
      json({ conversations: pairs.map(([from, value]) => ({ from, value })) });
    return [
      ...numbers.map((i) =>
        turns(['system', 'Be short.'], ['human', `Hi ${i}`], ['gpt', 'Hello!'], ['human', 'Bye'], ['gpt', `Bye ${i}`]),
      ),
      turns(['human', 'Wie spät ist es in Zürich 5? 🕰️'], ['gpt', 'Es ist 5 Uhr. „Ja“']),
      turns(['human', 'x'], ['robot', 'y']),
      turns(['gpt', 'I begin'], ['human', 'no'], ['gpt', 'yes']),
      '{"conversations": {}}',
      '{"conversations": [{"from": "human"}]}',
    ].join('\n');
  },
  book: {
    rowsIn: GOOD + 5,
    kept: GOOD,
    duplicates: 1,
    dropped: { unknown_role: 1, bad_turn_order: 1, wrong_type: 1, missing_field: 1 },
  },
};

/** Prompts and completions as tab-separated values with a byte order mark and CRLF. */
const PAIRS = {
  name: 'pairs.tsv',
  content: () =>
    `\ufeff${[
      'prompt\tcompletion',
      ...numbers.map((i) => `Say ${i}, please\t"${i}, ""gladly"""`),
      'Say 0, please\t"0, ""gladly"""',
      'three\tcolumns\there',
      'only one',
    ].join('\r\n')}\r\n\r\n`,
  book: {
    rowsIn: GOOD + 3,
    kept: GOOD,
    duplicates: 1,
    dropped: { csv_too_many_columns: 1, csv_missing_columns: 1 },
  },
};

const FILES = [CHATS, QUESTIONS, INSTRUCTIONS, SHARED, PAIRS];

/** Writes the files and gives their names, the accounts of each, and those of all. */
export function writeOddFiles(folder: string): { names: string[]; books: Book[]; total: Book } {
  for (const { name, content } of FILES) writeFileSync(join(folder, name), content());
  const books: Book[] = FILES.map(({ book }) => book);
  const dropped: Record<string, number> = {};
  for (const book of books) {
    for (const [code, n] of Object.entries(book.dropped)) dropped[code] = (dropped[code] ?? 0) + n;
  }
  const sum = (of: (book: Book) => number) => books.reduce((all, book) => all + of(book), 0);
  return {
    names: FILES.map(({ name }) => name),
    books,
    total: { rowsIn: sum((b) => b.rowsIn), kept: sum((b) => b.kept), duplicates: sum((b) => b.duplicates), dropped },
  };
}
