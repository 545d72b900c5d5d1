// Records anew what `test/workflows/replay.test.ts` replays, from real runs of the tiny model on a stack of its own (about eight minutes):
// `node test/support/record-histories.ts`; with names of histories only the recordings that make them. To be run after a change of a
// workflow that runs which are under way need not survive.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { connect } from '../../src/client/connect.ts';
import { readEnvironment } from '../../src/contracts/environment.ts';
import { FREE_PORTS, startStack } from '../../src/dev/stack.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { HISTORIES, type HistoryName, type RecordedHistory, rewriteHistory, writeHistory } from './histories.ts';
import { RECORDINGS, type Recorder } from './recordings.ts';

const ROWS = 150;

/** Names of this machine and its folders, and what stands for them in the records. */
function neutral(folder: string): (text: string) => string {
  const replacements = [
    [`@${hostname()}`, '@host'],
    [folder, '/anneal'],
    [PROJECT_FOLDER, '/project'],
    [tmpdir(), '/scratch'],
  ] as const;
  return (text) => replacements.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

function wantedNames(): HistoryName[] {
  const names = Object.keys(HISTORIES) as HistoryName[];
  const given = process.argv.slice(2);
  const unknown = given.find((name) => !(names as string[]).includes(name));
  if (unknown !== undefined) throw new Error(`There is no history ${unknown}; there are ${names.join(', ')}.`);
  return given.length === 0 ? names : (given as HistoryName[]);
}

async function main(): Promise<void> {
  const wanted = wantedNames();
  const folder = await mkdtemp(join(tmpdir(), 'anneal-histories-'));
  const state = join(folder, 'state');
  const rows = Array.from({ length: ROWS }, (_, i) =>
    JSON.stringify({ question: `item ${i}: which colour?`, answer: ['red', 'green', 'blue'][i % 3] }),
  );
  await writeFile(join(folder, 'rows.jsonl'), `${rows.join('\n')}\n`);
  const stack = await startStack({
    project: PROJECT_FOLDER,
    state,
    ports: FREE_PORTS,
    environment: { ANNEAL_SERVE_BASE: 'tiny', ANNEAL_EXAMPLES: folder, ANNEAL_HOST_NAME: 'first' },
    onLine: console.log,
  });
  const environment = readEnvironment(stack.environment);
  const client = await connect(environment);
  const connection = await Connection.connect({ address: environment.ANNEAL_TEMPORAL_ADDRESS });
  const temporal = new Client({ connection });
  try {
    const write = async (name: HistoryName, workflowId: string, runId?: string) => {
      const history = await temporal.workflow.getHandle(workflowId, runId).fetchHistory();
      writeHistory(name, rewriteHistory(JSON.parse(historyToJSON(history)) as RecordedHistory, neutral(folder)));
      console.log(`recorded ${name}`);
    };
    const recorder: Recorder = { stack, folder, state, client, temporal, write };
    for (const { makes, record } of RECORDINGS) {
      if (makes.some((name) => wanted.includes(name))) await record(recorder);
    }
  } finally {
    await connection.close();
    await client.close();
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
