// Reads a trainer's event channel: one JSON object a line. Anything else is garbage, and too much of it is a flood.
import type { Readable } from 'node:stream';
import { EventSchema, type TrainerEvent } from '../contracts/trainer-protocol.ts';

export interface EventReader {
  onEvent: (event: TrainerEvent) => void;
  /** The beginning of a line that is no event. */
  onGarbage: (text: string) => void;
  /** Called once, when there is more garbage than a library's stray print explains. */
  onFlood: () => void;
}

/** Longest event line, bytes: the largest event is a result with its libraries. */
const LINE_BYTES_MAX = 1_000_000;
/** Garbage that is borne, lines and bytes. */
const GARBAGE_LINES_MAX = 100;
const GARBAGE_BYTES_MAX = 4 * LINE_BYTES_MAX;
/** Characters of garbage that are shown. */
const SHOWN = 200;

/** Ends when the stream does; never rejects. Holds at most one line. */
export function readEvents(stream: Readable, reader: EventReader): Promise<void> {
  let pieces: Buffer[] = [];
  let lineBytes = 0;
  let garbageLines = 0;
  let garbageBytes = 0;
  let isFlooded = false;

  const countGarbage = (bytes: number, lines: number) => {
    garbageBytes += bytes;
    garbageLines += lines;
    if (isFlooded || (garbageLines <= GARBAGE_LINES_MAX && garbageBytes <= GARBAGE_BYTES_MAX)) return;
    isFlooded = true;
    reader.onFlood();
  };

  const take = (piece: Buffer) => {
    // What is beyond the limit is counted, not kept.
    if (lineBytes + piece.length <= LINE_BYTES_MAX) pieces.push(piece);
    else countGarbage(piece.length, 0);
    lineBytes += piece.length;
  };

  const endLine = () => {
    const text = Buffer.concat(pieces).toString('utf8');
    const event = lineBytes > LINE_BYTES_MAX ? null : parseEvent(text);
    const isEmpty = lineBytes === 0;
    pieces = [];
    lineBytes = 0;
    if (event !== null) return reader.onEvent(event);
    if (isEmpty) return;
    countGarbage(text.length, 1);
    if (!isFlooded) reader.onGarbage(text.slice(0, SHOWN));
  };

  return new Promise((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      let start = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        take(chunk.subarray(start, end));
        endLine();
        start = end + 1;
      }
      if (start < chunk.length) take(chunk.subarray(start));
    });
    // A last line without its end was cut by the writer's death: it is not an event.
    stream.once('close', resolve);
    stream.once('error', () => stream.destroy());
  });
}

function parseEvent(line: string): TrainerEvent | null {
  try {
    const parsed = EventSchema.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
