// Messy rows for measuring, and the truth about them: chats in JSONL and questions in CSV with quoted line ends. The same seed
// gives the same bytes. About 1 % of the rows are broken in many ways, 3 % are copies, 5 % hold something private.
import { closeSync, openSync, writeSync } from 'node:fs';
import { seededRandom } from '../src/evaluation/seeded-random.ts';

export interface Truth {
  rowsIn: number;
  duplicates: number;
  dropped: Record<string, number>;
  /** Private values by type, in the rows that are not dropped, copies included. */
  pii: Record<string, number>;
}

const SHARES = { copy: 0.03, broken: 0.01, private: 0.05 };
/** Rows of which copies are made. */
const COPIED_ROWS = 4_000;

const COMMON =
  `the of and to in is you that it he was for on are as with his they I at be this have from or one had by word but not what all were we
when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him
into time has look two more write go see number no way could people my than first water been call who oil its now find long down day did get
come made may part over new sound take only little work know place year live me back give most very after thing our just name good sentence
train model data gradient batch learning rate loss function customer account invoice refund shipping order policy payment server database
query index cache request response error timeout retry cluster node container deploy version release`.split(/\s+/);
const SYLLABLES =
  'ba be bi bo cu da de di do fa fe fi ga ge go la le li lo lu ma me mi mo na ne ni no pa pe ra re ri ro sa se si ta te ti to va ve vi tion ment ness able ing er ly'.split(
    ' ',
  );
const FOREIGN = [
  '你好，请问如何重置我的密码？',
  'Üben macht den Meister – größer als früher',
  'café déjà vu naïve façade',
  '👍🏽 отлично, спасибо за помощь',
  'データセットを前処理する',
];
const CODE = [
  '```python\ndef train(model, data, lr=1e-4):\n    for batch in data:\n        loss = model(batch)["loss"]\n        loss.backward()\n    return model\n```',
  '```sql\nSELECT id, count(*) AS n FROM "orders" WHERE status = \'open\' GROUP BY 1 ORDER BY n DESC;\n```',
  '| col a | col b |\n|---|---|\n| 1 | "x" |\n| 2 | \\path\\to |',
];

export interface Random {
  /** In [0, 1). */
  next(): number;
  below(n: number): number;
  pick<T>(all: readonly T[]): T;
}

export function createRandom(seed: number): Random {
  const next = seededRandom(seed);
  const below = (n: number) => Math.floor(next() * n);
  return { next, below, pick: (all) => all[below(all.length)] as (typeof all)[number] };
}

function createWords(seed: number): (random: Random) => string {
  const random = createRandom(seed);
  const rare = Array.from({ length: 30_000 }, () =>
    Array.from({ length: 2 + random.below(3) }, () => random.pick(SYLLABLES)).join(''),
  );
  // Squared, so that a few words are frequent, as in a language.
  const pick = ({ next }: Random, all: readonly string[]) => all[Math.floor(next() ** 2 * all.length)] as string;
  return (r) => pick(r, r.next() < 0.62 ? COMMON : rare);
}

const wordOf = createWords(7);

