// The data worker: reads, cleans and tokenises.
import { createIngestActivities } from '../activities/ingest.ts';
import { createPreprocessActivities } from '../activities/preprocess.ts';
import { TASK_QUEUES } from '../contracts/names.ts';
import { createS3Reader } from '../storage/s3-store.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

/** Runs prepared at once by one worker: the tokeniser uses every core that it finds. */
const CONCURRENT_MAX = 2;

orExit(
  startWorker('data', async ({ environment, parts }) => {
    const readS3 = createS3Reader({
      endpoint: environment.ANNEAL_S3_ENDPOINT,
      region: environment.AWS_REGION,
      accessKeyId: environment.AWS_ACCESS_KEY_ID,
      secretAccessKey: environment.AWS_SECRET_ACCESS_KEY,
    });
    return {
      taskQueue: TASK_QUEUES.data,
      activities: { ...createIngestActivities(parts, readS3), ...createPreprocessActivities(parts) },
      maxConcurrentActivityTaskExecutions: CONCURRENT_MAX,
    };
  }),
);
