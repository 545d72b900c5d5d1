// Rows made at random, by every method and policy: a row is taken or refused with a code, never anything else, and is not changed.
import { expect, test } from 'vitest';
import { DROP_CODES, type Method } from '../../src/contracts/rows.ts';
import { type Policy, policiesOf, type Rules } from '../../src/contracts/rules.ts';
import { createRowMapper, type Mapping } from '../../src/data/mapping.ts';
import { RowFault } from '../../src/data/turns.ts';
import { createRandom } from './given.ts';

const ROWS = 1_500;

const user = { role: 'user', content: 'cafÃ© <image>' };
const assistant = { role: 'assistant', content: 'b ' };
const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } };

/** One of each shape, whose parts are then exchanged, taken out and put in twice. */
const SEEDS: unknown[] = [
  { messages: [{ role: 'system', content: 's' }, user, assistant, user, { ...assistant, weight: 0 }] },
  {
    messages: [
      user,
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', content: '1', tool_call_id: 'c' },
      assistant,
    ],
    tools: [call],
  },
  { messages: [{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'a' }] }, assistant], images: ['x'] },
  {
    conversations: [
      { from: 'human', value: 'a' },
      { from: 'function_call', value: '{"name":"f"}' },
      { from: 'observation', value: '1' },
      { from: 'gpt', value: 'b' },
    ],
  },
  { instruction: 'a', input: 'i', output: 'b', history: [['h', 'i']], system: 's' },
  { prompt: [user], completion: [assistant], label: true, text: 'a' },
  { prompt: 'a', chosen: [assistant], rejected: { role: 'assistant', content: 'c' } },
  { input: { messages: [user], tools: [] }, preferred_output: [assistant], non_preferred_output: [user] },
  { question: 'a', answer: 'b', context: 'c', kto_tag: 'no' },
];
const ATOMS: unknown[] = [
  null,
  true,
  0,
  1.5,
  '',
  ' ',
  'a',
  '[',
  '{"a":1}',
  '\ud83d',
  '<image>',
  [],
  {},
  [[]],
  'system',
  'user',
  'human',
  'gpt',
  call,
];

function createMutator(random: () => number): (value: unknown) => unknown {
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const mutate = (value: unknown, depth = 0): unknown => {
    if (depth > 0 && random() < 0.06) return pick(ATOMS);
    if (Array.isArray(value)) {
      const entries = value.map((entry) => mutate(entry, depth + 1));
      if (random() < 0.15) entries.splice(Math.floor(random() * 3), 1);
      if (random() < 0.15 && entries.length > 0) entries.splice(Math.floor(random() * 3), 0, pick(entries));
      return entries;
    }
    if (typeof value !== 'object' || value === null) return value;
    const fields = Object.entries(value).filter(() => random() > 0.02);
    return Object.fromEntries(fields.map(([key, field]) => [key, mutate(field, depth + 1)]));
  };
  return () => mutate(random() < 0.2 ? { ...(pick(SEEDS) as object), ...(pick(SEEDS) as object) } : pick(SEEDS));
}

const all = (policy: Policy): Rules =>
  Object.fromEntries(DROP_CODES.filter((code) => policiesOf(code).includes(policy)).map((code) => [code, policy]));

const MAPPINGS: Partial<Mapping>[] = [
  {},
  { rules: all('fix'), system: 's' },
  { rules: all('warn'), roles: { human: 'user', gpt: 'function_call' } },
  {
    rules: all('fix'),
    turns: { role: 'role', content: 'value', weight: 'weight' },
    dropColumns: ['system', 'messages.weight'],
  },
  { columns: { messages: '{{conversations}}', system: '{{system?}}', label: '{{kto_tag?}}', chosen: '{{chosen?}}' } },
];

test.each<Method>(['sft', 'dpo', 'kto'])('%s', (method) => {
  const mutate = createMutator(createRandom(7));
  const codes = new Set<string>();
  let taken = 0;
  for (let i = 0; i < ROWS; i++) {
    const row = mutate(null);
    const before = JSON.stringify(row);
    const mapping: Mapping = { method, shape: 'auto', system: null, ...MAPPINGS[i % MAPPINGS.length] };
    try {
      const { content } = createRowMapper(mapping)(row);
      taken++;
      // What was made of a row needs nothing more done to it, where it is one that is mended.
      if (mapping.rules === MAPPINGS[1]?.rules && !('media' in content))
        expect(createRowMapper({ method, shape: 'auto', system: null, rules: all('fix') })(content)).toEqual({
          content,
          fixed: [],
          warned: [],
        });
    } catch (error) {
      if (!(error instanceof RowFault)) throw error;
      expect(error.message).not.toMatch(/undefined|\[object/);
      codes.add(error.code);
    }
    expect(JSON.stringify(row)).toBe(before);
  }
  expect(taken).toBeGreaterThan(ROWS / 50);
  expect(codes.size).toBeGreaterThan(8);
});
