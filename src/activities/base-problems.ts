// What a run cannot do with its base model, or with the version that it continues, found before anything is copied, cleaned or trained.
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Version } from '../contracts/records.ts';
import type { Spec } from '../contracts/spec.ts';
import { readModelShape } from '../plan/model-shape.ts';
import { targetProblems } from '../plan/targets.ts';
import { parentProblems } from '../registry/parent.ts';
import { findBaseModel, openBaseModel } from '../trainer/base-model.ts';
import { visionProblems } from '../trainer/vision.ts';
import { readHealth } from './gateway-calls.ts';
import type { Parts } from './parts.ts';

/** A gateway that is not there yet may be by the time the model is, ms. */
const HEALTH_MS_MAX = 5_000;

/** @throws AnnealError `bad_request` with every problem at once. */
export async function requireUsableBase(
  parts: Parts,
  spec: Spec,
  parent: Version | null,
  signal: AbortSignal,
): Promise<void> {
  const folder = await findBaseModel(spec.model.base, parts.models);
  const problems = [
    ...(await visionProblems(folder, spec)),
    ...targetProblems(await readModelShape(folder), spec.train),
    ...(parent === null
      ? []
      : parentProblems(parent, spec.train, (await openBaseModel(spec.model.base, parts.models)).digest)),
    ...(await gatewayProblems(parts.gatewayUrl, spec, signal)),
  ];
  if (problems.length === 0) return;
  const lines = problems.map(({ path, message }) => `\`${path}\` ${message}`);
  throw new AnnealError('bad_request', `${lines.join('; ')}.`, { problems });
}

/** A gateway serves adapters of one base model; one that does not answer is no problem yet. */
export async function gatewayProblems(
  gatewayUrl: string,
  { until, model }: Spec,
  signal: AbortSignal,
): Promise<Problem[]> {
  if (until !== 'deploy') return [];
  const limit = AbortSignal.any([signal, AbortSignal.timeout(HEALTH_MS_MAX)]);
  const health = await readHealth(gatewayUrl, limit).catch(() => null);
  signal.throwIfAborted();
  if (health === null || health.base === model.base) return [];
  const serves = `the gateway at ${gatewayUrl} serves adapters of ${health.base}`;
  const remedy = `start it with ANNEAL_SERVE_BASE=${model.base}, or set \`until: register\``;
  return [{ path: 'model.base', message: `is ${model.base}, but ${serves}; ${remedy}` }];
}
