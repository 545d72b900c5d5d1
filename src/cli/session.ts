// Borrow-and-return of what a command talks to: Temporal, the object store.
import type { AnnealClient } from '../client/connect.ts';
import type { Environment } from '../contracts/environment.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { resolveEnvironment } from './settings.ts';

export async function withClient<T>(fn: (client: AnnealClient, environment: Environment) => Promise<T>): Promise<T> {
  const environment = await resolveEnvironment();
  const { connect } = await import('../client/connect.ts');
  const client = await connect(environment);
  try {
    return await fn(client, environment);
  } finally {
    await client.close();
  }
}

export async function withStore<T>(fn: (store: ObjectStore, environment: Environment) => Promise<T>): Promise<T> {
  const environment = await resolveEnvironment();
  const { createStoreFromEnvironment } = await import('../storage/open-store.ts');
  const store = createStoreFromEnvironment(environment);
  try {
    return await fn(store, environment);
  } finally {
    await store.close();
  }
}
