// Rows to tokenise: seeded chats of one to four exchanges, half of them with a system message, in words of which a quarter are rare.
import { closeSync, openSync, writeSync } from 'node:fs';
import { seededRandom } from '../src/evaluation/seeded-random.ts';

const COMMON =
  'the of and to in is you that it was for on are as with his they at be this have from or one had by word but not what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has look two more write go see number no way could people than first water been call who its now find long down day did get come made may part'.split(
    ' ',
  );
const RARE_WORDS = 20_000;
const RARE_SHARE = 0.25;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/** Writes at least so many bytes of rows; the same for the same seed. @returns bytes and rows. */
export function writeChats(path: string, bytesMin: number, seed: number): { bytes: number; rows: number } {
  const random = seededRandom(seed);
  const rare = Array.from({ length: RARE_WORDS }, () =>
    Array.from({ length: between(random, 4, 11) }, () => pick(random, LETTERS)).join(''),
  );
  const text = (low: number, high: number) =>
    Array.from({ length: between(random, low, high) }, () => pick(random, random() < RARE_SHARE ? rare : COMMON)).join(
      ' ',
    );
  const file = openSync(path, 'w');
  let [bytes, rows] = [0, 0];
  try {
    for (; bytes < bytesMin; rows++) {
      const messages = random() < 0.5 ? [{ role: 'system', content: text(5, 30) }] : [];
      for (let i = between(random, 1, 4); i > 0; i--) {
        messages.push({ role: 'user', content: text(5, 80) }, { role: 'assistant', content: text(20, 200) });
      }
      const id = rows.toString(16).padStart(32, '0');
      const row = { id, messages, group: '0'.repeat(16), src: { source: 0, line: rows + 1 } };
      bytes += writeSync(file, `${JSON.stringify(row)}\n`);
    }
  } finally {
    closeSync(file);
  }
  return { bytes, rows };
}

function between(random: () => number, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

function pick<T>(random: () => number, of: ArrayLike<T>): T {
  return of[Math.floor(random() * of.length)] as T;
}
