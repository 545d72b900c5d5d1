// `anneal drill --matrix`: runs the exactness matrix and shows it as it grows.
import { locateLocal } from '../drill/local.ts';
import { isPassed, type MatrixReport, runMatrix } from '../drill/matrix.ts';
import { CELL_NAMES } from '../drill/matrix-cells.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { createLiveBlock } from '../terminal.ts';
import { matrixLines } from '../views/matrix.ts';

export interface MatrixCommandOptions {
  cell?: string[];
  kills: number;
  seed: number;
  json?: boolean;
}

export async function matrix({ cell = [], kills, seed, json }: MatrixCommandOptions): Promise<number> {
  const unknown = cell.filter((name) => !CELL_NAMES.includes(name));
  if (unknown.length > 0) {
    throw new CliError(
      'usage',
      `\`--cell\` ${unknown.join(', ')} is not a cell of the matrix; known are ${CELL_NAMES.join(', ')}.`,
      EXIT.usage,
    );
  }
  const output = createOutput({ json: json ?? false });
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort(new CliError('interrupted', 'The drill was interrupted.', EXIT.interrupted));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const view = createView(output);
  try {
    const { signal } = interrupt;
    const report = await runMatrix({ ...locateLocal(), cells: cell, kills, seed, signal, onProgress: view.draw });
    if (output.json) output.result(withoutTimes(report));
    return isPassed(report) ? EXIT.done : EXIT.failed;
  } finally {
    view.end();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

interface View {
  draw(report: MatrixReport, running: string): void;
  end(): void;
}

/** On a terminal one table that grows; elsewhere a line as each begins, and the table at the end. */
function createView(output: Output): View {
  const block = output.isTerminal ? createLiveBlock(output.stream) : null;
  return {
    draw(report, running) {
      const lines = matrixLines(report, running, output.paint);
      if (block !== null) block.draw(lines);
      else if (running === '') for (const line of lines) output.say(line);
      else output.say(lines.at(-1) as string);
    },
    end: () => block?.end(),
  };
}

function withoutTimes({ cells, ...report }: MatrixReport) {
  return { ...report, cells: cells.map(({ seconds: _seconds, ...cell }) => cell) };
}
