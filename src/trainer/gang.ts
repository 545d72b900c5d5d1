// A gang of several hosts as one of them sees it: what all hosts can resume from, and where the ranks meet.
import { AnnealError } from '../contracts/failure.ts';
import type { GangSeat } from '../contracts/gang.ts';
import type { GangSize } from '../contracts/gang-size.ts';
import type { Claim } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { TrainJob } from '../contracts/trainer-protocol.ts';
import type { RanksHere } from '../storage/shares.ts';
import type { ChildEnd } from './child.ts';
import type { ClaimWish } from './claiming.ts';
import { changedRecipe } from './recipe-changes.ts';
import type { DeathOnRecord } from './recovery-policy.ts';
import type { SavedState } from './saved-state.ts';
import { warmFolder } from './warm-state.ts';

/** A trainer of a gang has ended; what is done about it is decided for the whole gang. */
export class MemberDied extends AnnealError {
  readonly death: DeathOnRecord;
  /** It only missed another host's ranks, or was asked to end by them. */
  readonly isCascade: boolean;
  readonly microBatch: number;

  constructor(death: DeathOnRecord, how: { isCascade: boolean; microBatch: number }) {
    super(death.kind, death.message);
    this.death = death;
    this.isCascade = how.isCascade;
    this.microBatch = how.microBatch;
  }

  /** The ranks of all hosts have saved together and ended. */
  get wasAsked(): boolean {
    return this.isCascade && this.death.class === 'killed';
  }
}

export function isCascade({ failed, outcome }: ChildEnd): boolean {
  return failed === 'cascade' || outcome === 'interrupted';
}

/** The ranks have ended without having saved together. */
export function isBroken({ outcome }: ChildEnd): boolean {
  return outcome !== 'done' && outcome !== 'interrupted';
}

/** What the claim says to resume from is gone or damaged: the gang goes on from an older state. */
export function stateUnreadable({ run, number, resumeFrom, changes }: Claim, recipe: Recipe): MemberDied {
  const step = resumeFrom?.step ?? 0;
  const message = `The state of step ${step} of run ${run} could not be read under claim ${number}; the gang goes on from an older one.`;
  const death: DeathOnRecord = {
    ...{ class: 'state_unreadable', kind: 'checkpoint_corrupt', fingerprint: 'state_unreadable:gang', message },
    ...{ highest: 0, from: step, stepped: false },
  };
  return new MemberDied(death, { isCascade: false, microBatch: changedRecipe(recipe, changes).microBatch });
}

/** Warm states that every host holds; none when the gang is to do without. */
export function agreedStates({ offers, wish }: GangSeat, warmRoot: string | null, run: string): SavedState[] {
  if (!wish.isWarmOk || warmRoot === null) return [];
  const [first, ...others] = offers.map(({ warm }) => warm);
  const common = (first ?? []).filter(({ claim, lineage, step }) =>
    others.every((warm) => warm.some((its) => its.claim === claim && its.lineage === lineage && its.step === step)),
  );
  return common.map((state) => ({ source: 'warm', ...state, folder: warmFolder(warmRoot, run, state.claim) }));
}

/** The ranks of this host; null where it trains alone. */
export function ranksHere({ processes, hosts }: GangSize, gang: GangSeat | undefined): RanksHere | null {
  return gang === undefined ? null : { first: gang.host * processes, count: processes, of: hosts * processes };
}

export function wishOf({ wish }: GangSeat): ClaimWish {
  return { below: wish.below ?? Number.POSITIVE_INFINITY, factor: wish.factor };
}

export function placeOf({ epoch, host, offers }: GangSeat, claim: number): NonNullable<TrainJob['gang']> {
  const first = offers[0];
  const own = offers[host];
  if (first === undefined || own === undefined) {
    throw new AnnealError('trainer_bug', `A gang of ${offers.length} hosts has no place ${host}; report it.`);
  }
  return { host, address: first.address, port: first.port, interface: own.interface, key: `${epoch}-${claim}` };
}
