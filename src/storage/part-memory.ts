// Memory that files pass through on their way, used again and again. V8 takes every new 32 MiB for a reason to collect garbage, though
// there is hardly any, and gives them back late; shared memory it does not count, and any thread reads it without a copy.
import { availableParallelism } from 'node:os';
import { PART_BYTES_MAX } from './object-store.ts';
import { free } from './own-memory.ts';

/** Pieces of shared memory that there are at most, two for each range that a process cleans at a time: they stay for good. */
const SHARED_MAX = Math.max(4, availableParallelism());

/** Up to this size memory is no trouble, bytes. */
const SMALL_BYTES_MAX = 1024 * 1024;

const idle: Buffer[] = [];
let shared = 0;

/** Room for so many bytes, or for a part if they are more; whatever is in it. To be returned. */
export function takeMemory(sizeBytes: number): Buffer {
  if (sizeBytes <= SMALL_BYTES_MAX) return Buffer.allocUnsafe(sizeBytes);
  const memory = idle.pop();
  if (memory !== undefined) return memory;
  if (shared === SHARED_MAX) return Buffer.allocUnsafeSlow(PART_BYTES_MAX);
  shared++;
  return Buffer.from(new SharedArrayBuffer(PART_BYTES_MAX));
}

/** Nobody looks at it any more. */
export function returnMemory(memory: Buffer): void {
  if (memory.buffer instanceof SharedArrayBuffer) idle.push(memory);
  else if (memory.length === PART_BYTES_MAX) free(memory);
}
