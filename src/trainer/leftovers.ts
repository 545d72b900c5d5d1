// Which trainer runs on this host: recorded by pid and start time, so that what a dead worker left behind can be found and ended.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { endProcessGroup, identifyProcess, isAlive, type ProcessIdentity } from './process-identity.ts';

export interface TrainerRecord extends ProcessIdentity {
  run: string;
}

const recordFile = (state: string) => join(state, 'gpu', 'trainer.json');

export function recordTrainer(state: string, pid: number, run: string): void {
  const identity = identifyProcess(pid);
  if (identity === null) return; // it ended already
  const file = recordFile(state);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify({ ...identity, run } satisfies TrainerRecord));
}

export function forgetTrainer(state: string): void {
  rmSync(recordFile(state), { force: true });
}

/** Ends the recorded trainer if it still lives. Returns its record, or null when there was nothing to end. */
export async function endLeftoverTrainer(state: string): Promise<TrainerRecord | null> {
  const record = readTrainerRecord(state);
  if (record === null) return null;
  const lived = isAlive(record);
  await endProcessGroup(record, 0);
  forgetTrainer(state);
  return lived ? record : null;
}

export function readTrainerRecord(state: string): TrainerRecord | null {
  try {
    return JSON.parse(readFileSync(recordFile(state), 'utf8')) as TrainerRecord;
  } catch {
    return null;
  }
}
