// Keeps the books of preprocess: every row that was read is kept, a duplicate or dropped with a code, in total and per source.
import { AnnealError } from '../contracts/failure.ts';
import type { Snapshot } from '../contracts/records.ts';
import { type Accounts, type DropCode, type Method, ROW_KINDS, type Split } from '../contracts/rows.ts';
import { type Shares, wantedSplits } from './split.ts';

/** A row that the tokeniser rejected, and where it came from. */
export interface TokeniserReject {
  split: Split;
  source: number;
  code: DropCode;
  /** Its length, where that is what is wrong. */
  tokens?: number;
}

export function openAccounts(snapshot: Snapshot): Accounts {
  return {
    rowsIn: 0,
    kept: 0,
    duplicates: 0,
    dropped: {},
    splits: { train: 0, validation: 0, test: 0 },
    bySource: snapshot.sources.map(({ uri }) => ({ uri, rowsIn: 0, kept: 0, duplicates: 0, dropped: {} })),
  };
}

export function countKept(accounts: Accounts, source: number, split: Split): void {
  for (const book of [accounts, sourceBook(accounts, source)]) {
    book.rowsIn++;
    book.kept++;
  }
  accounts.splits[split]++;
}

export function countDuplicate(accounts: Accounts, source: number): void {
  for (const book of [accounts, sourceBook(accounts, source)]) {
    book.rowsIn++;
    book.duplicates++;
  }
}

export function countDropped(accounts: Accounts, source: number, code: DropCode): void {
  for (const book of [accounts, sourceBook(accounts, source)]) {
    book.rowsIn++;
    book.dropped[code] = (book.dropped[code] ?? 0) + 1;
  }
}

/**
 * The accounts with the tokeniser's rejects taken from what was kept.
 * @throws AnnealError `trainer_bug` when the sums do not agree, `data_rejected` when a split has no row left.
 */
export function finishAccounts(accounts: Accounts, rejected: TokeniserReject[], shares: Shares): Accounts {
  const finished = structuredClone(accounts);
  for (const { split, source, code } of rejected) {
    for (const book of [finished, sourceBook(finished, source)]) {
      book.kept--;
      book.dropped[code] = (book.dropped[code] ?? 0) + 1;
    }
    finished.splits[split]--;
  }
  assertBalanced(finished);
  const lengths = rejected.flatMap(({ tokens }) => tokens ?? []);
  const shortest = lengths.reduce((least, tokens) => Math.min(least, tokens), Number.POSITIVE_INFINITY);
  requireRows(finished, shares, lengths.length === 0 ? '' : `The shortest that is too long has ${shortest} tokens.`);
  return finished;
}

/** @throws AnnealError `trainer_bug` naming the first sum that is off. */
export function assertBalanced(accounts: Accounts): void {
  const { bySource, splits, ...total } = accounts;
  checkBook('all sources', total);
  for (const book of bySource) checkBook(book.uri, book);
  const inSplits = sum(Object.values(splits));
  if (inSplits !== total.kept) throw unbalanced('the splits', `hold ${inSplits} rows`, `${total.kept} were kept`);
  for (const field of ['rowsIn', 'kept', 'duplicates'] as const) {
    const inSources = sum(bySource.map((book) => book[field]));
    if (inSources !== total[field])
      throw unbalanced('the sources', `have ${field} ${inSources}`, `the total is ${total[field]}`);
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

type Book = Pick<Accounts, 'rowsIn' | 'kept' | 'duplicates' | 'dropped'>;

function checkBook(name: string, book: Book): void {
  const out = book.kept + book.duplicates + sum(Object.values(book.dropped));
  if (out !== book.rowsIn || book.kept < 0)
    throw unbalanced(name, `have ${book.rowsIn} rows`, `kept, duplicates and dropped are ${out} (kept ${book.kept})`);
}

function unbalanced(name: string, found: string, other: string): AnnealError {
  return new AnnealError(
    'trainer_bug',
    `The accounts of preprocess do not add up: ${name} ${found}, but ${other}; report it with the data's digest.`,
  );
}

function describeDropped(dropped: Accounts['dropped']): string {
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
