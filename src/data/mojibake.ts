// Text that was UTF-8 and was read as CP1252 (`Ã©` for é): whether there is any, and what it was.

/** What CP1252 makes of the bytes 0x80 to 0x9f; the five that it leaves out become control characters. */
const HIGH = '€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ';
const CONTINUED = `[${HIGH}\u00a0-\u00bf]`;

/**
 * Only sequences that nobody writes: behind `Ã` a closing quote may be meant, so that a letter must follow it; of the
 * longer ones those that begin like punctuation, symbols and emoji.
 */
const MOJIBAKE = new RegExp(
  `Ã[‘’“”](?=\\p{L})|Ã[${HIGH.replace(/[‘’“”]/g, '')}\u00a0-\u00bf]|Â[\u0080-\u009f\u00a0-\u00bf]|â[€‚„ˆ†”–˜™œž]${CONTINUED}|ï[»¿¼]${CONTINUED}|ðŸ${CONTINUED}{2}`,
  'gu',
);
/** One of these begins each. Most texts have none, which is told fastest one by one. */
const SIGNS = ['Â', 'Ã', 'â', 'ï', 'ð'];

export function holdsMojibake(text: string): boolean {
  return SIGNS.some((sign) => text.includes(sign)) && mendMojibake(text) !== text;
}

/** Sequences that are no UTF-8 stay. */
export function mendMojibake(text: string): string {
  return text.replace(MOJIBAKE, (found) => decode(found) ?? found);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(found: string): string | null {
  try {
    return UTF8.decode(Uint8Array.from(found, byteOf));
  } catch {
    return null;
  }
}

function byteOf(character: string): number {
  const high = HIGH.indexOf(character);
  return high === -1 ? character.charCodeAt(0) : 0x80 + high;
}
