// Claims a run for an attempt: chooses the newest state that it may and can resume from, fixes it in the claim, and brings it here.
import { AnnealError } from '../contracts/failure.ts';
import type { GangSize } from '../contracts/gang-size.ts';
import { type Checkpoint, type Claim, ClaimEndSchema, type Goodput } from '../contracts/records.ts';
import type { Resume } from '../contracts/trainer-protocol.ts';
import { fetchCheckpoint } from '../storage/checkpoint.ts';
import { type ChainLink, type Claimant, checkpointsOf, takeClaim } from '../storage/claim.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createJson, readJson } from '../storage/record.ts';
import { filesFor, type RanksHere } from '../storage/shares.ts';
import { untilAnswered } from '../storage/until-answered.ts';
import { stateUnreadable } from './gang.ts';
import {
  adoptCheckpoint,
  checkpointFolder,
  type LocalCheckpointFolder,
  listLocalCheckpoints,
  openClaimFolder,
} from './local-checkpoints.ts';
import { changesAt, lineageOf, lineagesUpTo, type TrainingInputs } from './recipe-changes.ts';
import { type Admissible, discardState, findHere, findInStore, newestOf, type SavedState } from './saved-state.ts';

/** Where states are looked for. */
export interface Places {
  store: ObjectStore;
  warmRoot: string | null;
  runFolder: string;
  /** States that could not be read. */
  refused: Set<string>;
  placement: Placement;
  /** Of a gang of several hosts: what all of them have, in place of what is here. */
  agreed?: SavedState[] | undefined;
  /** Of this host, where there are others; absent = it has all. */
  ranks?: RanksHere | null;
}

/** What a host's GPUs allow, and how much of it is wanted. */
export interface Placement {
  /** How ranks share the training where the spec leaves it open. */
  strategy: NonNullable<Claim['strategy']>;
  /** Ranks that there are GPUs for; infinite on CPUs. */
  processesMax: number;
  /** Hosts and ranks that are wanted in place of the recipe's. */
  size?: GangSize | undefined;
}

export interface ClaimWish {
  /** Resume before this step; infinite = from the newest. */
  below: number;
  /** Divides the micro-batch; 1 = as it is. */
  factor: number;
}

export const NEWEST: ClaimWish = { below: Number.POSITIVE_INFINITY, factor: 1 };

export interface Claimed {
  claim: Claim;
  /** The claim before, when another attempt took it. */
  before: Claim | null;
  chain: ChainLink[];
  lineage: string;
  /** Folder of the claim on this host. */
  folder: string;
  state: SavedState | null;
  resume: Resume;
}

export async function claimRun(
  places: Places,
  claimant: Claimant,
  inputs: TrainingInputs,
  wish: ClaimWish,
  signal: AbortSignal,
): Promise<Claimed> {
  for (;;) {
    const { claim, before, chain, state } = await claimAt(places, claimant, inputs, wish);
    const lineage = lineageOf(inputs, claim.changes);
    const folder = await openClaimFolder(places.runFolder, claim.number, lineage);
    const resume = await bringHere(places, state, folder, signal);
    if (resume !== 'unreadable') {
      const own = { claim: claim.number, stepMax: Number.POSITIVE_INFINITY };
      return { claim, before, chain: [own, ...chain], lineage, folder, state, resume };
    }
    // The other hosts of a gang go by the claim that they have seen: the gang begins anew.
    if (places.agreed !== undefined) throw stateUnreadable(claim, inputs.recipe);
    // The claim says where it resumes, so resuming elsewhere takes another one.
  }
}

type Choice = Pick<Claimed, 'claim' | 'before' | 'chain' | 'state'>;

async function claimAt(places: Places, claimant: Claimant, inputs: TrainingInputs, wish: ClaimWish): Promise<Choice> {
  const { placement } = places;
  let choice: Omit<Choice, 'claim'> = { before: null, chain: [], state: null };
  const claim = await takeClaim(places.store, claimant, async ({ newest, chain, checkpoints }) => {
    const strategy = newest === null ? placement.strategy : newest.strategy;
    const changesFor = (step: number) =>
      changesAt(inputs.recipe, newest?.changes ?? [], step, { ...placement, factor: wish.factor });
    const admissible: Admissible = {
      chain,
      lineages: lineagesUpTo(inputs, newest?.changes ?? []),
      below: wish.below,
      // Warm state is read only by a trainer of its very lineage.
      isWarmOk: (state) => state.lineage === lineageOf(inputs, changesFor(state.step)),
    };
    const state = await newestState(places, claimant.run, admissible, checkpoints);
    const own =
      newest?.attemptScheduledMs === claimant.attemptScheduledMs && newest.workflowRunId === claimant.workflowRunId;
    choice = { before: own ? null : newest, chain: cutAt(chain, state), state };
    const changes = changesFor(state?.step ?? 0);
    return {
      resumeFrom: state === null ? null : { claim: state.claim, step: state.step },
      changes,
      ...(strategy === undefined ? {} : { strategy }),
      source: state === null ? null : state.source === 'warm' ? 'warm' : 'store',
    };
  });
  return { claim, ...choice };
}

/** What the new claim's chain is: from the claim that it resumes from on, up to that step. */
function cutAt(chain: ChainLink[], state: SavedState | null): ChainLink[] {
  if (state === null) return [];
  const from = chain.slice(chain.findIndex(({ claim }) => claim === state.claim));
  return from.map((link) => ({ ...link, stepMax: Math.min(link.stepMax, state.step) }));
}

