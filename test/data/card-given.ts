// What the tests of the data card start from: rows, their profile, and a card's input with accounts that add up.
import { hash } from 'node:crypto';
import { PrivacySchema } from '../../src/contracts/privacy-rules.ts';
import type { Profile } from '../../src/contracts/profile.ts';
import type { Accounts, QuarantinedRow } from '../../src/contracts/rows.ts';
import type { CardInput } from '../../src/data/card/input.ts';
import type { Content } from '../../src/data/mapping.ts';
import { createProfile } from '../../src/data/profile/profile.ts';
import { tellLanguages } from '../../src/data/profile/stored.ts';

export interface GivenRow {
  content: Content;
  line: number;
  source: number;
}

const WORDS =
  'order parcel refund invoice café delivery late broken size colour account email help thanks please'.split(' ');

export function givenChats(count: number, { seed = 1, source = 0, firstLine = 1 } = {}): GivenRow[] {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x80000000;
  };
  const text = (words: number) =>
    Array.from({ length: Math.max(1, words) }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ');
  return Array.from({ length: count }, (_, i) => {
    const turns = 1 + Math.floor(random() * 3);
    const messages = Array.from({ length: turns }, () => [
      { role: 'user' as const, content: text(4 + random() * 12) },
      { role: 'assistant' as const, content: text(2 ** (2 + random() * 5)) },
    ]).flat();
    const system = { role: 'system' as const, content: `You help with ${WORDS[i % 3]}.` };
    return { content: { messages: random() < 0.4 ? [system, ...messages] : messages }, line: firstLine + i, source };
  });
}

/** All of it in English. */
export function profileOf(rows: GivenRow[], dropped: QuarantinedRow[] = []): Profile {
  return tellLanguages(rangeProfileOf(rows, dropped), () => 'en');
}

/** As a range leaves it. */
export function rangeProfileOf(rows: GivenRow[], dropped: QuarantinedRow[] = []): Profile {
  const profile = createProfile();
  for (const { content, line, source } of rows) {
    const id = hash('sha256', JSON.stringify(content), 'hex').slice(0, 32);
    profile.add(
      content,
      { source, line, id, jsonBytes: JSON.stringify(content).length, sourceBytes: 0 },
      () => content,
    );
  }
  for (const row of dropped) profile.addDropped(row);
  return profile.toJson();
}

export function brokenLine(
  code: QuarantinedRow['code'],
  line: number,
  message: string,
  preview: string,
): QuarantinedRow {
  return { source: 'support.jsonl', line, code, path: '', message: `support.jsonl line ${line}: ${message}`, preview };
}

const BOOKS: Accounts['bySource'] = [
  {
    ...{ uri: 'https://data.example.org/support.jsonl?token=secret', rowsIn: 970, kept: 900, duplicates: 40 },
    dropped: { invalid_json: 18, wrong_type: 12 },
  },
  { uri: 'faq.csv', rowsIn: 120, kept: 100, duplicates: 8, dropped: { csv_stray_quote: 12 } },
];

const DROPPED = [
  brokenLine(
    ...(['invalid_json', 12] as const),
    'the row is not valid JSON: Expected "," at character 40; write it with a JSON library',
    '{"messages":[{"role":"user" "content":"Where is my <b>parcel</b>?"}]}',
  ),
  brokenLine('invalid_json', 57, 'the row is not valid JSON: Unexpected end', '{"messages":[{"role":"us'),
  brokenLine(
    ...(['wrong_type', 402] as const),
    'messages[0].content must be text, found number 42',
    '{"messages":[{"role":"user","content":42}]}',
  ),
];

const PROFILE = profileOf([...givenChats(940), ...givenChats(108, { seed: 2, source: 1 })], DROPPED);

export function cardInput(changes: Partial<CardInput> = {}): CardInput {
  return {
    ...{ name: 'support-assistant', method: 'sft', run: 'run-1', dataset: 'd'.repeat(64) },
    snapshot: {
      digest: '5'.repeat(64),
      sources: BOOKS.map(({ uri }, i) => ({
        ...{
          uri,
          format: i === 0 ? ('jsonl' as const) : ('csv' as const),
          shape: 'auto',
          sizeBytes: 2_400_000 - i * 2_100_000,
        },
        ...{ sha256: String(i).repeat(64), parts: [], etag: i === 0 ? '"abc"' : null },
      })),
    },
    accounts: {
      ...{
        rowsIn: 1090,
        kept: 1000,
        duplicates: 48,
        dropped: { invalid_json: 18, wrong_type: 12, csv_stray_quote: 12 },
      },
      ...{ splits: { train: 850, validation: 50, test: 100 }, bySource: BOOKS },
    },
    profile: PROFILE,
    ...{ rejected: [], fixed: {}, warned: {}, pii: { email: 31, phone: 4, secret: 1 } },
    privacy: PrivacySchema.parse({ action: 'mask', types: { secret: 'block' } }),
    nearFound: 14,
    leakage: {
      sharedGroups: 0,
      sharedRows: 0,
      nearCrossing: 0,
      evals: [{ name: 'helpdesk-test', rows: 2 }],
      heldOutText: { ...{ words: 13, heldOut: 150, shared: 0, template: 3 }, ...{ trainRows: 0, dropped: false } },
    },
    tokens: {
      splits: {
        train: {
          rows: 850,
          tokens: 148_230,
          trainableTokens: 61_022,
          longest: 611,
          histogram: PROFILE.rowLengths.slice(6),
        },
        validation: { rows: 50, tokens: 8_730, trainableTokens: 3_520, longest: 488 },
        test: { rows: 100, tokens: 17_100, trainableTokens: 7_044, longest: 520 },
      },
      ...{
        rejected: 0,
        cut: { truncated: 0, lostTokens: 0, split: { rows: 0, into: 0 }, lostTurns: 0 },
        unrendered: null,
      },
      ...{ templateSha256: '7'.repeat(64), tokenizerSha256: '8'.repeat(64) },
      sample: [
        { text: '<|im_start|>user\nWhere is my order?<|im_end|>\n<|im_start|>assistant\n', trainable: false },
        { text: 'It left our warehouse this morning and should reach you tomorrow.<|im_end|>', trainable: true },
        { text: '\n', trainable: false },
      ],
    },
    packing: { rows: 171, room: 611, fill: 0.94 },
    maxLength: 1024,
    ...{
      rules: '9'.repeat(64),
      code: 'c'.repeat(64),
      dropColumns: [],
      notes: ['faq.csv: CSV with the delimiter ";".'],
    },
    ...{ blocked: null, previous: null, seconds: 0.8, workflow: null },
    ...changes,
  };
}
