// Every trainer event of a run on this host, as NDJSON with the time at which it was read: for drills, reports and people.
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';

export interface EventLog {
  append(event: TrainerEvent | { ev: 'recovery'; [field: string]: unknown }): void;
  close(): void;
}

export function createEventLog(runFolder: string): EventLog {
  mkdirSync(runFolder, { recursive: true });
  const file = openSync(join(runFolder, 'events.ndjson'), 'a');
  return {
    append: (event) => void writeSync(file, `${JSON.stringify({ t: Date.now(), ...event })}\n`),
    close: () => closeSync(file),
  };
}
