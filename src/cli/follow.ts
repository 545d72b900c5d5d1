// Following a run until its end: redrawn in place on a terminal, as lines of a log elsewhere, as NDJSON for programs.
import type { AnnealClient } from '../client/connect.ts';
import { isOpen, type RunDescription } from '../client/description.ts';
import type { Output } from './output.ts';
import { createLiveBlock } from './terminal.ts';
import { runLines, runLogLine, stageChangeLines } from './views/run.ts';

interface Viewer {
  show(description: RunDescription): void;
  end(): void;
}

/** At most one line of progress in this time, ms; changes of a stage are told at once. */
const LINE_INTERVAL_MS = 5_000;

/**
 * The run's end, or null when the person pressed Ctrl-C: the run goes on then. A run that waits for a budget counts as ended.
 * @param ndjson each change as one JSON object on standard output
 * @param keepWaiting for somebody to give it more
 */
export async function followRun(
  client: AnnealClient,
  run: string,
  output: Output,
  options: { ndjson?: boolean; keepWaiting?: boolean } = {},
): Promise<RunDescription | null> {
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once('SIGINT', onInterrupt);
  const viewer = chooseViewer(client.linkTo(run), output, options.ndjson ?? false);
  let last: RunDescription | null = null;
  try {
    for await (const description of client.watchRun(run, { signal: interrupt.signal })) {
      last = description;
      viewer.show(description);
      if (isOutOfBudget(description) && !options.keepWaiting) break;
    }
    return last;
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    return null;
  } finally {
    viewer.end();
    process.off('SIGINT', onInterrupt);
    if (interrupt.signal.aborted) output.say(`Run ${run} goes on; come back with \`anneal watch ${run}\`.`);
  }
}

/** Paused by its budget: only people can let it go on. */
export function isOutOfBudget({ state, status }: RunDescription): boolean {
  return state === 'paused' && status.paused?.kind === 'budget_reached';
}

/** What to do about that, as one sentence. */
export function outOfBudgetLine({ run, status: { paused } }: RunDescription): string {
  const where = `Run ${run} waits after step ${paused?.step ?? 0}, saved and off the GPU: ${paused?.why ?? ''}`;
  return `${where} Or \`anneal resume ${run} --wait\` with the same flags gives more and follows it.`;
}

function chooseViewer(webUi: string, output: Output, ndjson: boolean): Viewer {
  if (ndjson) return createNdjsonViewer(output);
  return output.isTerminal ? createLiveViewer(webUi, output) : createLineViewer(output);
}

function createLiveViewer(webUi: string, output: Output): Viewer {
  const block = createLiveBlock(output.stream);
  return {
    show(description) {
      block.draw(runLines({ description, nowMs: Date.now(), webUi }, output.width(), output.paint));
    },
    end: () => block.end(),
  };
}

function createLineViewer(output: Output): Viewer {
  let before: RunDescription | null = null;
  let lastLine = '';
  let lastAt = 0;
  const write = (line: string) => output.say(`${new Date().toISOString().slice(11, 19)} ${line}`);
  return {
    show(description) {
      for (const line of stageChangeLines(before?.status.stages ?? [], description.status.stages)) write(line);
      before = description;
      const line = runLogLine(description);
      const isEnd = !isOpen(description.state);
      if (line === null || line === lastLine || (!isEnd && Date.now() - lastAt < LINE_INTERVAL_MS)) return;
      lastLine = line;
      lastAt = Date.now();
      write(line);
    },
    end() {},
  };
}

function createNdjsonViewer(output: Output): Viewer {
  let last = '';
  return {
    show(description) {
      const text = JSON.stringify(description);
      if (text === last) return;
      last = text;
      output.result({ t: new Date().toISOString(), ...description });
    },
    end() {},
  };
}
