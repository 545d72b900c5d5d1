// Near duplicates: who is found at which similarity, who never, and that parts, order and ranks decide nothing they should not.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Content } from '../../src/data/mapping.ts';
import { clusterNear, NO_PART } from '../../src/data/near/cluster.ts';
import { createSketcher, similarity } from '../../src/data/near/sketch.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'near-'));
});
afterAll(() => rm(folder, { recursive: true }));

function createRandom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const chat = (text: string): Content => ({
  messages: [
    { role: 'system', content: 'The same long operator prompt stands before each and every row of this set of ours.' },
    { role: 'user', content: text },
    { role: 'assistant', content: 'Yes.' },
  ],
});

const words = (random: (n: number) => number, count: number): string[] =>
  Array.from({ length: count }, () => `w${random(5000)}`);

/** Exact Jaccard of the word 5-grams. */
function jaccard(a: string[], b: string[]): number {
  const gramsOf = (list: string[]) => new Set(list.slice(4).map((_, i) => list.slice(i, i + 5).join(' ')));
  const [x, y] = [gramsOf([...a, 'yes']), gramsOf([...b, 'yes'])];
  const common = [...x].filter((gram) => y.has(gram)).length;
  return common / (x.size + y.size - common);
}

/** Replaces every n-th word; each takes five 5-grams with it. */
const changed = (random: (n: number) => number, list: string[], every: number): string[] =>
  list.map((word, i) => (i % every === every - 1 ? `c${random(1e9)}` : word));

const sketch = createSketcher();

async function writeSketches(name: string, rows: readonly Content[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, Buffer.concat(rows.map((row) => Buffer.from(new Uint8Array(sketch(row).buffer)))));
  return path;
}

const signatureOf = (row: Content): Uint8Array => new Uint8Array(sketch(row).buffer).slice();

test.each([6, 12, 25, 50, 100, 200])('the similarity is estimated without bias: every %i-th word changed', (every) => {
  const random = createRandom(every);
  const errors = Array.from({ length: 100 }, () => {
    const a = words(random, 300);
    const b = changed(random, a, every);
    return similarity(signatureOf(chat(a.join(' '))), signatureOf(chat(b.join(' ')))) - jaccard(a, b);
  });
  const bias = errors.reduce((sum, error) => sum + error, 0) / errors.length;
  // One estimate errs by at most 0.044 (128 bins), the mean of 100 by 0.0044.
  expect(Math.abs(bias)).toBeLessThan(0.015);
  expect(Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length)).toBeLessThan(0.06);
});

async function hitRate(every: number, threshold: number): Promise<{ rate: number; mean: number }> {
  const random = createRandom(every);
  const pairs = Array.from({ length: 300 }, () => {
    const a = words(random, 400);
    return [a, changed(random, a, every)] as const;
  });
  const rows = pairs.flat().map((list) => chat(list.join(' ')));
  const leaders = await clusterNear(await writeSketches(`rate-${every}`, rows), { threshold });
  const hits = pairs.filter((_, i) => leaders[2 * i + 1] === 2 * i).length;
  return { rate: hits / pairs.length, mean: pairs.reduce((sum, [a, b]) => sum + jaccard(a, b), 0) / pairs.length };
}

test('what is much alike is found, what is little alike is not', async () => {
  const close = await hitRate(100, 0.8);
  expect(close.mean).toBeGreaterThan(0.88);
  expect(close.rate).toBeGreaterThan(0.97);
  const atThreshold = await hitRate(50, 0.7);
  expect(atThreshold.mean).toBeGreaterThan(0.8);
  expect(atThreshold.rate).toBeGreaterThan(0.85);
  const far = await hitRate(10, 0.8);
  expect(far.mean).toBeLessThan(0.4);
  expect(far.rate).toBe(0);
});

test('rows of nothing in common are never joined, short ones neither, and a shared system prompt is nothing', async () => {
  const random = createRandom(7);
  const rows = Array.from({ length: 6000 }, (_, i) => chat(words(random, i % 3 === 0 ? 3 : 60).join(' ')));
  const leaders = await clusterNear(await writeSketches('unrelated', rows), { threshold: 0.5 });
  expect([...leaders].filter((leader, row) => leader !== row)).toEqual([]);
});

