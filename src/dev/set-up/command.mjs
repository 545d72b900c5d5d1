// Runs the wanted program in this one's place: same terminal, same signals, same end.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { getPriority, setPriority } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { environmentWithNode } from './npm.mjs';
import { PROJECT } from './places.mjs';

/**
 * @param {string} command
 * @param {string[]} args the first is a script, relative to the project.
 * @returns {Promise<{ code: number | null, signal: string | null }>}
 */
export async function runCommand(command, [script, ...args], { cwd = process.cwd() } = {}) {
  return await run(command, [join(PROJECT, script), ...args], cwd);
}

export async function run(command, args, cwd) {
  return await untilEnd(spawn(command, args, { cwd, env: environmentWithNode(), stdio: 'inherit' }));
}

/** What a program has left behind may hold its output open for ever; its last lines are there by then, ms. */
const LAST_LINES_MS = 1_000;

/**
 * For programs that run at once on one terminal: each line is written when it is whole, so that lines do not mix.
 *
 * @param {{ priority?: number, silence?: Promise<unknown> }} [how] of the scheduler, -20 to 19; lines are kept until the silence is over.
 */
export async function runByLines(command, args, cwd, { priority = 0, silence = Promise.resolve() } = {}) {
  const child = spawn(command, args, { cwd, env: environmentWithNode(), stdio: ['inherit', 'pipe', 'pipe'] });
  // Never before this process's own.
  if (child.pid !== undefined) setPriority(child.pid, Math.max(getPriority(), priority));
  const readers = ['stdout', 'stderr'].map((name) =>
    createInterface({ input: child[name] }).on('line', async (line) => {
      await silence;
      process[name].write(`${line}\n`);
    }),
  );
  const read = Promise.all(readers.map((reader) => once(reader, 'close')));
  const end = await untilEnd(child);
  await Promise.race([read, new Promise((passed) => setTimeout(passed, LAST_LINES_MS).unref())]);
  child.stdout.destroy();
  child.stderr.destroy();
  await silence;
  return end;
}

async function untilEnd(child) {
  const stopForwarding = forwardSignals(child);
  try {
    return await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
  } finally {
    stopForwarding();
  }
}

/** A terminal gives Ctrl-C to the child itself; all else arrives only here. */
function forwardSignals(child) {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const handlers = signals.map((signal) => {
    const fromTerminal = signal === 'SIGINT' && process.stdin.isTTY;
    const handler = () => fromTerminal || child.kill(signal);
    process.on(signal, handler);
    return [signal, handler];
  });
  return () => {
    for (const [signal, handler] of handlers) process.removeListener(signal, handler);
  };
}

/** Ends this process as the child ended. */
export function exitLike({ code, signal }) {
  if (signal !== null) process.kill(process.pid, signal);
  else process.exitCode = code;
}
