// Cleans a range in a thread of its own, so that the one that asks goes on: its heartbeats, its other ranges.
import type { Worker } from 'node:worker_threads';
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import { AnnealError } from '../../contracts/failure.ts';
import { PART_BYTES_MAX } from '../../storage/object-store.ts';
import { returnMemory, takeMemory } from '../../storage/part-memory.ts';
import { type FindImage, noImages } from '../media/media.ts';
import type { RangeContext, RangeOptions } from './options.ts';
import type { FromThread, ToThread } from './thread-messages.ts';
import { giveBack, HEAP_MIB_MAX, takeThread } from './thread-pool.ts';

/** Reads a range's bytes; each piece into the memory that it takes, if it can. */
type ReadBytes = (takeMemory: () => Uint8Array) => AsyncIterable<Uint8Array>;

/**
 * Like `cleanRange`. The thread looks at pieces where they were read into the memory that is given, and gets a copy of others.
 * @throws what `cleanRange` throws, AnnealError `out_of_memory` or `trainer_crashed` when the thread dies, the signal's reason.
 */
export async function cleanRangeInThread(
  read: ReadBytes,
  options: RangeOptions,
  folder: string,
  context: RangeContext = {},
): Promise<CleanedRange> {
  context.signal?.throwIfAborted();
  const worker = takeThread();
  const source = new Supply(read, options);
  const stop = new AbortController();
  try {
    const result = await new Promise<CleanedRange>((resolve, reject) => {
      context.signal?.addEventListener('abort', () => reject(context.signal?.reason), { signal: stop.signal });
      worker.on('message', (message: FromThread) => {
        if (message.say === 'done') resolve(message.result);
        else if (message.say === 'failed') reject(errorOf(message));
        else answer(worker, message, source, context).catch(reject);
      });
      worker.on('error', (error: Error) => reject(deathOf(error, options)));
      worker.on('exit', (code) => reject(deathOf(new Error(`exit code ${code}`), options)));
      give(worker, { say: 'start', options, folder });
    });
    giveBack(worker);
    return result;
  } catch (error) {
    await worker.terminate();
    throw error;
  } finally {
    stop.abort();
    await source.close();
  }
}

/**
 * The bytes, the next of which are fetched while the thread cleans those before, as long as they are the range's own: by turns into two
 * memories, both of which the thread can read.
 */
class Supply {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #memories = [takeMemory(PART_BYTES_MAX), takeMemory(PART_BYTES_MAX)];
  readonly #ownBytes: number;
  #given = 0;
  #next: Promise<IteratorResult<Uint8Array>> | null = null;

  constructor(read: ReadBytes, { startOffset, endOffset }: RangeOptions) {
    this.#source = read(() => this.#takeMemory())[Symbol.asyncIterator]();
    this.#ownBytes = (endOffset ?? Number.POSITIVE_INFINITY) - startOffset;
  }

  /** null = there are no more. */
  async next(): Promise<Uint8Array | null> {
    const { done, value } = await (this.#next ?? this.#source.next());
    this.#next = null;
    if (done) return null;
    this.#given += value.length;
    if (this.#given < this.#ownBytes) this.#fetch();
    return value;
  }

  /** Should it fail, whoever asks for the bytes is told. */
  #fetch(): void {
    this.#next = this.#source.next();
    this.#next.catch(() => undefined);
  }

  #takeMemory(): Buffer {
    this.#memories.reverse();
    return this.#memories[0] as Buffer;
  }

  /** Nobody reads what was given, and nothing is asked for any more. */
  async close(): Promise<void> {
    await this.#source.return?.(undefined);
    for (const memory of this.#memories) returnMemory(memory);
  }
}

type Question = Exclude<FromThread, { say: 'done' | 'failed' }>;

async function answer(
  worker: Worker,
  message: Question,
  source: Supply,
  { onProgress, findImage }: RangeContext,
): Promise<void> {
  switch (message.say) {
    case 'more':
      return give(worker, { say: 'bytes', bytes: await source.next() });
    case 'progress':
      return onProgress?.(message.progress);
    case 'find':
      return give(worker, await find(message, findImage));
    default:
      return message satisfies never;
  }
}

async function find({ id, ref }: { id: number; ref: string }, findImage: FindImage = noImages): Promise<ToThread> {
  try {
    return { say: 'found', id, image: await findImage(ref) };
  } catch (error) {
    const kind = error instanceof AnnealError ? error.kind : null;
    return { say: 'lost', id, kind, message: error instanceof Error ? error.message : String(error) };
  }
}

function give(worker: Worker, message: ToThread): void {
  worker.postMessage(message);
}

function errorOf({
  kind,
  message,
  stack,
}: {
  kind: AnnealError['kind'] | null;
  message: string;
  stack: string;
}): Error {
  if (kind !== null) return new AnnealError(kind, message);
  return Object.assign(new Error(message), { stack });
}

function deathOf(error: Error & { code?: string }, { name, startOffset }: RangeOptions): AnnealError {
  const range = `The thread that cleaned ${name} from byte ${startOffset} on`;
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY')
    return new AnnealError(
      'out_of_memory',
      `${range} used more than ${HEAP_MIB_MAX} MiB of heap; look for rows that are far too long.`,
      {
        cause: error,
      },
    );
  return new AnnealError('trainer_crashed', `${range} died (${error.message}); the range is cleaned again.`, {
    cause: error,
  });
}
