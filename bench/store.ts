// An S3 server of a bench's own: the embedded one, without the rest of the stack.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readEnvironment } from '../src/contracts/environment.ts';
import { DEFAULT_PORTS, FREE_PORTS } from '../src/dev/ports.ts';
import { startStack } from '../src/dev/stack.ts';
import type { ObjectStore } from '../src/storage/object-store.ts';
import { createStoreFromEnvironment } from '../src/storage/open-store.ts';
import { PROJECT_FOLDER } from '../src/telemetry/code-identity.ts';
import type { BenchOptions } from './report.ts';

export interface Lent {
  store: ObjectStore;
  /** For other processes that open it. */
  environment: Record<string, string>;
  /** A folder that goes with it. */
  folder: string;
}

export async function withStore<T>({ signal, say }: BenchOptions, work: (lent: Lent) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  // The gateway takes no part, so its port is never opened.
  const ports = { ...FREE_PORTS, gateway: DEFAULT_PORTS.gateway };
  const state = join(folder, 'stack');
  const stack = await startStack({ project: PROJECT_FOLDER, state, ports, parts: ['store'], onLine: say, signal });
  try {
    const store = createStoreFromEnvironment(readEnvironment(stack.environment));
    return await work({ store, environment: stack.environment, folder }).finally(() => store.close());
  } finally {
    await stack.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
