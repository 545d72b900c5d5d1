// Decides over all ranges who stays: duplicates, splits, near duplicates, contamination, weights, and whether the gates let the data pass.
// Memory: a byte a row, and one partition of the ids.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../../contracts/failure.ts';
import {
  type CleanedPiece,
  type HeldOutText,
  type RangePlan,
  type Resolution,
  ResolutionSchema,
} from '../../contracts/ranges.ts';
import type { Snapshot, StoredFile } from '../../contracts/records.ts';
import { SPLITS, type Split } from '../../contracts/rows.ts';
import { showUri } from '../../contracts/source-uri.ts';
import type { Spec } from '../../contracts/spec.ts';
import { digestOf } from '../../storage/digest.ts';
import { getFile, putFile } from '../../storage/file-set.ts';
import { keys } from '../../storage/keys.ts';
import { createJson, readJson } from '../../storage/record.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { openAccounts } from '../accounts.ts';
import { endIdleThreads } from '../range/thread-pool.ts';
import { countRows } from '../resolve/count-rows.ts';
import { markDuplicates } from '../resolve/duplicates.ts';
import { FATE } from '../resolve/fates.ts';
import { blockedBy } from '../resolve/gates.ts';
import { findHeldOutText } from '../resolve/held-out/find.ts';
import { fetchIndexes, fileOf, type RowIndex } from '../resolve/indexes.ts';
import { countSharedGroups } from '../resolve/leakage.ts';
import { markNearDuplicates } from '../resolve/near.ts';
import { loadPins } from '../resolve/pins.ts';
import { placeRows } from '../resolve/placing.ts';
import { leaveOut } from '../resolve/weights.ts';
import { wantedSplits } from '../split.ts';
import { CONTAMINATED_FILE, type ContaminatedRows } from './contaminated.ts';
import type { PreparationHost, PreparationInput } from './host.ts';
import { notesOf } from './notes.ts';
import { loadSnapshot, repeatOf, specIndexOf } from './snapshots.ts';

/** Rows of a dataset: a byte each is in memory. */
const ROWS_MAX = 500_000_000;

export interface ResolveOptions {
  /** Rows whose ids are compared at a time, for tests. */
  partitionRows?: number;
}

interface Resolving extends ResolveOptions {
  host: PreparationHost;
  spec: Spec;
  snapshot: Snapshot;
  plan: RangePlan;
  pieces: CleanedPiece[];
}

interface Resolved {
  /** Of the record. */
  key: string;
  resolution: Resolution;
}

