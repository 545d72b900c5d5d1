// What the steps of preprocess work with: the store, a folder, where to say how far they are.
import type { Spec } from '../../contracts/spec.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { SourceContext } from '../sources.ts';

export interface PreparationHost {
  store: ObjectStore;
  /** Working folder of one step at a time, which makes and removes what it needs in it. */
  folder: string;
  /** For evaluation suites and images that rows name. */
  sources: SourceContext;
  /** Key of pseudonyms, or null. */
  pseudonymKey: string | null;
  signal: AbortSignal;
  report(progress: { phase: string; step?: number; of?: number }): void;
}

export interface PreparationInput {
  spec: Spec;
  /** Digest of the snapshot. */
  snapshot: string;
  /** Of the evaluation suites' snapshot; null = there are none; absent = they are read when the ranges are planned. */
  suites?: string | null;
}
