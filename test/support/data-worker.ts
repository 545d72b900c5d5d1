// A data worker with ranges of a few kilobytes, as a process of its own. Arguments: address of the server, working folder, and `hangs` for
// one that takes a range and never ends it. It says a line when it polls and for each range that it takes.
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createIngestActivities } from '../../src/activities/ingest.ts';
import { createPreprocessActivities } from '../../src/activities/preprocess.ts';
import { TASK_QUEUES } from '../../src/contracts/names.ts';
import type { RangeInput } from '../../src/contracts/stages.ts';
import { localParts, SMALL_RANGES } from './data-parts.ts';

Runtime.install({ logger: new DefaultLogger('ERROR') });
const [address = '', folder = '', mode] = process.argv.slice(2);
const parts = localParts(folder);
const sources = { examplesFolder: folder, readS3: async () => null };
const real = createPreprocessActivities(parts, { sources, pseudonymKey: null, limits: SMALL_RANGES });

async function cleanRange(input: RangeInput) {
  process.stdout.write(`cleans range ${input.range}\n`);
  if (mode === 'hangs') await new Promise(() => setInterval(() => undefined, 1_000));
  return await real.cleanRange(input);
}

const connection = await NativeConnection.connect({ address });
const worker = await Worker.create({
  connection,
  taskQueue: TASK_QUEUES.data,
  activities: { ...createIngestActivities(parts, sources.readS3), ...real, cleanRange },
  maxConcurrentActivityTaskExecutions: 1,
  maxHeartbeatThrottleInterval: '1s',
});
process.stdout.write('polls\n');
process.on('SIGTERM', () => worker.shutdown());
await worker.run();
await connection.close();
process.exit(0);
