// Which tools of the set-up run now, recorded by pid and start time, so that what a killed set-up left running is ended before the next one writes
// to the same folders.
import { mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { STATE } from './places.mjs';
import { isSameProcess, readStartTicks } from './process-start.mjs';

const FOLDER = join(STATE, 'set-up-tools');

/** How often a killed tool is looked at, ms. */
const POLL_MS = 50;

/** @returns {() => void} call it when the tool has ended. */
export function recordTool(pid) {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, String(pid));
  writeFileSync(path, JSON.stringify({ pid, startTicks: readStartTicks(pid) }));
  return () => unlinkSync(path);
}

/** Call it only as the one set-up that runs. */
export async function endLeftoverTools() {
  mkdirSync(FOLDER, { recursive: true });
  for (const name of readdirSync(FOLDER)) {
    const path = join(FOLDER, name);
    await endTool(JSON.parse(readFileSync(path, 'utf8') || '{}'));
    unlinkSync(path);
  }
}

async function endTool(tool) {
  if (!isSameProcess(tool)) return;
  process.kill(tool.pid, 'SIGKILL');
  while (isSameProcess(tool)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}
