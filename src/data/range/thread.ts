// The thread in which a range is cleaned: asks its parent for bytes and images, says how far it is and what came of it.
import { parentPort } from 'node:worker_threads';
import { AnnealError, type FailureKind } from '../../contracts/failure.ts';
import type { MediaRef } from '../../contracts/rows.ts';
import { cleanRange } from './clean.ts';
import type { RangeOptions, RangeProgress } from './options.ts';
import type { FromThread, ToThread } from './thread-messages.ts';

const parent = parentPort as NonNullable<typeof parentPort>;
const say = (message: FromThread) => parent.postMessage(message);

/** Those who wait for an answer: the one reader of bytes, and images by their number. */
let takeBytes: (bytes: Uint8Array | null) => void = () => {};
const images = new Map<number, { resolve(image: MediaRef): void; reject(error: Error): void }>();

parent.on('message', (message: ToThread) => {
  if (message.say === 'start') return void clean(message.options, message.folder);
  if (message.say === 'bytes') return takeBytes(message.bytes);
  const waiting = images.get(message.id);
  images.delete(message.id);
  if (message.say === 'found') waiting?.resolve(message.image);
  else waiting?.reject(errorOf(message.kind, message.message));
});

async function* receiveBytes(): AsyncGenerator<Uint8Array> {
  for (;;) {
    const bytes = await new Promise<Uint8Array | null>((resolve) => {
      takeBytes = resolve;
      say({ say: 'more' });
    });
    if (bytes === null) return;
    yield bytes;
  }
}

let asked = 0;
function findImage(ref: string): Promise<MediaRef> {
  return new Promise((resolve, reject) => {
    const id = asked++;
    images.set(id, { resolve, reject });
    say({ say: 'find', id, ref });
  });
}

function errorOf(kind: FailureKind | null, message: string): Error {
  return kind === null ? new Error(message) : new AnnealError(kind, message);
}

async function clean(options: RangeOptions, folder: string): Promise<void> {
  try {
    const onProgress = (progress: RangeProgress) => say({ say: 'progress', progress });
    say({ say: 'done', result: await cleanRange(receiveBytes(), options, folder, { onProgress, findImage }) });
  } catch (error) {
    const kind = error instanceof AnnealError ? error.kind : null;
    const { message, stack = '' } = error instanceof Error ? error : new Error(String(error));
    say({ say: 'failed', kind, message, stack });
  }
}
