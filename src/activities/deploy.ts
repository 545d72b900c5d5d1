// Stage `deploy`: publishes the route, waits until the gateway serves the version, asks it one question.
import { AnnealError } from '../contracts/failure.ts';
import type { DeployInput, DeployResult } from '../contracts/stages.ts';
import { readVersion } from '../registry/versions.ts';
import { publishRoute } from '../serving/routes.ts';
import type { Parts } from './parts.ts';
import { runStage, type StageContext } from './stage.ts';

/** The gateway loads an adapter in seconds; the base model of a starting gateway in a minute. After that Temporal tries again, ms. */
const LOAD_MS_MAX = 120_000;
/** Between looks, ms. */
const POLL_MS = 500;

interface SyncAnswer {
  endpoints: { endpoint: string; model: string; version: number; digest: string; loaded: boolean }[];
  problems: string[];
}

export function createDeployActivities(parts: Parts) {
  return {
    async deploy({ spec, model, version: number }: DeployInput): Promise<DeployResult> {
      return await runStage('deploy', async (context) => {
        const endpoint = spec.deploy.endpoint ?? spec.name;
        const version = await readVersion(parts.store, model, number);
        if (version === null)
          throw new AnnealError(
            'bad_request',
            `Version ${number} of ${model} is not in the registry; register it first.`,
          );
        context.report({ phase: `publish the route of ${endpoint}` });
        await publishRoute(parts.store, {
          endpoint,
          model,
          version: number,
          digest: version.digest,
          base: version.base.name,
          files: version.files,
          system: version.data.system,
        });
        await waitUntilServed(parts.gatewayUrl, endpoint, version.digest, context);
        await askOnce(parts.gatewayUrl, endpoint, context.signal);
        return {
          endpoint,
          url: `${parts.gatewayUrl}/v1`,
          outcome: `${endpoint} serves ${model} version ${number} at ${parts.gatewayUrl}/v1`,
        };
      });
    },
  };
}

async function waitUntilServed(
  gatewayUrl: string,
  endpoint: string,
  digest: string,
  context: StageContext,
): Promise<void> {
  const deadline = Date.now() + LOAD_MS_MAX;
  let said = '';
  while (Date.now() < deadline) {
    context.signal.throwIfAborted();
    context.report({ phase: `wait for ${gatewayUrl} to load it`, ...(said === '' ? {} : { waitingFor: said }) });
    try {
      const answer = (await callGateway(gatewayUrl, '/-/sync', {}, context.signal)) as SyncAnswer;
      const served = answer.endpoints.find((entry) => entry.endpoint === endpoint);
      if (served?.digest === digest && served.loaded) return;
      said = answer.problems.join('; ');
    } catch (error) {
      said = error instanceof Error ? error.message : String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new AnnealError(
    'engine_unavailable',
    `The gateway at ${gatewayUrl} did not load ${endpoint} in ${LOAD_MS_MAX / 1000} s (${said || 'no reason given'}); look at its log.`,
  );
}

/** A version counts as deployed when it has answered. */
async function askOnce(gatewayUrl: string, endpoint: string, signal: AbortSignal): Promise<void> {
  const question = { model: endpoint, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4, temperature: 0 };
  await callGateway(gatewayUrl, '/v1/chat/completions', question, signal);
}

async function callGateway(gatewayUrl: string, path: string, body: object, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(`${gatewayUrl}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.any([signal, AbortSignal.timeout(60_000)]),
  }).catch((error: unknown) => {
    const cause = (error as Error).cause;
    throw new AnnealError(
      'engine_unavailable',
      `The gateway at ${gatewayUrl} does not answer (${cause instanceof Error ? cause.message : String(error)}); start it.`,
      { cause: error },
    );
  });
  const text = await response.text();
  if (!response.ok)
    throw new AnnealError(
      'engine_unavailable',
      `The gateway answered ${response.status} to ${path}: ${text.slice(0, 300)}`,
    );
  return JSON.parse(text);
}
