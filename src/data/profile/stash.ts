// Keeps bytes of rows outside the heap: what lives there for long makes every collection of garbage longer.

/** Bytes of a chunk: the rows of a level of a sample fill a few. */
const CHUNK_BYTES = 64 * 1024;

export class Stash {
  #chunk: Buffer = Buffer.alloc(0);
  #used = 0;

  /** A copy, which is there as long as somebody holds it. */
  keep(source: Buffer, from: number, to: number): Buffer {
    const sizeBytes = to - from;
    if (this.#used + sizeBytes > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(sizeBytes, CHUNK_BYTES));
      this.#used = 0;
    }
    const kept = this.#chunk.subarray(this.#used, this.#used + sizeBytes);
    source.copy(kept, 0, from, to);
    this.#used += sizeBytes;
    return kept;
  }
}
