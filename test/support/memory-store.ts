// An object store in memory, for tests of logic that lives above it; the conformance suite holds it to the same contract as the drivers.
import type { ObjectStore } from '../../src/storage/object-store.ts';

export function createMemoryStore(): ObjectStore {
  const objects = new Map<string, Uint8Array>();
  return {
    async putIfAbsent(key, body) {
      const there = objects.get(key);
      if (there === undefined) {
        objects.set(key, Uint8Array.from(body));
        return 'created';
      }
      return Buffer.compare(there, body) === 0 ? 'mine' : 'exists';
    },
    async put(key, body) {
      // The caller may use its memory again.
      objects.set(key, Uint8Array.from(body));
    },
    async get(key, into) {
      const there = objects.get(key);
      if (there === undefined) return null;
      if (into === undefined || into.length < there.length) return Uint8Array.from(there);
      into.set(there);
      return into.subarray(0, there.length);
    },
    async head(key) {
      const there = objects.get(key);
      return there === undefined ? null : { sizeBytes: there.length };
    },
    list: async (prefix) => [...objects.keys()].filter((key) => key.startsWith(prefix)).sort(),
    async delete(key) {
      objects.delete(key);
    },
    async close() {},
  };
}
