// Keeps the books of preprocess: every row that was read is kept, a duplicate, left out or dropped with a code, in total and per source.
import { AnnealError } from '../contracts/failure.ts';
import type { CleanedPiece, ResolvedSource, TokenisedRange } from '../contracts/ranges.ts';
import type { Snapshot } from '../contracts/records.ts';
import { type Accounts, type Method, ROW_KINDS, SPLITS } from '../contracts/rows.ts';
import { type Shares, wantedSplits } from './split.ts';

type Book = Omit<Accounts, 'splits' | 'bySource'>;

/** The books of what the ranges offered and what was decided over all of them. @throws AnnealError `trainer_bug` when sums are off. */
export function openAccounts(
  { sources }: Pick<Snapshot, 'sources'>,
  pieces: CleanedPiece[],
  resolved: ResolvedSource[],
): Accounts {
  const bySource = sources.map(({ uri }, i) => {
    const counts = pieces.filter(({ source }) => source === i).map((piece) => piece.counts);
    return { uri, ...bookOf(counts, resolved[i] as ResolvedSource) };
  });
  const splits = { train: 0, validation: 0, test: 0 };
  for (const source of resolved) for (const split of SPLITS) splits[split] += source.splits[split];
  splits.train += sum(resolved.map(({ repeated }) => repeated));
  const accounts = { ...addBooks(bySource), splits, bySource };
  assertBalanced(accounts);
  return accounts;
}

function bookOf(counts: CleanedPiece['counts'][], resolved: ResolvedSource): Book {
  const { splits, duplicates, nearDuplicates, contaminated, leftOut, repeated } = resolved;
  const dropped = addCounts([...counts.map((one) => one.dropped), contaminated > 0 ? { contaminated } : {}]);
  return {
    rowsIn: sum(counts.map(({ rowsIn }) => rowsIn)),
    kept: sum(Object.values(splits)),
    ...{ duplicates, dropped },
    ...whereAny({ nearDuplicates, leftOut, repeated }),
  };
}

function addBooks(books: Book[]): Book {
  const total = (field: 'rowsIn' | 'kept' | 'duplicates' | 'nearDuplicates' | 'leftOut' | 'repeated') =>
    sum(books.map((book) => book[field] ?? 0));
  return {
    ...{ rowsIn: total('rowsIn'), kept: total('kept'), duplicates: total('duplicates') },
    dropped: addCounts(books.map(({ dropped }) => dropped)),
    ...whereAny({
      ...{ nearDuplicates: total('nearDuplicates'), leftOut: total('leftOut'), repeated: total('repeated') },
    }),
  };
}

/** Fields of which there are none are absent. */
function whereAny<T extends Record<string, number>>(counts: T): Partial<T> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)) as Partial<T>;
}

export function addCounts(all: Record<string, number>[]): Record<string, number> {
  const added: Record<string, number> = {};
  for (const counts of all) for (const [key, count] of Object.entries(counts)) added[key] = (added[key] ?? 0) + count;
  return added;
}

/** The accounts with the tokeniser's rejects taken from what was kept. @throws AnnealError `trainer_bug` when the sums do not agree. */
export function finishAccounts(accounts: Accounts, tokenised: Pick<TokenisedRange, 'rejected'>[]): Accounts {
  const finished = structuredClone(accounts);
  for (const { split, source, code, rows, copies } of tokenised.flatMap(({ rejected }) => rejected)) {
    for (const book of [finished, sourceBook(finished, source)]) {
      book.kept -= rows;
      book.dropped[code] = (book.dropped[code] ?? 0) + rows;
      if (book.repeated !== undefined) book.repeated -= copies - rows;
    }
    finished.splits[split] -= copies;
  }
  assertBalanced(finished);
  return finished;
}

/** @throws AnnealError `data_rejected` when the tokeniser has left a split without a row. */
export function requireTokenisedRows(
  finished: Accounts,
  tokenised: Pick<TokenisedRange, 'shortestTooLong'>[],
  shares: Shares,
): void {
  const lengths = tokenised.flatMap(({ shortestTooLong }) => shortestTooLong ?? []);
  const hint = lengths.length === 0 ? '' : `The shortest that is too long has ${Math.min(...lengths)} tokens.`;
  requireRows(finished, shares, hint);
}

