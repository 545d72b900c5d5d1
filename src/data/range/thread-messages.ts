// What a range's thread and the thread that started it say to each other.
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import type { FailureKind } from '../../contracts/failure.ts';
import type { MediaRef } from '../../contracts/rows.ts';
import type { RangeOptions, RangeProgress } from './options.ts';

export type FromThread =
  /** Asks for the next bytes. */
  | { say: 'more' }
  | { say: 'progress'; progress: RangeProgress }
  /** Asks for an image by its address. */
  | { say: 'find'; id: number; ref: string }
  | { say: 'done'; result: CleanedRange }
  /** `kind` null = no AnnealError. */
  | { say: 'failed'; kind: FailureKind | null; message: string; stack: string };

export type ToThread =
  /** One range at a time. */
  | { say: 'start'; options: RangeOptions; folder: string }
  /** null = there are no more. */
  | { say: 'bytes'; bytes: Uint8Array | null }
  | { say: 'found'; id: number; image: MediaRef }
  /** There is no such image. */
  | { say: 'lost'; id: number; kind: FailureKind | null; message: string };
