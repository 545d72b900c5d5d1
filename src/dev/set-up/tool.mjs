// Runs one tool of the set-up to its end, shows its last line as progress, and keeps the end of its output for a message.
import { spawn } from 'node:child_process';
import { recordTool } from './leftover-tools.mjs';
import { SetUpError } from './set-up-error.mjs';

const TAIL_LINES_MAX = 12;

const NOT_THERE = 'not there';

/**
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd: string, env?: object, onLine?: (line: string) => void, remedy: string, what: string }} options
 * `what` names the step in the message of a failure, `remedy` tells what to do then.
 */
export async function runTool(command, args, { cwd, env = process.env, onLine = () => {}, remedy, what }) {
  const tail = [];
  const note = (line) => {
    if (line.trim() === '') return;
    tail.push(line);
    if (tail.length > TAIL_LINES_MAX) tail.shift();
    onLine(line.trim());
  };
  // Standard input stays open while this process lives; the trainer takes its end for the death of its parent.
  const child = spawn(command, args, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {});
  child.stdout.on('data', splitLines(note));
  child.stderr.on('data', splitLines(note));
  const forget = child.pid === undefined ? () => {} : recordTool(child.pid);
  const stopForwarding = endWithThisProcess(child);
  const end = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.code === 'ENOENT' ? NOT_THERE : error.message));
    child.once('close', (code, signal) => resolve(code === 0 ? null : signal || `code ${code}`));
  });
  stopForwarding();
  forget();
  if (end === NOT_THERE) {
    throw new SetUpError(`${what} failed: there is no ${command}. Install it, then run the same command again.`);
  }
  if (end !== null) throw new SetUpError(`${what} failed (${end}). ${remedy}`, tail);
}

/** A set-up that is ended takes its tools with it: half of what they do would be worth nothing. */
function endWithThisProcess(child) {
  const end = () => child.kill('SIGTERM');
  process.once('exit', end);
  return () => process.removeListener('exit', end);
}

function splitLines(onLine) {
  let rest = '';
  return (chunk) => {
    const lines = (rest + chunk).split(/\r?\n|\r/);
    rest = lines.pop();
    for (const line of lines) onLine(line);
  };
}
