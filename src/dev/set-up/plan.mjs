// What has to be there, in which order it is made, and the quick look that finds nothing missing on most starts.
import fs, { mkdirSync } from 'node:fs';
import { constants } from 'node:os';
import { deepspeed, isDeepSpeedWanted } from './deepspeed.mjs';
import { homeAssistant, icdChapters, preferences } from './examples.mjs';
import { endLeftoverTools } from './leftover-tools.mjs';
import { withLock } from './lock.mjs';
import { removeLeftoverScratch, smollm2, tiny } from './models.mjs';
import { npmPackages } from './npm.mjs';
import { STATE } from './places.mjs';
import { createProgress } from './progress.mjs';
import { pythonPackages } from './python.mjs';
import { SetUpError } from './set-up-error.mjs';
import { readStamp, writeStamp } from './stamps.mjs';

/** Steps of one row run side by side; a row needs the rows above it. */
const ROWS = [
  [pythonPackages, npmPackages],
  ...(isDeepSpeedWanted() ? [[deepspeed]] : []),
  [smollm2],
  [tiny, homeAssistant, icdChapters, preferences],
];

/** Packages, models and pip's cache together, with room to run; a GPU build of torch alone unpacks to 5 GB. */
const DISK_GB_NEEDED = 6;

/** In place of a digest while a step runs, so that a step that was killed half-way is neither done nor never begun. */
const BEGUN = 'begun';

export async function setUp({ withModels }) {
  const rows = withModels ? ROWS : ROWS.slice(0, 1);
  if (rows.flat().every(isDone)) return;
  requirePlatform();
  const progress = createProgress();
  const forget = exitOnSignals();
  try {
    await withLock(
      () => makeRows(rows, progress),
      (pid) => progress.say(`Another set-up runs (pid ${pid}); waiting for it.`),
    );
  } finally {
    progress.close();
    forget();
  }
}

/** An orderly exit, which ends the tools and frees the lock; a bare signal would do neither. */
function exitOnSignals() {
  const exits = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => [
    signal,
    () => process.exit(128 + constants.signals[signal]),
  ]);
  for (const [signal, exit] of exits) process.on(signal, exit);
  return () => {
    for (const [signal, exit] of exits) process.removeListener(signal, exit);
  };
}

function isDone(step) {
  return step.isPresent() && readStamp(step.stamp) === step.digest();
}

async function makeRows(rows, progress) {
  await endLeftoverTools();
  removeLeftoverScratch();
  for (const row of rows) {
    const missing = row.filter((step) => !isDone(step));
    if (missing.includes(pythonPackages)) requireDisk();
    // All are waited for, also when one fails: a half-made neighbour would be made again.
    const results = await Promise.allSettled(missing.map((step) => make(step, progress)));
    const failures = results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new SetUpError(failures.map(({ message }) => message).join('\n'));
  }
}

async function make(step, progress) {
  const digest = step.digest();
  const isSatisfied = step.isSatisfied?.();
  if (!isSatisfied) {
    writeStamp(step.stamp, BEGUN);
    const task = progress.start(step.name, step.what);
    try {
      await step.run(task);
    } catch (error) {
      task.failed();
      throw error;
    }
    task.done();
  }
  writeStamp(step.stamp, digest);
}

function requirePlatform() {
  if (process.platform !== 'win32') return;
  throw new SetUpError('Anneal runs on Linux and macOS; on Windows use it inside WSL.');
}

function requireDisk() {
  // Node 14 to 18.14 cannot ask; then pip says it.
  if (fs.statfsSync === undefined) return;
  mkdirSync(STATE, { recursive: true });
  const { bavail, bsize } = fs.statfsSync(STATE);
  const freeGb = (bavail * bsize) / 1024 ** 3;
  if (freeGb >= DISK_GB_NEEDED) return;
  throw new SetUpError(
    `The set-up needs ${DISK_GB_NEEDED} GB of disk for ${STATE}, ${freeGb.toFixed(1)} GB are free; make room and run the same command again.`,
  );
}
