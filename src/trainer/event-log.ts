// Every trainer event of a run on this host, as NDJSON with the time at which it was read: for drills, reports, people, and for the
// next attempt on this host, which knows by it what the steps gave that it does again. Beside it lies what the run has cost and given so far.
import { closeSync, mkdirSync, openSync, readSync, renameSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Finding, GoodputSchema, LearningCurveSchema, type Receipt } from '../contracts/records.ts';
import type { TrainerEvent, TrainerEventOf } from '../contracts/trainer-protocol.ts';

type Entry =
  | TrainerEvent
  | ({ ev: 'recovery' } & Receipt)
  | ({ ev: 'noticed' } & Finding)
  | { ev: 'claim'; claim: number; lineage: string; from: number }
  /** A sign of life where steps are seen elsewhere. */
  | { ev: 'alive' };

export interface EventLog {
  append(entry: Entry): void;
  /** Remembers what the run has cost and given: at most once a second, unless it is told to do it now. */
  remember(memory: () => Memory, now: boolean): void;
  close(): void;
}

export type StepEvent = TrainerEventOf<'step'>;

/** What an earlier attempt of the same lineage left on this host. */
export interface EarlierHere extends Omit<Memory, 'lineage'> {
  steps: StepEvent[];
}

/** Of the end of the log that is read again, bytes: some ten thousand steps. */
const TAIL_BYTES_MAX = 4 * 1024 * 1024;
/** Between two times that the cost is written down, ms. */
const REMEMBER_MS = 1_000;

const MemorySchema = z.object({
  lineage: z.string(),
  goodput: GoodputSchema,
  /** Absent in those of earlier releases. */
  curve: LearningCurveSchema.optional(),
});
type Memory = z.infer<typeof MemorySchema>;
const logFile = (runFolder: string) => join(runFolder, 'events.ndjson');
const memoryFile = (runFolder: string) => join(runFolder, 'goodput.json');

export function createEventLog(runFolder: string): EventLog {
  mkdirSync(runFolder, { recursive: true });
  const file = openSync(logFile(runFolder), 'a');
  let rememberedMs = 0;
  return {
    append: (entry) => ifThereIsRoom(() => writeSync(file, `${JSON.stringify({ t: Date.now(), ...entry })}\n`)),
    remember(memory, now) {
      if (!now && Date.now() - rememberedMs < REMEMBER_MS) return;
      rememberedMs = Date.now();
      const temporary = `${memoryFile(runFolder)}.new`;
      ifThereIsRoom(() => {
        writeFileSync(temporary, JSON.stringify(memory()));
        renameSync(temporary, memoryFile(runFolder));
      });
    },
    close: () => closeSync(file),
  };
}

/** On a full disk a line is lost. What cannot go on without room, the trainer's own saves, says so. */
function ifThereIsRoom(write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** null when no attempt of this lineage has trained here. */
export async function readEarlier(runFolder: string, lineage: string): Promise<EarlierHere | null> {
  const text = await readFile(memoryFile(runFolder), 'utf8').catch(() => null);
  const memory = text === null ? null : parse(text, MemorySchema);
  if (memory === null || memory.lineage !== lineage) return null;
  const { goodput, curve } = memory;
  return { goodput, curve, steps: readSteps(logFile(runFolder), lineage) };
}

/** When the run last gave a sign of life on this host, ms since the epoch. */
export async function lastSignOf(runFolder: string): Promise<number> {
  return (await stat(logFile(runFolder)).catch(() => null))?.mtimeMs ?? 0;
}

function readSteps(file: string, lineage: string): StepEvent[] {
  let steps: StepEvent[] = [];
  for (const line of readTail(file).split('\n').slice(1)) {
    const entry = parse(line, z.looseObject({ ev: z.string() }));
    if (entry?.ev === 'claim' && entry.lineage !== lineage) steps = [];
    if (entry?.ev === 'step') steps.push(entry as unknown as StepEvent);
  }
  return steps;
}

function readTail(file: string): string {
  const size = statSync(file).size;
  const from = Math.max(0, size - TAIL_BYTES_MAX);
  const buffer = Buffer.alloc(size - from);
  const handle = openSync(file, 'r');
  try {
    readSync(handle, buffer, 0, buffer.length, from);
  } finally {
    closeSync(handle);
  }
  return from === 0 ? `\n${buffer.toString('utf8')}` : buffer.toString('utf8');
}

function parse<S extends z.ZodType>(text: string, schema: S): z.output<S> | null {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null; // cut by a death
  }
}
