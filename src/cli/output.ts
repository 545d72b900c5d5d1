// Where a command writes: results on standard output, everything else on standard error when programs read (`--json`).
import { createPaint, type Paint } from './views/format.ts';

export interface Output {
  json: boolean;
  /** A line for people. */
  say(line: string): void;
  /** The one JSON object that a program reads, or a line of them. */
  result(value: unknown): void;
  /** Where lines for people go. */
  stream: NodeJS.WriteStream;
  paint: Paint;
  isTerminal: boolean;
  /** Columns. */
  width(): number;
  /** Rows. */
  height(): number;
}

/** Columns where the terminal does not say. */
const WIDTH_DEFAULT = 100;
const HEIGHT_DEFAULT = 40;

export function createOutput(options: { json?: boolean; toStderr?: boolean }): Output {
  const json = options.json ?? false;
  const stream = json || options.toStderr ? process.stderr : process.stdout;
  const isTerminal = stream.isTTY === true && process.env.TERM !== 'dumb';
  return {
    json,
    stream,
    isTerminal,
    paint: createPaint(isTerminal && !process.env.NO_COLOR),
    say: (line) => void stream.write(`${line}\n`),
    result: (value) => void process.stdout.write(`${JSON.stringify(value)}\n`),
    width: () => stream.columns ?? WIDTH_DEFAULT,
    height: () => stream.rows ?? HEIGHT_DEFAULT,
  };
}