test('case, punctuation and white space make no difference; Chinese is compared by its characters', async () => {
  const rows = [
    chat('The quick brown fox jumps over the lazy dog, and runs away.'),
    chat('the QUICK brown fox jumps over the lazy dog — and runs   away!'),
    chat('我们今天去公园散步，天气非常好，孩子们都很高兴，晚上我们回家一起吃饭看电视聊天到很晚才睡觉。'),
    chat('我们今天去公园散步天气非常好孩子们都很高兴晚上我们回家一起吃饭看电视聊天到很晚才睡觉'),
    chat('他昨天在办公室写了一份很长的报告，然后交给了经理，经理看完以后非常满意并且表扬了他。'),
    { text: '!!!' },
    { text: '???' },
  ];
  const leaders = await clusterNear(await writeSketches('forms', rows), { threshold: 0.8 });
  expect([...leaders]).toEqual([0, 0, 2, 2, 4, 5, 6]);
});

test('an answer that is wanted and the same one unwanted are two rows', async () => {
  const judged = (label: boolean): Content => ({
    prompt: [{ role: 'user', content: 'Why is the sky blue at noon and red at dusk?' }],
    completion: { role: 'assistant', content: 'Because the air scatters blue light more.' },
    label,
  });
  const leaders = await clusterNear(await writeSketches('judged', [judged(true), judged(false), judged(true)]), {
    threshold: 0.8,
  });
  expect([...leaders]).toEqual([0, 1, 0]);
});

/** Each text differs a little from the one before it, the ends a lot. */
function chain(length: number): Content[] {
  const random = createRandom(3);
  let list = words(random, 300);
  return Array.from({ length }, (_, i) => {
    if (i > 0) list = list.map((word, at) => (at >= 10 * i - 3 && at < 10 * i ? `x${random(1e9)}` : word));
    return chat(list.join(' '));
  });
}

test('a chain of like rows is one cluster, for which the first stands', async () => {
  const rows = chain(12);
  const [first, last] = [rows[0], rows.at(-1)] as [Content, Content];
  expect(similarity(signatureOf(first), signatureOf(last))).toBeLessThan(0.75);
  expect([...(await clusterNear(await writeSketches('chain', rows), { threshold: 0.8 }))]).toEqual(rows.map(() => 0));
});

test('the least rank stands for a cluster, and what takes no part joins nothing', async () => {
  const path = await writeSketches('ranks', [...chain(3), ...chain(3)]);
  const ranks = Uint8Array.from([NO_PART, 1, 1, 1, 0, 0]);
  expect([...(await clusterNear(path, { threshold: 0.8, ranks }))]).toEqual([0, 4, 4, 4, 4, 4]);
});

test('in however many parts the keys are sorted, the clusters are the same', async () => {
  const random = createRandom(9);
  const rows: Content[] = [];
  for (let i = 0; i < 400; i++) {
    const list = words(random, 80);
    for (let copy = 0; copy <= i % 4; copy++) rows.push(chat(changed(random, list, 60 + 10 * copy).join(' ')));
  }
  const path = await writeSketches('parts', rows);
  const [whole, ...others] = await Promise.all(
    [undefined, rows.length * 3, rows.length, 300, 37].map((keysMax) =>
      clusterNear(path, { threshold: 0.7, ...(keysMax && { keysMax }) }),
    ),
  );
  expect([...(whole as Uint32Array)].filter((leader, row) => leader !== row).length).toBeGreaterThan(200);
  for (const other of others) expect(other).toEqual(whole);
});

test('a thousand rows of one template are compared with few and still one cluster', async () => {
  const random = createRandom(4);
  const template = words(random, 200);
  const rows = Array.from({ length: 1000 }, () => chat([...template, `${random(1e9)}`].join(' ')));
  expect(new Set(await clusterNear(await writeSketches('template', rows), { threshold: 0.9 })).size).toBe(1);
});
