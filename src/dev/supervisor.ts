// The process of a detached stack. Spawned by `anneal up --detach` with the options as JSON in its argument; tells its parent how the start goes,
// then lives on alone. A parent that leaves before the stack is ready takes the stack with it.
import { type SupervisorOptions, superviseStack } from './supervision.ts';

/** What a detached supervisor tells the process that spawned it. */
export type SupervisorMessage =
  | { event: 'line'; line: string }
  | { event: 'ready' }
  | { event: 'failed'; message: string };

async function runDetached(options: SupervisorOptions): Promise<void> {
  const tell = (message: SupervisorMessage) => {
    if (process.connected) process.send?.(message);
  };
  // Whoever asked for the stack left before it was up: nobody waits for it any more.
  const abandoned = new AbortController();
  const abandon = () => abandoned.abort();
  process.once('disconnect', abandon);
  try {
    await superviseStack(options, {
      onLine: (line) => {
        console.log(`${new Date().toISOString()} ${line}`);
        tell({ event: 'line', line });
      },
      onReady: () => {
        process.off('disconnect', abandon);
        tell({ event: 'ready' });
      },
      signal: abandoned.signal,
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(`${new Date().toISOString()} ${message}`);
    tell({ event: 'failed', message });
    process.exitCode = 1;
  }
}

await runDetached(JSON.parse(process.argv[2] ?? '{}') as SupervisorOptions);
