// What becomes of personal data in a row: in every field, by every action, and never twice.
import { expect, test } from 'vitest';
import { type PrivacyRules, PrivacySchema } from '../../../src/contracts/privacy-rules.ts';
import type { Content } from '../../../src/data/mapping.ts';
import { createPrivacy } from '../../../src/data/privacy/privacy.ts';
import { redactPreview } from '../../../src/data/privacy/redact.ts';
import { readCorpus } from './corpus/corpus.ts';

const KEY = 'a project key of 32 characters..';

function inspect(content: Content, rules: Partial<Record<keyof PrivacyRules, unknown>>, key: string | null = KEY) {
  return createPrivacy(PrivacySchema.parse(rules), key).inspect(content);
}

const chat = (user: string, assistant = 'Fine.'): Content => ({
  messages: [
    { role: 'user', content: user },
    { role: 'assistant', content: assistant },
  ],
});
const textOf = (content: Content): string => ('messages' in content ? (content.messages[0]?.content ?? '') : '');

const MAIL = 'ann@example.org';

test('every text of a row is looked into, and names of fields, roles and call ids are left alone', () => {
  const call = {
    id: 'ann@example.org',
    type: 'function',
    function: {
      name: 'mail',
      arguments: JSON.stringify({ to: MAIL, card: 4111111111111111, nested: [{ note: `x ${MAIL}` }] }),
    },
  };
  const row: Content = {
    messages: [
      { role: 'system', content: `Operator: ${MAIL}` },
      { role: 'user', content: MAIL, name: MAIL },
      { role: 'assistant', content: '', tool_calls: JSON.stringify([call]), reasoning_content: `write to ${MAIL}` },
      { role: 'tool', content: `sent to ${MAIL}`, tool_call_id: MAIL },
      { role: 'assistant', content: 'done' },
    ],
    tools: JSON.stringify([
      {
        type: 'function',
        function: { name: 'mail', description: `as ${MAIL}`, parameters: { 'ann@example.org': {} } },
      },
    ]),
  };
  const { content, found, fault } = inspect(row, { action: 'mask' });
  expect(found).toEqual({ email: 8, card: 1 });
  expect(fault).toBeNull();
  const { messages, tools } = content as {
    messages: {
      content: string;
      name?: string;
      tool_calls?: string;
      tool_call_id?: string;
      reasoning_content?: string;
    }[];
    tools: string;
  };
  expect(messages.map((message) => message.content)).toEqual([
    'Operator: <EMAIL>',
    '<EMAIL>',
    '',
    'sent to <EMAIL>',
    'done',
  ]);
  expect(messages[1]?.name).toBe('<EMAIL>');
  expect(messages[2]?.reasoning_content).toBe('write to <EMAIL>');
  expect(messages[3]?.tool_call_id).toBe(MAIL);
  const [called] = JSON.parse(messages[2]?.tool_calls ?? '') as (typeof call)[];
  expect(called?.function.name).toBe('mail');
  expect(JSON.parse(called?.function.arguments ?? '')).toEqual({
    to: '<EMAIL>',
    card: '<CARD>',
    nested: [{ note: 'x <EMAIL>' }],
  });
  expect(JSON.parse(tools)).toEqual([
    { type: 'function', function: { name: 'mail', description: 'as <EMAIL>', parameters: { 'ann@example.org': {} } } },
  ]);
  expect(Object.keys(content)).toEqual(Object.keys(row));
});

test('pairs, judged answers and plain texts are looked into as well', () => {
  const turn = { role: 'assistant', content: MAIL } as const;
  const prompt = [{ role: 'user', content: MAIL }] as const;
  expect(inspect({ prompt: [...prompt], chosen: turn, rejected: turn } as Content, { action: 'mask' }).found).toEqual({
    email: 3,
  });
  expect(inspect({ prompt: [...prompt], completion: turn, label: true } as Content, { action: 'mask' }).found).toEqual({
    email: 2,
  });
  expect(inspect({ text: MAIL } as Content, { action: 'mask' }).content).toEqual({ text: '<EMAIL>' });
});

