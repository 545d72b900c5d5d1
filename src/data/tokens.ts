// What the tokeniser says of each range, as one for the whole dataset.
import { AnnealError } from '../contracts/failure.ts';
import type { TokeniseResult } from '../contracts/trainer-protocol.ts';

type SplitTokens = TokeniseResult['splits'][string];

/**
 * @param results of the ranges in order, at least one.
 * @throws AnnealError `data_rejected` when the chat template renders no row at all: then it is the template that does not fit.
 */
export function mergeTokens(results: TokeniseResult[]): TokeniseResult {
  const [first, ...others] = results;
  if (first === undefined)
    throw new AnnealError('trainer_bug', 'There are no ranges to merge the tokens of; report it.');
  const merged = others.reduce(mergeTwo, first);
  const { unrendered, rejected } = merged;
  const kept = Object.values(merged.splits).reduce((sum, { rows }) => sum + rows, 0);
  if (unrendered !== null && kept === 0 && unrendered.rows === rejected) {
    throw new AnnealError(
      'data_rejected',
      `The chat template cannot render any of the ${unrendered.rows} rows; the first says: ${unrendered.first}`,
    );
  }
  return merged;
}

function mergeTwo(a: TokeniseResult, b: TokeniseResult): TokeniseResult {
  const names = [...new Set([...Object.keys(a.splits), ...Object.keys(b.splits)])];
  return {
    ...a,
    splits: Object.fromEntries(names.map((name) => [name, mergeSplits(a.splits[name], b.splits[name])])),
    rejected: a.rejected + b.rejected,
    cut: {
      truncated: a.cut.truncated + b.cut.truncated,
      lostTokens: a.cut.lostTokens + b.cut.lostTokens,
      split: { rows: a.cut.split.rows + b.cut.split.rows, into: a.cut.split.into + b.cut.split.into },
      lostTurns: a.cut.lostTurns + b.cut.lostTurns,
    },
    unrendered: mergeUnrendered(a.unrendered, b.unrendered),
    sample: a.sample.length > 0 ? a.sample : b.sample,
  };
}

const NO_TOKENS: SplitTokens = { rows: 0, tokens: 0, trainableTokens: 0, longest: 0, histogram: [] };

function mergeSplits(a = NO_TOKENS, b = NO_TOKENS): SplitTokens {
  const [one, other] = [a.histogram ?? [], b.histogram ?? []];
  const buckets = Math.max(one.length, other.length);
  return {
    rows: a.rows + b.rows,
    tokens: a.tokens + b.tokens,
    trainableTokens: a.trainableTokens + b.trainableTokens,
    longest: Math.max(a.longest, b.longest),
    histogram: Array.from({ length: buckets }, (_, i) => (one[i] ?? 0) + (other[i] ?? 0)),
  };
}

function mergeUnrendered(a: TokeniseResult['unrendered'], b: TokeniseResult['unrendered']) {
  return a === null || b === null ? (a ?? b) : { rows: a.rows + b.rows, first: a.first };
}
