// A thread that looks at pieces for `findHeldOutText`: asks its parent for bytes, and says what it found.
import { parentPort, workerData } from 'node:worker_threads';
import { free } from '../../../storage/own-memory.ts';
import { type PieceRows, PieceScan, type ScanOptions } from './scan.ts';

/** null = there are no more bytes of the piece. */
export type ToThread = { say: 'piece'; rows: PieceRows } | { say: 'bytes'; bytes: Uint8Array | null };
export type FromThread = { say: 'more' } | { say: 'found'; found: Int32Array } | { say: 'done' };

const parent = parentPort as NonNullable<typeof parentPort>;
const say = (message: FromThread, ...moved: ArrayBuffer[]) => parent.postMessage(message, moved);

const scan = new PieceScan(workerData as ScanOptions, (found) =>
  say({ say: 'found', found }, found.buffer as ArrayBuffer),
);
let takeBytes: (bytes: Uint8Array | null) => void = () => {};

parent.on('message', (message: ToThread) => {
  if (message.say === 'piece') void look(message.rows);
  else takeBytes(message.bytes);
});

async function look(rows: PieceRows): Promise<void> {
  const piece = scan.open(rows);
  for (let bytes = await nextBytes(); bytes !== null; bytes = await nextBytes()) {
    piece.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    free(bytes);
  }
  piece.end();
  say({ say: 'done' });
}

function nextBytes(): Promise<Uint8Array | null> {
  return new Promise((resolve) => {
    takeBytes = resolve;
    say({ say: 'more' });
  });
}