test('by default all is counted and nothing is changed', () => {
  const row = chat(`${MAIL} and 4111 1111 1111 1111`);
  const { content, found, fault } = inspect(row, {});
  expect(content).toBe(row);
  expect(found).toEqual({ email: 1, card: 1 });
  expect(fault).toBeNull();
});

test('a type of its own action: masked, replaced, counted, and not looked for', () => {
  const row = chat(`${MAIL}, 4111 1111 1111 1111, 93.184.216.34, SSN 536-90-4399`);
  const types = { email: 'pseudonymise', card: 'mask', ip: 'off' };
  const { content, found } = inspect(row, { action: 'warn', types });
  expect(textOf(content)).toMatch(/^<EMAIL_[\da-f]{6}>, <CARD>, 93\.184\.216\.34, SSN 536-90-4399$/);
  expect(found).toEqual({ email: 1, card: 1, national_id: 1 });
});

test('a pseudonym is the same however the value is written, and another with another key', () => {
  const rules = { action: 'pseudonymise' };
  const nameOf = (text: string, key = KEY) => textOf(inspect(chat(text), rules, key).content);
  expect(nameOf('DE89 3704 0044 0532 0130 00')).toBe(nameOf('DE89370400440532013000'));
  expect(nameOf('Ann@Example.org')).toBe(nameOf(MAIL));
  expect(nameOf('+1 415-555-2671')).toBe(nameOf('(415) 555-2671'));
  expect(nameOf(MAIL)).not.toBe(nameOf('bob@example.org'));
  expect(nameOf(MAIL)).not.toBe(nameOf(MAIL, 'another key of the project......'));
});

test('pseudonyms without a key, or with a short one, are refused with the variable to set', () => {
  const rules = PrivacySchema.parse({ types: { phone: 'pseudonymise' } });
  for (const key of [null, 'fifteen letters'])
    expect(() => createPrivacy(rules, key)).toThrow(/phone.*16 characters.*ANNEAL_PSEUDONYM_KEY/);
});

test('names without Presidio are refused by the spec, not passed over', () => {
  const refused = PrivacySchema.safeParse({ types: { person: 'mask', address: 'off' } });
  expect(refused.error?.issues).toMatchObject([
    { path: ['types', 'person'], message: expect.stringContaining('data.privacy.presidio') },
  ]);
  expect(PrivacySchema.safeParse({ types: { person: 'mask' }, presidio: 'http://127.0.0.1:5002' }).success).toBe(true);
});

test('a country without phone numbers is refused by name', () => {
  expect(() => createPrivacy(PrivacySchema.parse({ phoneRegions: ['US', 'QQ'] }), null)).toThrow(/phoneRegions.*QQ/);
});

test('drop and block name the place and the type, never the value; block comes first', () => {
  const row = chat('4111 1111 1111 1111', MAIL);
  const dropped = inspect(row, { types: { card: 'drop' } }).fault;
  expect(dropped).toMatchObject({ code: 'pii_dropped', path: 'messages[0].content' });
  const blocked = inspect(row, { types: { card: 'drop', email: 'block' } });
  expect(blocked.fault).toMatchObject({ code: 'pii_blocked', path: 'messages[1].content' });
  expect(blocked.found).toEqual({ card: 1, email: 1 });
  expect(`${dropped?.message} ${blocked.fault?.message}`).not.toMatch(/4111|ann@/);
});

test('what is allowed is neither counted nor changed: a value in any form, a domain, a domain under it', () => {
  const row = chat(`${MAIL}, x@mail.example.org, y@example.com, DE89 3704 0044 0532 0130 00`);
  const { content, found } = inspect(row, { action: 'mask', allow: ['example.org', 'DE89370400440532013000'] });
  expect(textOf(content)).toBe(`${MAIL}, x@mail.example.org, <EMAIL>, DE89 3704 0044 0532 0130 00`);
  expect(found).toEqual({ email: 1 });
});

