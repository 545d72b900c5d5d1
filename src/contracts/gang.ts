// What the hosts of a gang and its workflow tell each other. Types only.
import type { TrainInput, TrainPaused, TrainResultSummary } from './stages.ts';

/** A host's warm state that all its own ranks hold. */
export interface WarmOffer {
  claim: number;
  lineage: string;
  step: number;
}

/** What a granted host has to say before a gang starts. */
export interface HostOffer {
  /** Where its trainer could listen for the others, and the network interface that reaches them. */
  address: string;
  port: number;
  interface: string;
  warm: WarmOffer[];
  /** The training is complete already. */
  done: TrainResultSummary | TrainPaused | null;
  /** It works for somebody else, whom the pool does not know of yet. */
  isBusy: boolean;
}

export interface OfferInput extends TrainInput {
  /** Its place among the gang's hosts. */
  host: number;
}

/** Where the gang goes on, by what was judged of its last end. */
export interface GangWish {
  /** Only states before this step; null = all. */
  below: number | null;
  /** Divides the micro-batch. */
  factor: number;
  isWarmOk: boolean;
}

/** One host's place in one attempt of a gang. */
export interface GangSeat {
  /** The server's time at which the attempt began, ms since the epoch: a later attempt has a later one. */
  epoch: number;
  host: number;
  /** Names, by place. */
  hosts: string[];
  /** By place. */
  offers: HostOffer[];
  wish: GangWish;
  /** How the gang's attempt before ended, for the receipt. */
  before: { kind: string; message: string; step: number } | null;
}

export interface MemberInput extends TrainInput {
  seat: GangSeat;
}

/** How a gang or one of its trainers ended, as `DeathOnRecord` of the recovery policy. */
export interface GangDeath {
  class: string;
  kind: string;
  fingerprint: string;
  message: string;
  highest: number;
  from: number;
  stepped: boolean;
}

export type MemberOutcome =
  /** The first host's has the result. */
  | { ended: 'done'; result: TrainResultSummary | TrainPaused | null }
  | {
      ended: 'died';
      death: GangDeath;
      /** It only missed another host's ranks, or was asked to end by them. */
      isCascade: boolean;
      /** After the changes so far. */
      microBatch: number;
      /** As far as this host knows. */
      gpuSeconds: number | null;
    };

export interface JudgeInput {
  spec: TrainInput['spec'];
  deaths: GangDeath[];
  microBatch: number;
}
