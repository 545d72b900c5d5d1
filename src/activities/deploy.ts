// Stage `deploy`: publishes the route, waits until the gateway serves the version, asks it one question.
// Nothing is published that the gateway could never serve.
import { AnnealError } from '../contracts/failure.ts';
import type { Version } from '../contracts/records.ts';
import type { DeployInput, DeployResult } from '../contracts/stages.ts';
import { readVersion } from '../registry/versions.ts';
import { publishRoute } from '../serving/routes.ts';
import { callGateway, readHealth } from './gateway-calls.ts';
import type { Parts } from './parts.ts';
import { runStage, type StageContext } from './stage.ts';

/** The gateway loads an adapter in seconds; the base model of a starting gateway in a minute. After that Temporal tries again, ms. */
const LOAD_MS_MAX = 120_000;
/** Between looks, ms. */
const POLL_MS = 500;

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
        context.report({ phase: `ask ${parts.gatewayUrl} for its base model` });
        await requireBase(parts.gatewayUrl, version, context.signal);
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

/** @throws AnnealError `bad_request` when the gateway holds another base model: no waiting changes that. */
async function requireBase(gatewayUrl: string, version: Version, signal: AbortSignal): Promise<void> {
  const { base } = await readHealth(gatewayUrl, signal);
  if (base === version.base.name) return;
  throw new AnnealError(
    'bad_request',
    `The gateway at ${gatewayUrl} serves the base model ${base}, but ${version.model} version ${version.version} needs ${version.base.name}; start a gateway with ANNEAL_SERVE_BASE=${version.base.name} and resume the run.`,
  );
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
      const { endpoints, problems } = await readHealth(gatewayUrl, context.signal);
      const served = endpoints.find((entry) => entry.endpoint === endpoint);
      if (served?.digest === digest && served.loaded) return;
      said = problems.join('; ');
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
  const request = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(question),
  };
  const { status, text } = await callGateway(gatewayUrl, '/v1/chat/completions', request, signal);
  if (status === 200) return;
  throw new AnnealError('engine_unavailable', `The gateway answered ${status} for ${endpoint}: ${text.slice(0, 300)}`);
}
