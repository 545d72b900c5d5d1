// Where training can go on from: warm state, checkpoints on this host's disk, checkpoints in the store. The newest valid one wins,
// on a tie the one that is quickest to read. What a stale attempt left, or another run, lineage or recipe, is not among them.
import { rm } from 'node:fs/promises';
import type { Checkpoint } from '../contracts/records.ts';
import type { Resume } from '../contracts/trainer-protocol.ts';
import type { ChainLink } from '../storage/claim.ts';
import { listLocalCheckpoints } from './local-checkpoints.ts';
import { listWarmStates } from './warm-state.ts';

export type SavedState = { claim: number; lineage: string; step: number } & (
  | { source: 'warm'; folder: string }
  | { source: 'disk'; path: string }
  | { source: 'store'; checkpoint: Checkpoint }
);

/** What may be resumed from. */
export interface Admissible {
  /** States of these claims, each up to a step. */
  chain: ChainLink[];
  lineages: string[];
  /** Only states before this step; infinite = all. */
  below: number;
  /** Warm state is read only by a trainer of its very lineage, and a replay does without. */
  isWarmOk: (state: SavedState) => boolean;
}

const QUICKEST = ['warm', 'disk', 'store'];

/** Pure. */
export function newestOf(states: SavedState[], admissible: Admissible): SavedState | null {
  const [newest] = states
    .filter((state) => isAdmissible(state, admissible))
    .sort((a, b) => b.step - a.step || QUICKEST.indexOf(a.source) - QUICKEST.indexOf(b.source));
  return newest ?? null;
}

function isAdmissible(state: SavedState, { chain, lineages, below, isWarmOk }: Admissible): boolean {
  const link = chain.find(({ claim }) => claim === state.claim);
  return (
    link !== undefined &&
    state.step <= link.stepMax &&
    state.step < below &&
    lineages.includes(state.lineage) &&
    (state.source !== 'warm' || isWarmOk(state))
  );
}

/** On this host: warm state, then disk; of what lies on several hosts, nothing. */
export async function findHere(places: {
  warmRoot: string | null;
  runFolder: string;
  run: string;
}): Promise<SavedState[]> {
  const warm = places.warmRoot === null ? [] : await listWarmStates(places.warmRoot, places.run);
  const local = await listLocalCheckpoints(places.runFolder);
  return [
    ...warm.map((state) => ({ source: 'warm' as const, ...state })),
    ...local.flatMap(({ isWhole, ...state }) => (isWhole ? [{ source: 'disk' as const, ...state }] : [])),
  ];
}

/** The newest in the store that is admissible and was not tried before. */
export async function findInStore(
  checkpoints: AsyncIterable<Checkpoint>,
  admissible: Admissible,
  isRefused: (state: SavedState) => boolean,
): Promise<SavedState | null> {
  for await (const checkpoint of checkpoints) {
    const { claim, lineage, step } = checkpoint;
    const state: SavedState = { source: 'store', claim, lineage, step, checkpoint };
    if (isAdmissible(state, admissible) && !isRefused(state)) return state;
  }
  return null;
}

/** What could not be read is in nobody's way again. What is in the store stays: another reader may have more luck. */
export async function discardState(resume: Resume): Promise<void> {
  if (resume !== null) await rm(resume.from === 'warm' ? resume.folder : resume.path, { recursive: true, force: true });
}
