// The data worker: reads, cleans and tokenises.
import { join } from 'node:path';
import { createSizeActivities } from '../activities/check-size.ts';
import { createIngestActivities } from '../activities/ingest.ts';
import { createPreprocessActivities } from '../activities/preprocess.ts';
import { webUiLink } from '../contracts/environment.ts';
import { TASK_QUEUES } from '../contracts/names.ts';
import { rangesAtOnce } from '../data/preparation/plan.ts';
import { s3AccessOf } from '../storage/s3-access.ts';
import { createS3Lister, createS3Reader } from '../storage/s3-store.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

orExit(
  startWorker('data', async ({ environment, parts }) => {
    const s3 = s3AccessOf(environment);
    const readS3 = createS3Reader(s3);
    const sources = {
      listS3: createS3Lister(s3),
      root: environment.ANNEAL_DATA_ROOT || null,
      temporaryFolder: join(parts.state, 'data'),
    };
    const gateway = environment.ANNEAL_PUBLIC_URL || environment.ANNEAL_GATEWAY_URL;
    const preparation = {
      sources: { examplesFolder: parts.examples, readS3, ...sources },
      pseudonymKey: environment.ANNEAL_PSEUDONYM_KEY || null,
      links: {
        run: (run: string) => webUiLink(environment, run),
        card: (dataset: string) => `${gateway}/datasets/${dataset}/card`,
        stopped: (run: string, card: string) => `${gateway}/runs/${encodeURIComponent(run)}/stopped/${card}/card`,
      },
    };
    return {
      taskQueue: TASK_QUEUES.data,
      activities: {
        ...createSizeActivities(parts),
        ...createIngestActivities(parts, readS3, sources),
        ...createPreprocessActivities(parts, preparation),
      },
      maxConcurrentActivityTaskExecutions: rangesAtOnce(),
    };
  }),
);
