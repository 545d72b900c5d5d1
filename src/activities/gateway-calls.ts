// What activities ask of the gateway.
import { AnnealError } from '../contracts/failure.ts';
import type { Health } from '../serving/gateway.ts';

/** For one answer, ms: a few tokens behind a full queue. */
const ANSWER_MS_MAX = 60_000;

/** What the gateway serves; it looks for new routes by itself. An engine that starts answers 503 with the same body. */
export async function readHealth(gatewayUrl: string, signal: AbortSignal): Promise<Health> {
  const { status, text } = await callGateway(gatewayUrl, '/health', {}, signal);
  const health = parseHealth(text);
  if (health !== null) return health;
  throw new AnnealError(
    'engine_unavailable',
    `${gatewayUrl}/health answers ${status}, but not as a gateway does; correct ANNEAL_GATEWAY_URL.`,
  );
}

/** null for what another server, such as a proxy before the gateway, says. */
function parseHealth(text: string): Health | null {
  try {
    const health = JSON.parse(text) as Partial<Health> | null;
    return typeof health?.base === 'string' ? (health as Health) : null;
  } catch {
    return null;
  }
}

export async function callGateway(
  gatewayUrl: string,
  path: string,
  request: RequestInit,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
    const response = await fetch(`${gatewayUrl}${path}`, { ...request, signal: limit });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    const { cause } = error as Error;
    throw new AnnealError(
      'engine_unavailable',
      `The gateway at ${gatewayUrl} does not answer (${cause instanceof Error ? cause.message : String(error)}); start it.`,
      { cause: error },
    );
  }
}