async function newestState(
  { store: _store, refused, agreed, ...here }: Places,
  run: string,
  admissible: Admissible,
  checkpoints: AsyncIterable<Checkpoint>,
): Promise<SavedState | null> {
  const isRefused = (state: SavedState) => refused.has(nameOf(state));
  const found = (agreed ?? (await findHere({ ...here, run }))).filter((state) => !isRefused(state));
  const stored = await findInStore(checkpoints, admissible, isRefused);
  return newestOf(stored === null ? found : [...found, stored], admissible);
}

/** The newest state of a claim that is held: what is here first, and the store when something here could not be read or is gone. */
export async function nextState(
  places: Places,
  claimed: Claimed,
  withWarm: boolean,
  signal: AbortSignal,
): Promise<{ state: SavedState | null; resume: Resume }> {
  const { run } = claimed.claim;
  const admissible: Admissible = {
    chain: claimed.chain,
    lineages: [claimed.lineage, ...(claimed.state === null ? [] : [claimed.state.lineage])],
    below: Number.POSITIVE_INFINITY,
    isWarmOk: (state) => withWarm && state.lineage === claimed.lineage,
  };
  for (;;) {
    const found = await findHere({ ...places, run });
    const here = newestOf(
      found.filter((state) => !places.refused.has(nameOf(state))),
      admissible,
    );
    const state = here !== null && places.refused.size === 0 ? here : await newestAnywhere(here);
    const resume = await bringHere(places, state, claimed.folder, signal);
    if (resume !== 'unreadable') return { state, resume };
  }

  /** A store that is away is waited for only when there is nothing here. */
  async function newestAnywhere(here: SavedState | null): Promise<SavedState | null> {
    const look = () => newestState(places, run, admissible, checkpointsOf(places.store, run, claimed.chain));
    if (here === null) return await untilAnswered(look, signal);
    return await look().catch((error: unknown) => {
      if (error instanceof AnnealError && error.kind === 'store_unavailable') return here;
      throw error;
    });
  }
}

/** A checkpoint of the store may be here too: of a gang all of it or this host's part, because a gang names what all hosts can reach. */
async function localTwin({ runFolder }: Places, state: SavedState): Promise<LocalCheckpointFolder | null> {
  const here = await listLocalCheckpoints(runFolder);
  return (
    here.find(
      ({ claim, step, lineage }) => claim === state.claim && step === state.step && lineage === state.lineage,
    ) ?? null
  );
}

export async function bringHere(
  places: Places,
  state: SavedState | null,
  folder: string,
  signal: AbortSignal,
): Promise<Resume | 'unreadable'> {
  if (state === null) return null;
  switch (state.source) {
    case 'warm':
      return { from: 'warm', folder: state.folder, ...(places.agreed === undefined ? {} : { step: state.step }) };
    case 'disk':
      return { from: 'checkpoint', path: await adoptCheckpoint(state, folder) };
    case 'store': {
      const here = await localTwin(places, state);
      const path = here === null ? checkpointFolder(folder, state.step) : await adoptCheckpoint(here, folder);
      const files = filesFor(state.checkpoint.files, places.ranks ?? null);
      try {
        // What a twin lacks or has otherwise: this host may have had other ranks then.
        await fetchCheckpoint(places.store, { ...state.checkpoint, files }, path, signal);
        return { from: 'checkpoint', path };
      } catch (error) {
        if (!(error instanceof AnnealError) || error.kind !== 'checkpoint_corrupt') throw error;
        await refuseState(places, { state, resume: { from: 'checkpoint', path } });
        return 'unreadable';
      }
    }
    default:
      return state satisfies never;
  }
}

/** A state that could not be read is not tried again, here or under another name. */
export async function refuseState(places: Places, { state, resume }: Pick<Claimed, 'state' | 'resume'>): Promise<void> {
  if (state !== null) places.refused.add(nameOf(state));
  await discardState(resume);
}

function nameOf({ source, claim, step }: SavedState): string {
  return `${source} ${claim} ${step}`;
}

export type ClaimEndKind = 'node_lost' | 'preempted' | 'paused';

export interface EndOfClaim {
  kind: ClaimEndKind;
  why: string;
  step: number;
  atMs: number | null;
}

/** How the attempt that held a claim ended, as far as it could say. */
export async function endOfClaim(store: ObjectStore, { run, number, host }: Claim): Promise<EndOfClaim> {
  const end = await readJson(store, keys.claimEnd(run, number), ClaimEndSchema);
  if (end !== null) return { kind: end.paused ? 'paused' : 'preempted', ...end };
  return { kind: 'node_lost', why: `Claim ${number} on host ${host} ended without an answer.`, step: 0, atMs: null };
}

export async function sayGoodbye(
  store: ObjectStore,
  { run, number }: Claim,
  end: { why: string; step: number; paused: boolean },
): Promise<void> {
  await createJson(store, keys.claimEnd(run, number), { ...end, atMs: Date.now() });
}

/** Of two accounts of the same run the one that knows more. */
export function furthest(...accounts: (Goodput | null)[]): Goodput | null {
  return accounts.filter((its) => its !== null).sort((a, b) => b.step - a.step || b.atMs - a.atMs)[0] ?? null;
}
