// Looks at pieces in several threads at once: each takes the next piece, and what it finds comes back as it is found.
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { AnnealError } from '../../../contracts/failure.ts';
import { isOwn } from '../../../storage/own-memory.ts';
import { compileCache } from '../../range/thread-pool.ts';
import type { PieceRows, ScanOptions, TakeFound } from './scan.ts';
import type { FromThread, ToThread } from './thread.ts';

/** Reading the store and checking its digests keeps no more of them busy; each holds a part of 32 MiB, and a heap. */
const THREADS_MAX = 4;
const HEAP_MIB_MAX = 256;

/** The compiled program has compiled files. */
const ENTRY = new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);

export interface PieceToScan {
  rows: PieceRows;
  bytes(): AsyncIterable<Uint8Array>;
}

export interface ScanThreads {
  /** Ends when all are looked at. @throws AnnealError `trainer_crashed` when a thread dies, the signal's reason */
  scan(pieces: Iterable<PieceToScan>, take: TakeFound): Promise<void>;
  close(): Promise<void>;
}

export function openScanThreads(options: ScanOptions, signal: AbortSignal): ScanThreads {
  const workers = Array.from(
    { length: Math.min(THREADS_MAX, availableParallelism()) },
    () =>
      new Worker(ENTRY, {
        workerData: options,
        resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
        env: compileCache(),
        execArgv: [],
      }),
  );
  return {
    async scan(pieces, take) {
      const todo = pieces[Symbol.iterator]();
      const labour = async (worker: Worker): Promise<void> => {
        for (let next = todo.next(); !next.done; next = todo.next()) await scanPiece(worker, next.value, take, signal);
      };
      await Promise.all(workers.map(labour));
    },
    close: async () => void (await Promise.all(workers.map((worker) => worker.terminate()))),
  };
}

async function scanPiece(worker: Worker, piece: PieceToScan, take: TakeFound, signal: AbortSignal): Promise<void> {
  const bytes = piece.bytes()[Symbol.asyncIterator]();
  const stop = new AbortController();
  try {
    await new Promise<void>((resolve, reject) => {
      signal.throwIfAborted();
      signal.addEventListener('abort', () => reject(signal.reason), { signal: stop.signal });
      const give = async () => {
        const { done, value } = await bytes.next();
        say(worker, { say: 'bytes', bytes: done ? null : value });
      };
      worker.on('message', (message: FromThread) => {
        if (message.say === 'done') resolve();
        else if (message.say === 'found') take(message.found);
        else give().catch(reject);
      });
      worker.on('error', (error) => reject(deathOf(error)));
      worker.on('exit', (code) => reject(deathOf(new Error(`exit code ${code}`))));
      say(worker, { say: 'piece', rows: piece.rows });
    });
  } finally {
    stop.abort();
    for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event);
    await bytes.return?.(undefined);
  }
}

/** Memory that is the bytes' own moves to the thread; of memory that others use, too, it gets a copy. */
function say(worker: Worker, message: ToThread): void {
  const bytes = message.say === 'bytes' ? message.bytes : null;
  worker.postMessage(message, bytes !== null && isOwn(bytes) ? [bytes.buffer as ArrayBuffer] : []);
}

function deathOf(error: Error): AnnealError {
  const what = `A thread that compared training rows with held-out ones died (${error.message})`;
  return new AnnealError('trainer_crashed', `${what}; the rows are compared again.`, { cause: error });
}
