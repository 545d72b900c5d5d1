// `anneal demo`: from nothing to a served model, with what came out of it told in words and numbers.
import type { AnnealClient } from '../../client/connect.ts';
import type { RunDescription } from '../../client/description.ts';
import type { Environment } from '../../contracts/environment.ts';
import type { RunStatus } from '../../contracts/status.ts';
import { readRunningStack } from '../../dev/stack-file.ts';
import { PROJECT_FOLDER } from '../../telemetry/code-identity.ts';
import { CliError, EXIT, stackFailure } from '../failures.ts';
import { followRun } from '../follow.ts';
import { chat } from '../gateway.ts';
import { createOutput, type Output } from '../output.ts';
import { withClient } from '../session.ts';
import { stateFolder, workerEnvironment } from '../settings.ts';
import { summaryLines } from '../views/summary.ts';
import { exitCodeOfRun } from './run.ts';
import { type PortOptions, portsOf } from './stack.ts';

export interface DemoOptions extends PortOptions {
  exit?: boolean;
  json?: boolean;
}

const ABOUT = [
  'The data: sentences sampled from the production grammar of Home Assistant’s voice assistant (package',
  'home-assistant-intents, Apache-2.0). The model learns to turn a spoken command into JSON that a home can act on.',
  'A few rows are broken and doubled on purpose, so that there is something to clean. It takes a few minutes.',
];

/** Asked where the evaluation kept no example. */
const QUESTION = 'turn on the lights in the kitchen';
const ANSWER_TOKENS_MAX = 64;

export async function demo(options: DemoOptions): Promise<number> {
  const startedMs = Date.now();
  const output = createOutput({ json: options.json ?? false });
  const ownsStack = await ensureStack(options, output);
  try {
    return await withClient((client, environment) =>
      runDemo(client, environment, startedMs, output, !ownsStack || !options.exit),
    );
  } finally {
    if (ownsStack && options.exit) await stopStack(output);
  }
}

/** Whether this command started it. */
async function ensureStack(options: DemoOptions, output: Output): Promise<boolean> {
  if (readRunningStack(stateFolder()) !== null || process.env.ANNEAL_TEMPORAL_ADDRESS) return false;
  output.say('Starting Temporal, an S3 store, the workers and the gateway on this machine.');
  const { up } = await import('../../dev/commands.ts');
  const outcome = await up({
    project: PROJECT_FOLDER,
    state: stateFolder(),
    ports: portsOf(options),
    environment: workerEnvironment(),
    detach: true,
    onLine: (line) => output.say(`  ${line}`),
    onReady: (stack) => output.say(`  Temporal Web UI: ${stack.webUi}\n`),
  }).catch(stackFailure);
  return outcome === 'started';
}

async function stopStack(output: Output): Promise<void> {
  const { down } = await import('../../dev/commands.ts');
  const { stopped } = await down({ state: stateFolder() });
  output.say(`Stopped ${stopped.join(', ')}.`);
}

async function runDemo(
  client: AnnealClient,
  environment: Environment,
  startedMs: number,
  output: Output,
  stackStays: boolean,
): Promise<number> {
  for (const line of ABOUT) output.say(line);
  output.say('');
  const runId = `demo-${new Date(startedMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')}`;
  await client.startRun({}, { runId });
  const end = await followRun(client, runId, output);
  if (end === null) return EXIT.interrupted;
  output.say('');
  for (const line of summaryLines(end.status, output.width(), output.paint)) output.say(line);
  if (end.state !== 'completed') return failDemo(end);

  const question = end.status.evaluation?.examples[0]?.prompt ?? QUESTION;
  const answer = await askEndpoint(environment.ANNEAL_GATEWAY_URL, end.status, question);
  for (const line of answerLines(question, answer, end.status, output)) output.say(line);
  if (stackStays) for (const line of lookAroundLines(client, environment, end)) output.say(line);
  if (output.json) output.result(resultOfDemo(end.status, answer, (Date.now() - startedMs) / 1000));
  return EXIT.done;
}

function failDemo(end: RunDescription): never {
  const { kind, message } = end.status.failure ?? { kind: 'unexpected', message: `Run ${end.run} ended ${end.state}.` };
  throw new CliError(kind, message, exitCodeOfRun(end));
}

function askEndpoint(gateway: string, status: RunStatus, question: string): Promise<string> {
  const messages = [{ role: 'user' as const, content: question }];
  return chat({ gateway, model: status.endpoint ?? status.name, messages, maxTokens: ANSWER_TOKENS_MAX });
}

function answerLines(question: string, answer: string, status: RunStatus, { paint }: Output): string[] {
  return [
    '',
    `${paint.bold('Asked over HTTP')} (${status.endpoint})`,
    `  ${paint.cyan('»')} ${question}`,
    `  ${answer}`,
  ];
}

function lookAroundLines(client: AnnealClient, environment: Environment, { run, status }: RunDescription): string[] {
  const body = JSON.stringify({ model: status.endpoint, messages: [{ role: 'user', content: QUESTION }] });
  return [
    '',
    'Look around:',
    `  the run in Temporal   ${client.linkTo(run)}`,
    `  ask by HTTP           curl -s ${environment.ANNEAL_GATEWAY_URL}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`,
    '  talk to it            npx anneal chat',
    '  stop everything       npx anneal down',
  ];
}

function resultOfDemo(status: RunStatus, answer: string, wallSeconds: number): Record<string, unknown> {
  const { base, control, candidate } = status.evaluation ?? {};
  return {
    run: status.run,
    model: status.model,
    version: status.version,
    base: {
      n: base?.match?.n ?? null,
      correct: base?.match?.correct ?? null,
      control: control?.match?.correct ?? null,
    },
    candidate: { n: candidate?.match?.n ?? null, correct: candidate?.match?.correct ?? null },
    endpoint: status.endpoint,
    answer,
    wallSeconds: Math.round(wallSeconds * 10) / 10,
    stages: Object.fromEntries(status.stages.map(({ stage, seconds }) => [stage, seconds])),
  };
}