function proseOf(random: Random, words: number): string {
  let text = '';
  let length = 0;
  for (let i = 0; i < words; i++) {
    const word = wordOf(random);
    text += length++ === 0 ? (word[0] as string).toUpperCase() + word.slice(1) : word;
    if (length > 6 && random.next() < 0.12) {
      text += random.next() < 0.15 ? '?' : '.';
      text += random.next() < 0.12 ? '\n\n' : ' ';
      length = 0;
    } else text += random.next() < 0.07 ? ', ' : ' ';
    if (random.next() < 0.004) text += `"${wordOf(random)}" `;
    if (random.next() < 0.01) text += `${random.below(1000)} `;
  }
  if (random.next() < 0.06) text += `\n\n${random.pick(CODE)}\n`;
  if (random.next() < 0.03) text += ` ${random.pick(FOREIGN)}`;
  return text.trim();
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const digits = (random: Random, n: number) => Array.from({ length: n }, () => random.below(10)).join('');

/** Values that their detectors' checks accept. */
const PRIVATE: Record<string, (random: Random) => string> = {
  email: (r) =>
    `${wordOf(r).toLowerCase()}.${wordOf(r).toLowerCase()}${digits(r, 2)}@mail-${wordOf(r).toLowerCase()}.com`,
  phone: (r) => `+1 (212) ${2 + r.below(8)}${2 + r.below(8)}${2 + r.below(8)}-${digits(r, 4)}`,
  card: (r) => withLuhn(`4${digits(r, 14)}`).replaceAll(/(\d{4})(?=\d)/g, '$1 '),
  // Four small parts are taken for a version.
  ip: (r) => `${11 + r.below(80)}.${r.below(256)}.${r.below(256)}.${32 + r.below(219)}`,
  secret: (r) => `sk-${Array.from({ length: 39 }, () => r.pick([...LETTERS])).join('')}${r.below(10)}`,
};

function withLuhn(body: string): string {
  const sum = [...body].reverse().reduce((total, digit, i) => {
    const doubled = i % 2 === 0 ? 2 * Number(digit) : Number(digit);
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return body + ((10 - (sum % 10)) % 10);
}

/** Prose, and the private values put into it by type. */
interface Prose {
  text: string;
  pii: string[];
}

function withPrivate(random: Random, text: string): Prose {
  const pii = [random.pick(Object.keys(PRIVATE)), random.pick(Object.keys(PRIVATE))];
  const [one, two] = pii.map((type) => PRIVATE[type]?.(random));
  return { text: `${text} Contact: ${one} or ${two} please.`, pii };
}

/** A row that was made: its bytes without the line end, and what is true of it. */
interface Made {
  bytes: string | Buffer;
  code: string | null;
  pii: string[];
}

type MakeRow = (random: Random, number: number, isBroken: boolean, isPrivate: boolean) => Made;

interface Chat {
  messages: unknown;
  conversation_id: string;
  meta: object;
}

type Turns = { role: string; content?: unknown }[];

const CHAT_BREAKERS: [code: string, write: (chat: Chat, turns: Turns) => string | Buffer][] = [
  ['invalid_json', (chat) => JSON.stringify(chat).slice(0, -30)],
  ['invalid_json', (chat) => JSON.stringify(chat).replace('"role"', 'role')],
  [
    'wrong_type',
    (chat, turns) => JSON.stringify({ ...chat, messages: [{ ...turns[0], content: 42 }, ...turns.slice(1)] }),
  ],
  ['wrong_type', (chat) => JSON.stringify({ ...chat, messages: { turns: chat.messages } })],
  [
    'missing_field',
    (chat, turns) => JSON.stringify({ ...chat, messages: [...turns.slice(0, -1), { role: 'assistant' }] }),
  ],
  ['unknown_shape', ({ conversation_id, meta }) => JSON.stringify({ conversation_id, meta })],
  [
    'unknown_role',
    (chat, turns) => JSON.stringify({ ...chat, messages: [...turns.slice(0, -1), { ...turns.at(-1), role: 'bot' }] }),
  ],
  ['invalid_utf8', (chat) => withBadBytes(JSON.stringify(chat))],
  ['last_not_assistant', (chat, turns) => JSON.stringify({ ...chat, messages: turns.slice(0, -1) })],
  [
    'bad_turn_order',
    (chat, turns) =>
      JSON.stringify({ ...chat, messages: [...turns.slice(0, -1), { role: 'user', content: 'again' }, turns.at(-1)] }),
  ],
  [
    'empty_content',
    (chat, turns) =>
      JSON.stringify({ ...chat, messages: [...turns.slice(0, -1), { role: 'assistant', content: ' ' }] }),
  ],
];

function withBadBytes(line: string): Buffer {
  const bytes = Buffer.from(line);
  const at = Math.floor(bytes.length / 2);
  return Buffer.concat([bytes.subarray(0, at), Buffer.from([0xff, 0xfe, 0xc3]), bytes.subarray(at)]);
}

const makeChat: MakeRow = (random, number, isBroken, isPrivate) => {
  const turns: Turns = [];
  const pii: string[] = [];
  if (random.next() < 0.3) turns.push({ role: 'system', content: `You help with ${proseOf(random, 12)}` });
  const rounds = 1 + random.below(1 + random.below(6));
  for (let round = 0; round < rounds; round++) {
    const asked = proseOf(random, 12 + random.below(70));
    const question = isPrivate && round === 0 ? withPrivate(random, asked) : { text: asked, pii: [] };
    pii.push(...question.pii);
    turns.push({ role: 'user', content: question.text });
    turns.push({ role: 'assistant', content: proseOf(random, 30 + random.below(190)) });
  }
  const chat: Chat = {
    messages: turns,
    conversation_id: `c-${number}`,
    meta: { source: random.pick(['web', 'email', 'chat']), lang: 'en', score: Math.round(random.next() * 1000) / 1000 },
  };
  if (!isBroken) return { bytes: JSON.stringify(chat), code: null, pii };
  const [code, write] = random.pick(CHAT_BREAKERS);
  return { bytes: write(chat, turns), code, pii: [] };
};

export const CSV_HEADER = 'ticket,question,answer,category';
const csvField = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csvLine = (fields: string[]) => fields.map(csvField).join(',');

const CSV_BREAKERS: [code: string, write: (fields: [string, string, string, string]) => string | Buffer][] = [
  ['csv_too_many_columns', (fields) => `${csvLine(fields)},more,fields`],
  ['csv_missing_columns', (fields) => csvLine(fields.slice(0, 2))],
  ['csv_stray_quote', ([ticket]) => `${ticket},5" pipe,x,y`],
  ['empty_content', ([ticket, question, , category]) => csvLine([ticket, question, ' ', category])],
  ['empty_content', ([ticket, , answer, category]) => csvLine([ticket, '', answer, category])],
  [
    'invalid_utf8',
    (fields) => withBadBytes(csvLine(fields).replaceAll('"', '').replaceAll('\n', ' ').replace(/.{40}/, '$&,')),
  ],
];

const makeQuestion: MakeRow = (random, number, isBroken, isPrivate) => {
  const asked = proseOf(random, 8 + random.below(50));
  const { text: question, pii } = isPrivate ? withPrivate(random, asked) : { text: asked, pii: [] };
  const category = random.pick(['billing', 'tech', 'sales']);
  const fields = [`t${number}`, question, proseOf(random, 20 + random.below(170)), category] as [
    string,
    string,
    string,
    string,
  ];
  if (!isBroken) return { bytes: csvLine(fields), code: null, pii };
  const [code, write] = random.pick(CSV_BREAKERS);
  return { bytes: write(fields), code, pii: [] };
};

/** Writes lines until the file has the size. */
function writeRows(path: string, sizeBytes: number, seed: number, makeRow: MakeRow, header: string): Truth {
  const random = createRandom(seed);
  const truth: Truth = { rowsIn: 0, duplicates: 0, dropped: {}, pii: {} };
  const copied: Made[] = [];
  const out = openOutput(path);
  out.add(header);
  for (let number = 0; out.sizeBytes() < sizeBytes; number++) {
    const roll = random.next();
    const isCopy = roll < SHARES.copy && copied.length > 0;
    const isBroken = roll >= SHARES.copy && roll < SHARES.copy + SHARES.broken;
    const made = isCopy ? random.pick(copied) : makeRow(random, number, isBroken, random.next() < SHARES.private);
    truth.rowsIn++;
    if (isCopy) truth.duplicates++;
    else if (made.code !== null) add(truth.dropped, made.code);
    else if (copied.length < COPIED_ROWS) copied.push(made);
    for (const type of made.pii) add(truth.pii, type);
    out.add(made.bytes);
    out.add('\n');
  }
  out.close();
  return truth;
}

function add(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}

function openOutput(path: string) {
  const file = openSync(path, 'w');
  const block = Buffer.allocUnsafe(4 * 1024 * 1024);
  let used = 0;
  let written = 0;
  const flush = () => {
    writeSync(file, block, 0, used);
    written += used;
    used = 0;
  };
  return {
    sizeBytes: () => written + used,
    add(piece: string | Buffer) {
      const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
      if (used + bytes.length > block.length) flush();
      used += bytes.copy(block, used);
    },
    close() {
      flush();
      closeSync(file);
    },
  };
}

export function writeChats(path: string, sizeBytes: number, seed: number): Truth {
  return writeRows(path, sizeBytes, seed, makeChat, '');
}

/** The same chats as `json.dumps` writes them: blanks behind commas and colons, characters that are no ASCII by their numbers. */
export function writePythonChats(path: string, sizeBytes: number, seed: number): Truth {
  const makePythonChat: MakeRow = (...given) => {
    const made = makeChat(...given);
    return made.code === null ? { ...made, bytes: asPython(JSON.parse(made.bytes as string)) } : made;
  };
  return writeRows(path, sizeBytes, seed, makePythonChat, '');
}

function asPython(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(asPython).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([name, inner]) => `"${name}": ${asPython(inner)}`)
      .join(', ')}}`;
  return JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export function writeQuestions(path: string, sizeBytes: number, seed: number): Truth {
  return writeRows(path, sizeBytes, seed, makeQuestion, `${CSV_HEADER}\n`);
}