/** @throws AnnealError `trainer_bug` naming the first sum that is off. */
export function assertBalanced(accounts: Accounts): void {
  const { bySource, splits, ...total } = accounts;
  checkBook('all sources', total);
  for (const book of bySource) checkBook(book.uri, book);
  const inSplits = sum(Object.values(splits));
  const placed = total.kept + (total.repeated ?? 0);
  if (inSplits !== placed) throw unbalanced('the splits', `hold ${inSplits} rows`, `${placed} were kept or repeated`);
  for (const field of ['rowsIn', 'kept', 'duplicates', 'nearDuplicates', 'leftOut', 'repeated'] as const) {
    const inSources = sum(bySource.map((book) => book[field] ?? 0));
    if (inSources !== (total[field] ?? 0))
      throw unbalanced('the sources', `have ${field} ${inSources}`, `the total is ${total[field] ?? 0}`);
  }
}

/**
 * A source of which nothing can be used was named by mistake, or the method was. Chats that are all broken are told by `requireRows`.
 * @throws AnnealError `data_rejected` with the first fault of the first such source.
 */
export function requireSources(accounts: Accounts, method: Method, firstFaults: (string | undefined)[]): void {
  for (const [i, { uri, rowsIn, kept, duplicates, dropped }] of accounts.bySource.entries()) {
    const isUnfit = ROW_KINDS[method] === 'chat' ? dropped.not_for_method === rowsIn : kept + duplicates === 0;
    if (rowsIn === 0 || !isUnfit) continue;
    throw new AnnealError(
      'data_rejected',
      `No row of ${uri} can be used with \`train.method: ${method}\` (${rowsIn} rows read, dropped: ${describeDropped(dropped)}); the first: ${firstFaults[i]}.`,
    );
  }
}

/** @param hint a sentence more. @throws AnnealError `data_rejected` when a wanted split has no row. */
export function requireRows(accounts: Accounts, shares: Shares, hint = ''): void {
  const empty = wantedSplits(shares).filter((split) => accounts.splits[split] === 0);
  if (empty.length === 0) return;
  const counts = `${accounts.rowsIn} rows read, ${accounts.kept} kept, ${accounts.duplicates} duplicates, dropped: ${describeDropped(accounts.dropped)}`;
  if (accounts.kept === 0) {
    throw new AnnealError(
      'data_rejected',
      `No row can be trained on (${counts}); mend the sources or \`data.maxLength\`. ${hint}`.trimEnd(),
    );
  }
  const { train, validation, test } = accounts.splits;
  throw new AnnealError(
    'data_rejected',
    `No row is left for the split ${empty.join(' and ')} (train ${train}, validation ${validation}, test ${test}; ${counts}); add rows, ` +
      'or lower `data.split`, or choose a `data.groupBy` with more values.',
  );
}

function checkBook(name: string, book: Book): void {
  const { rowsIn, kept, duplicates, nearDuplicates = 0, leftOut = 0, dropped } = book;
  const out = kept + duplicates + nearDuplicates + leftOut + sum(Object.values(dropped));
  if (out !== rowsIn || kept < 0)
    throw unbalanced(name, `have ${rowsIn} rows`, `kept, duplicates, left out and dropped are ${out} (kept ${kept})`);
}

function unbalanced(name: string, found: string, other: string): AnnealError {
  return new AnnealError(
    'trainer_bug',
    `The accounts of preprocess do not add up: ${name} ${found}, but ${other}; report it with the data's digest.`,
  );
}

export function describeDropped(dropped: Accounts['dropped']): string {
  const counts = Object.entries(dropped).sort((a, b) => b[1] - a[1]);
  return counts.length === 0 ? 'none' : counts.map(([code, n]) => `${code} ${n}`).join(', ');
}

function sourceBook(accounts: Accounts, source: number): Accounts['bySource'][number] {
  const book = accounts.bySource[source];
  if (book === undefined)
    throw new AnnealError(
      'trainer_bug',
      `Row of source ${source}, of which there are ${accounts.bySource.length}; report it.`,
    );
  return book;
}

function sum(numbers: number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
