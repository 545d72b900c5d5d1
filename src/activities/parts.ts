// What the activities are built from; wired by the workers.
import type { ObjectStore } from '../storage/object-store.ts';
import type { PythonConfig } from '../trainer/child.ts';
import type { WarmParent } from '../trainer/warm-parent.ts';

export interface Parts {
  store: ObjectStore;
  python: PythonConfig;
  /** This host's state folder, absolute. */
  state: string;
  /** Folder of base models by name. */
  models: string;
  /** Folder that `example:` sources are read from. */
  examples: string;
  host: string;
  gatewayUrl: string;
}

/** What a GPU worker has besides. */
export interface GpuParts extends Parts {
  warmParent: WarmParent | null;
  /** File that says what an hour of a GPU costs; it need not be there. */
  prices: string;
  /** Where shared memory is mounted, or null. */
  sharedMemory: string | null;
}
