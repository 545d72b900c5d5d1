// Whether a running stack does its work: servers answer, workers poll, and no workflow is stuck in its own code.
import { Client, Connection } from '@temporalio/client';
import { TASK_QUEUES } from '../contracts/names.ts';
import { isAlive } from '../trainer/process-identity.ts';
import { type Check, finding } from './check.ts';
import { acceptsConditionalPut } from './object-server.ts';
import type { StackFile } from './stack.ts';
import { locateState, type PartName } from './stack-layout.ts';
import { answersForNamespace } from './temporal-server.ts';

const RPC_TIMEOUT_MS = 5_000;

/** A gateway that takes longer to say how it is serves nobody. */
const GATEWAY_TIMEOUT_MS = 3_000;

/** A worker that has not polled for this long is gone: polls last a minute. */
const POLLER_AGE_MS_MAX = 120_000;

/** Stuck workflows that are named; more have the same cause. */
const STUCK_NAMED_MAX = 5;

export async function checkRunningStack(stack: StackFile): Promise<Check[]> {
  const temporalAnswers = await answersForNamespace(stack.ports.webUi);
  const groups = await Promise.all([
    [finding('temporal', temporalAnswers, stack.webUi, lookAtLog(stack, 'temporal'))],
    [await checkStore(stack)],
    'gateway' in stack.parts ? [await checkGateway(stack)] : [],
    checkParts(stack),
    temporalAnswers ? await checkWork(stack) : [],
  ]);
  return groups.flat();
}

async function checkStore(stack: StackFile): Promise<Check> {
  const {
    ANNEAL_S3_ENDPOINT = '',
    ANNEAL_S3_BUCKET = '',
    AWS_ACCESS_KEY_ID = '',
    AWS_SECRET_ACCESS_KEY = '',
  } = stack.environment;
  const ok = await acceptsConditionalPut({
    endpoint: ANNEAL_S3_ENDPOINT,
    bucket: ANNEAL_S3_BUCKET,
    credentials: { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY },
  });
  const found = ok
    ? `${ANNEAL_S3_ENDPOINT} creates if absent`
    : `${ANNEAL_S3_ENDPOINT} does not take a conditional put`;
  return finding('store', ok, found, lookAtLog(stack, 'store'));
}

async function checkGateway(stack: StackFile): Promise<Check> {
  const answer = await fetch(`${stack.gateway}/health`, { signal: AbortSignal.timeout(GATEWAY_TIMEOUT_MS) }).catch(
    () => null,
  );
  const ok = answer !== null && answer.status < 500;
  const found = answer === null ? `${stack.gateway} does not answer` : `${stack.gateway} answers ${answer.status}`;
  return finding('gateway', ok, found, lookAtLog(stack, 'gateway'));
}

function checkParts(stack: StackFile): Check[] {
  return (Object.keys(stack.parts) as PartName[]).map((name) => {
    const identity = stack.parts[name];
    const ok = identity !== null && identity !== undefined && isAlive(identity);
    return finding(`process ${name}`, ok, ok ? `pid ${identity.pid}` : 'not running', lookAtLog(stack, name));
  });
}

async function checkWork(stack: StackFile): Promise<Check[]> {
  const { ANNEAL_TEMPORAL_ADDRESS: address = '', ANNEAL_TEMPORAL_NAMESPACE: namespace = 'default' } = stack.environment;
  const connection = await Connection.connect({ address, connectTimeout: RPC_TIMEOUT_MS });
  try {
    const client = new Client({ connection, namespace });
    return await connection.withDeadline(Date.now() + RPC_TIMEOUT_MS, async () => [
      ...(await checkPollers(stack, client)),
      await checkStuckWorkflows(client, stack),
    ]);
  } finally {
    await connection.close();
  }
}

async function checkPollers(stack: StackFile, client: Client): Promise<Check[]> {
  const queues = Object.entries(TASK_QUEUES).filter(([part]) => part in stack.parts);
  return await Promise.all(
    queues.map(async ([part, queue]) => {
      // Type 1 = workflow tasks, 2 = activity tasks; every worker of the product polls for activities.
      const { pollers } = await client.workflowService.describeTaskQueue({
        namespace: client.options.namespace,
        taskQueue: { name: queue },
        taskQueueType: 2,
      });
      const fresh = (pollers ?? []).filter(({ lastAccessTime }) => {
        return Date.now() - Number(lastAccessTime?.seconds ?? 0) * 1000 < POLLER_AGE_MS_MAX;
      });
      const found = fresh.length === 0 ? `nobody polls ${queue}` : `${fresh.length} polling ${queue}`;
      return finding(`queue ${part}`, fresh.length > 0, found, lookAtLog(stack, part as PartName));
    }),
  );
}

/** A workflow whose own code throws is tried for ever; the server marks it after a few tries. */
async function checkStuckWorkflows(client: Client, stack: StackFile): Promise<Check> {
  const query = "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL";
  const stuck: string[] = [];
  for await (const { workflowId } of client.workflow.list({ query })) {
    if (stuck.length === STUCK_NAMED_MAX) break;
    stuck.push(workflowId);
  }
  const found = stuck.length === 0 ? 'none' : stuck.join(', ');
  const remedy = `Read ${logOf(stack, 'control')}; mend the code, or terminate them in the Web UI (${stack.webUi}).`;
  return finding('stuck workflows', stuck.length === 0, found, remedy);
}

function lookAtLog(stack: StackFile, part: PartName): string {
  return `Read ${logOf(stack, part)}; \`anneal down\`, then \`anneal up\`.`;
}

function logOf(stack: StackFile, part: PartName): string {
  return `${locateState(stack.environment.ANNEAL_STATE ?? '.anneal').logFolder}/${part}.log`;
}
