// Shows on standard error what the set-up does: one moving line on a terminal, plain lines elsewhere.

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/** Fast enough to look alive, slow enough not to cost anything, ms. */
const FRAME_MS = 120;

/** Without a terminal a step that takes long says so this often, ms: a log that stands still looks like a hang. */
const SIGN_OF_LIFE_MS = 30_000;

export function createProgress(out = process.stderr) {
  return out.isTTY ? createMovingLine(out) : createPlainLines(out);
}

/** @typedef {{ detail(text: string): void, done(): void, failed(): void }} Task */

function createMovingLine(out) {
  const tasks = new Map();
  let frame = 0;
  const draw = () => {
    frame = (frame + 1) % FRAMES.length;
    const text = [...tasks].map(([name, task]) => describe(name, task)).join('  ·  ');
    out.write(`\r\x1b[2K${`${FRAMES[frame]} ${text}`.slice(0, (out.columns || 80) - 1)}`);
  };
  const timer = setInterval(() => tasks.size > 0 && draw(), FRAME_MS);
  timer.unref();
  const finish = (name, mark) => {
    const { startedAt } = tasks.get(name);
    tasks.delete(name);
    out.write(`\r\x1b[2K${mark} ${name} (${secondsSince(startedAt)} s)\n`);
  };
  return {
    say: (line) => out.write(`\r\x1b[2K${line}\n`),
    start(name, what) {
      const task = { startedAt: Date.now(), what };
      tasks.set(name, task);
      return {
        detail: (text) => {
          task.what = text;
        },
        done: () => finish(name, '✓'),
        failed: () => finish(name, '✗'),
      };
    },
    close: () => clearInterval(timer),
  };
}

function createPlainLines(out) {
  const timers = new Set();
  return {
    say: (line) => out.write(`${line}\n`),
    start(name, what) {
      const task = { startedAt: Date.now(), what };
      out.write(`${name}: ${what}\n`);
      const timer = setInterval(() => out.write(`${describe(name, task)}\n`), SIGN_OF_LIFE_MS);
      timer.unref();
      timers.add(timer);
      const finish = (word) => {
        clearInterval(timer);
        out.write(`${name}: ${word} after ${secondsSince(task.startedAt)} s\n`);
      };
      return {
        detail: (text) => {
          task.what = text;
        },
        done: () => finish('done'),
        failed: () => finish('failed'),
      };
    },
    close: () => timers.forEach(clearInterval),
  };
}

function describe(name, task) {
  return `${name} ${secondsSince(task.startedAt)} s: ${task.what}`;
}

function secondsSince(startedAt) {
  return Math.round((Date.now() - startedAt) / 1000);
}