/** Remembered by its input. A gate that fails is told in `blocked`. @param pieces of all ranges, in order. */
export async function resolveRows(
  host: PreparationHost,
  { spec, snapshot: digest }: PreparationInput,
  plan: RangePlan,
  pieces: CleanedPiece[],
  options: ResolveOptions = {},
): Promise<Resolved> {
  const { sources: _sources, tooLong: _tooLong, maxLength: _maxLength, ...rules } = spec.data;
  const input = {
    ...{ plan, rules, weights: spec.data.sources.map(({ weight }) => weight), method: spec.train.method },
    ...{ pieces: pieces.map(({ source, files }) => ({ source, files: files.digest })), code: codeIdentity().digest },
  };
  const key = keys.resolution(digestOf(input));
  const earlier = await readJson(host.store, key, ResolutionSchema);
  if (earlier !== null) return { key, resolution: earlier };
  const folder = join(host.folder, 'resolve');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  // The tables of all rows come into the room of the threads that cleaned them.
  await endIdleThreads();
  try {
    const snapshot = await loadSnapshot(host.store, digest);
    const made = await resolve({ host: { ...host, folder }, spec, snapshot, plan, pieces, ...options });
    await createJson(host.store, key, made);
    return { key, resolution: made };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function resolve(resolving: Resolving): Promise<Resolution> {
  const { host, spec, snapshot, plan, pieces } = resolving;
  const { store, folder, signal } = host;
  const fates = new Uint8Array(requireCount(pieces));
  const indexes = await fetchIndexes(store, pieces, folder, signal);
  const settled = await settleFates(resolving, indexes, fates);
  host.report({ phase: `count ${fates.length} rows` });
  const repeats = snapshot.sources.map((_, i) => repeatOf(spec, snapshot, i));
  const counted = await countRows({ store, folder, signal, indexes, fates, leaders: settled.leaders, repeats });
  const { sources, nearCrossing, labels, heldOut } = counted;
  const accounts = openAccounts(snapshot, pieces, sources);
  const sharedGroups = await countSharedGroups(indexes, fates, signal);
  return {
    plan: digestOf(plan),
    fates: await storeFates(resolving, fates),
    ...{ sources, rows: counted.digest, splits: splitsOf(spec, snapshot), heldOut },
    moved: Object.fromEntries(settled.moves.map(({ group, to }) => [group, to])),
    leakage: { sharedGroups, sharedRows: 0, nearCrossing, evals: settled.evals, heldOutText: settled.heldOutText },
    notes: [...notesOf(spec, snapshot, pieces, settled.moves), ...settled.notes],
    blocked: blockedBy({ spec, snapshot, pieces, accounts, labels }),
  };
}

/** Writes what becomes of each row over the fates, in the order in which one decision rests on another. */
async function settleFates(resolving: Resolving, indexes: RowIndex[], fates: Uint8Array) {
  const { host, spec, snapshot, plan, pieces, partitionRows } = resolving;
  const { store, folder, signal } = host;
  const { nearDuplicates, split: shares, sources } = spec.data;
  const given = snapshot.sources.map(({ split }) => split ?? null);
  const say = (what: string) => host.report({ phase: `${what} ${fates.length} rows` });
  say('look for duplicates among');
  const partition = partitionRows === undefined ? {} : { partitionRows };
  await markDuplicates(heldOutFirst(indexes, given), fates, { folder, signal, ...partition });
  say('split');
  const pins = await loadPins(store, plan.pins, spec, { folder, signal });
  const moves = await placeRows(indexes, fates, { shares, given, pins, signal });
  const evals = await markContaminated(resolving, fates);
  if (nearDuplicates.action !== 'off') say('look for near duplicates among');
  const leaders = await markNearDuplicates(store, pieces, fates, { rules: nearDuplicates, folder, signal });
  const heldOutText = await markHeldOutText(resolving, indexes, fates);
  const weighted = sources.map(({ weight, uri }) => ({ weight, name: showUri(uri) }));
  const notes = await leaveOut(indexes, fates, weighted, (source) => specIndexOf(snapshot, source), signal);
  return { moves, evals, leaders, heldOutText, notes };
}

/** A copy of a row that its source gives for testing is not trained on, whichever comes first. */
function heldOutFirst(indexes: RowIndex[], given: (Split | null)[]): RowIndex[] {
  const rank = ({ source }: RowIndex) => ({ test: 0, validation: 1, train: 2 })[given[source] ?? 'train'];
  return indexes.toSorted((a, b) => rank(a) - rank(b));
}

function requireCount(pieces: CleanedPiece[]): number {
  const rows = pieces.reduce((sum, { counts }) => sum + counts.kept, 0);
  if (rows <= ROWS_MAX) return rows;
  throw new AnnealError(
    'data_rejected',
    `The sources have ${rows} rows, more than the ${ROWS_MAX} that one run takes; name fewer sources.`,
  );
}

/** The splits that are wanted or given. */
function splitsOf({ data }: Spec, { sources }: Snapshot): Split[] {
  const wanted = wantedSplits(data.split);
  return SPLITS.filter((split) => wanted.includes(split) || sources.some((source) => source.split === split));
}

/** Training rows that hold what an evaluation suite asks. Gives the rows of each suite. */
async function markContaminated({ host, plan, pieces }: Resolving, fates: Uint8Array) {
  if (plan.suites === null) return [];
  const evals = new Map<string, number>();
  let first = 0;
  for (const [i, { counts, files }] of pieces.entries()) {
    const path = join(host.folder, `contaminated-${i}.json`);
    await getFile(host.store, fileOf(files, CONTAMINATED_FILE), path, host.signal);
    for (const [row, name] of JSON.parse(await readFile(path, 'utf8')) as ContaminatedRows) {
      if (fates[first + row] !== FATE.train) continue;
      fates[first + row] = FATE.contaminated;
      evals.set(name, (evals.get(name) ?? 0) + 1);
    }
    first += counts.kept;
  }
  return [...evals].map(([name, rows]) => ({ name, rows }));
}

/** Training rows that hold text of a held-out one; null where nobody looks for them. */
async function markHeldOutText(
  { host, spec, pieces }: Resolving,
  indexes: RowIndex[],
  fates: Uint8Array,
): Promise<HeldOutText | null> {
  const { heldOut, ngram } = spec.data.decontaminate;
  if (heldOut === 'off') return null;
  const { store, folder, signal } = host;
  const onRows = (step: number) =>
    host.report({ phase: `compare training rows with held-out ones, ${fates.length} rows`, step, of: fates.length });
  const found = await findHeldOutText({ store, pieces, indexes, fates, words: ngram, folder, signal, onRows });
  const dropped = heldOut === 'quarantine';
  if (dropped)
    found.eachLeak((row) => {
      fates[row] = FATE.sharesText;
    });
  return { ...found.counts, dropped };
}

/** A file for each range. */
async function storeFates({ host, plan, pieces }: Resolving, fates: Uint8Array): Promise<StoredFile[]> {
  const stored: StoredFile[] = [];
  const path = join(host.folder, 'range.fates');
  let [piece, first] = [0, 0];
  for (const [i, range] of plan.ranges.entries()) {
    const rows = pieces.slice(piece, piece + range.length).reduce((sum, { counts }) => sum + counts.kept, 0);
    await writeFile(path, fates.subarray(first, first + rows));
    stored.push({ path: `${i}.fates`, ...(await putFile(host.store, path, host.signal)) });
    piece += range.length;
    first += rows;
  }
  return stored;
}
