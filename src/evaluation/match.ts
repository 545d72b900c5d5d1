// When is an answer right? Exact text for short references, equal values for JSON, nothing for free text.
import type { Spec } from '../contracts/spec.ts';
import { canonicalJson } from '../storage/digest.ts';

export type MatchKind = 'exact' | 'json' | 'none';

/** References up to this length are answers to be met exactly, not texts, characters. */
const SHORT_REFERENCE = 64;
/** Share of the references that must look alike before `auto` decides so. */
const MOST = 0.95;

export function decideMatchKind(wanted: Spec['evaluate']['match'], references: string[]): MatchKind {
  if (wanted !== 'auto') return wanted;
  const share = (test: (reference: string) => boolean) =>
    references.filter(test).length / Math.max(1, references.length);
  if (share((reference) => typeof parseJson(reference) === 'object') >= MOST) return 'json';
  return share((reference) => reference.trim().length <= SHORT_REFERENCE) >= MOST ? 'exact' : 'none';
}

/** null where the kind is `none` or there is no answer: a missing result is never a right one, and never a wrong one either. */
export function isMatch(kind: MatchKind, reference: string, output: string | null): boolean | null {
  if (kind === 'none' || output === null) return null;
  if (kind === 'exact') return reference.trim() === output.trim();
  const [want, got] = [parseJson(reference), parseJson(output)];
  return got !== undefined && canonicalJson(want) === canonicalJson(got);
}

/** The value, or undefined when the text is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