test('wide digits, no-break spaces and long dashes hide nothing', () => {
  const { content } = inspect(
    chat(
      '４１１１ １１１１ １１１１ １１１１ und 536‑90‑4399 et +33\u00a06\u00a012\u00a034\u00a056\u00a078, ann＠example.org',
    ),
    { action: 'mask' },
  );
  expect(textOf(content)).toBe('<CARD> und <NATIONAL_ID> et <PHONE>, <EMAIL>');
});

const corpus = readCorpus();

test('masking or replacing twice changes nothing more', () => {
  for (const action of ['mask', 'pseudonymise']) {
    const privacy = createPrivacy(PrivacySchema.parse({ action }), KEY);
    for (const [i, { text: given }] of corpus.entries()) {
      const text = i % 2 === 0 ? given : `${mutate(given, i)}${mutate(given, i + 1)}`;
      const once = privacy.inspect(chat(text)).content;
      const twice = privacy.inspect(once);
      expect(textOf(twice.content)).toBe(textOf(once));
      expect(twice.found).toEqual({});
    }
  }
});

/** Inserts, deletes and swaps characters, so that values lie at edges, beside escapes and in pieces. */
function mutate(text: string, seed: number): string {
  let state = seed;
  const below = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const pieces = [
    '\n',
    '"',
    '\\',
    '/',
    ' ',
    '-',
    '.',
    '\t',
    ':',
    'n',
    '0',
    '\u00a0',
    '４',
    '\\u0040',
    '@',
    '\u0001',
    '漢',
    '=',
    'AKIA',
    '\\n',
  ];
  let mutated = text;
  for (let i = below(4); i >= 0; i--) {
    const at = below(mutated.length + 1);
    mutated =
      mutated.slice(0, at) + (below(3) === 0 ? '' : pieces[below(pieces.length)]) + mutated.slice(at + below(2));
  }
  return mutated;
}

test('what the glance does not see the detectors do not find, on 40,000 mutated rows', () => {
  const privacy = createPrivacy(PrivacySchema.parse({ action: 'warn', privateAddresses: true }), null);
  let unseen = 0;
  for (let round = 0; round < 40; round++)
    for (const [i, { text }] of corpus.entries()) {
      const mutated = mutate(text, round * corpus.length + i);
      const row =
        round % 4 === 0
          ? {
              messages: [
                {
                  role: 'assistant',
                  content: '',
                  tool_calls: JSON.stringify([{ function: { name: 'f', arguments: JSON.stringify({ v: mutated }) } }]),
                },
              ],
            }
          : chat(mutated);
      const json = JSON.stringify(row);
      // As Python and PHP write it.
      const written =
        round % 3 === 0
          ? json
              .replaceAll(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
              .replaceAll('/', '\\/')
          : json;
      if (privacy.mayHold(written)) continue;
      unseen++;
      expect(privacy.inspect(row as Content).found, mutated).toEqual({});
    }
  expect(unseen).toBeGreaterThan(2000);
});

test('previews are masked whatever the spec says, in JSON that is cut and escaped', () => {
  expect(redactPreview('{"a":"line\\nann@example.org","b":"\\u0061nn\\u0040example.org')).toBe(
    '{"a":"line\\n<EMAIL>","b":"<EMAIL>',
  );
  expect(
    redactPreview('a,"4111 1111 1111 1111",10.0.0.7\n-----BEGIN RSA PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA7bq8sXz0Yk9Qm'),
  ).toBe('a,"<CARD>",<IP>\n<SECRET>');
  const plain = '{"messages":[{"role":"user","content":"nothing here, 2024-01-15"}]}';
  expect(redactPreview(plain)).toBe(plain);
});
