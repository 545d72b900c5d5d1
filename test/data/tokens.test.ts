// What is known of tokens over several ranges: names of shards, merged counts, and the key under which they are found again.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isShardOf, shardName, shardsOf } from '../../src/contracts/shards.ts';
import { type TokeniseResult, TokeniseResultSchema } from '../../src/contracts/trainer-protocol.ts';
import { mergeTokens } from '../../src/data/tokens.ts';
import { digestTokenizer, tokensKey } from '../../src/data/tokens-key.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-tokens-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function resultOf(train: Partial<TokeniseResult['splits'][string]>, more: object = {}): TokeniseResult {
  const splits = { train: { rows: 0, tokens: 0, trainableTokens: 0, longest: 0, ...train } };
  return TokeniseResultSchema.parse({
    splits,
    rejected: 0,
    templateSha256: 't',
    tokenizerSha256: 'k',
    sample: [],
    ...more,
  });
}

describe('names of shards', () => {
  test('one shard has the name of the split, several have numbers', () => {
    expect(shardName('train', 'jsonl', 0, 1)).toBe('train.jsonl');
    expect(shardName('train', 'safetensors', 3, 12)).toBe('train-00003-of-00012.safetensors');
  });

  test('a name belongs to its split and its kind only, and shards come in the order of their numbers', () => {
    const paths = Array.from({ length: 11 }, (_, i) => shardName('train', 'safetensors', i, 11));
    const others = [
      'train.jsonl',
      'test-00000-of-00011.safetensors',
      'train-00000-of-00011.jsonl',
      'train-x.safetensors',
    ];
    expect(shardsOf([...others, ...paths.toReversed()], 'train', 'safetensors')).toEqual(paths);
    expect(others.map((path) => isShardOf(path, 'train', 'safetensors'))).toEqual([false, false, false, false]);
    expect(isShardOf('train.safetensors', 'train', 'safetensors')).toBe(true);
  });
});

describe('tokens of several ranges', () => {
  test('counts add up, the longest is the longest, and the sample is that of the first row', () => {
    const sample = [{ text: 'a', trainable: true }];
    const cut = { truncated: 1, lostTokens: 7, split: { rows: 1, into: 3 }, lostTurns: 2 };
    const merged = mergeTokens([
      resultOf({ rows: 2, tokens: 9, trainableTokens: 4, longest: 6, histogram: [0, 2] }, { rejected: 1, cut }),
      resultOf({ rows: 1, tokens: 8, trainableTokens: 3, longest: 8, histogram: [0, 0, 1] }, { sample, cut }),
      resultOf({}, { sample: [{ text: 'b', trainable: true }] }),
    ]);
    const train = { rows: 3, tokens: 17, trainableTokens: 7, longest: 8, histogram: [0, 2, 1] };
    expect(merged).toMatchObject({ splits: { train }, rejected: 1, sample });
    expect(merged.cut).toEqual({ truncated: 2, lostTokens: 14, split: { rows: 2, into: 6 }, lostTurns: 4 });
  });

  test('a template that renders no row of any range fails, one that renders some does not', () => {
    const refused = resultOf({}, { rejected: 2, unrendered: { rows: 2, first: 'no system role' } });
    expect(() => mergeTokens([refused, refused])).toThrow(
      'cannot render any of the 4 rows; the first says: no system role',
    );
    const some = mergeTokens([refused, resultOf({ rows: 1 })]);
    expect(some.unrendered).toEqual({ rows: 2, first: 'no system role' });
  });
});

describe('key of tokenised rows', () => {
  const rules = { rows: 'r', maxLength: 128, tooLong: 'auto', kind: 'chat', code: 'c' } as const;
  const keyOf = async (changes: object = {}) => tokensKey({ ...rules, ...(await digestTokenizer(folder)), ...changes });

  test('changes with the rows, the tokenizer, a template file and each rule, and with nothing else', async () => {
    writeFileSync(join(folder, 'tokenizer.json'), '{}');
    const keys = [await keyOf()];
    writeFileSync(join(folder, 'model.safetensors'), 'weights');
    expect(await keyOf()).toBe(keys[0]);
    const changes = [{ rows: 's' }, { maxLength: 129 }, { tooLong: 'split' }, { kind: 'pair' }, { code: 'd' }];
    for (const change of changes) keys.push(await keyOf(change));
    const deciding = ['chat_template.jinja', 'chat_template.json', 'tokenizer_config.json', 'preprocessor_config.json'];
    for (const file of [...deciding, 'config.json']) {
      writeFileSync(join(folder, file), 'x');
      keys.push(await keyOf());
    }
    writeFileSync(join(folder, 'tokenizer.json'), '{"model": {}}');
    keys.push(await keyOf());
    expect(new Set(keys).size).toBe(keys.length);
  });
});
