// The id of a run: a function of what decides its result, so that two programs that want the same thing meet in one run.

import type { Spec } from '../contracts/spec.ts';
import { digestOf } from '../storage/digest.ts';

/** Hex digits of the digest in a run id: 48 bits, one chance in ten million that two of 7,000 runs of a name collide. */
const DIGITS = 12;

/**
 * `<name>-<12 hex digits>` of spec, data and code. Where the sources lie is left out, because `dataDigest` says what is in
 * them: the same checkout in another folder gives the same id.
 */
export function runIdFor(spec: Spec, dataDigest: string, codeDigest: string): string {
  const sources = spec.data.sources.map(({ format, shape }) => ({ format, shape }));
  const identity = { spec: { ...spec, data: { ...spec.data, sources } }, data: dataDigest, code: codeDigest };
  return `${spec.name}-${digestOf(identity).slice(0, DIGITS)}`;
}
