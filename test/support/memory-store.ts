// An object store in memory, for tests of logic that lives above it; the conformance suite holds it to the same contract as the drivers.
import { AnnealError } from '../../src/contracts/failure.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
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
    async put(key, body, sha256) {
      if (sha256 !== undefined && sha256Hex(body) !== sha256) {
        throw new AnnealError(
          'store_unavailable',
          `Object ${key} was refused: its bytes do not have the digest ${sha256}.`,
        );
      }
      // The caller may use its memory again.
      objects.set(key, Uint8Array.from(body));
    },
    get: async (key) => objects.get(key) ?? null,
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
