// What the processes of a stack are told: the ports that they open and the variables that they read.
import { existsSync } from 'node:fs';
import { AnnealError } from '../contracts/failure.ts';
import type { StoreAccess } from './object-server.ts';
import type { PortName, StackPorts } from './ports.ts';
import { locateProject, type PartName } from './stack-layout.ts';

export function requireBinaries(project: string): void {
  const { temporal, weed } = locateProject(project);
  const missing = [temporal, weed].filter((path) => !existsSync(path));
  if (missing.length === 0) return;
  throw new AnnealError(
    'bad_request',
    `${missing.join(' and ')} not found; run \`npx anneal doctor\` in ${project} to set it up.`,
  );
}

export function portsOf(names: readonly PartName[]): PortName[] {
  const byPart: Partial<Record<PartName, PortName[]>> = {
    temporal: ['temporal', 'webUi'],
    store: ['store'],
    gateway: ['gateway'],
  };
  return names.flatMap((name) => byPart[name] ?? []);
}

interface StackPlaces {
  project: string;
  state: string;
}

export function describeEnvironment(
  options: StackPlaces,
  ports: StackPorts,
  access: StoreAccess,
): Record<string, string> {
  const { python, models, examples } = locateProject(options.project);
  return {
    ANNEAL_STATE: options.state,
    ANNEAL_TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
    ANNEAL_TEMPORAL_NAMESPACE: 'default',
    ANNEAL_WEB_UI: `http://127.0.0.1:${ports.webUi}`,
    ANNEAL_STORE: 's3',
    ANNEAL_S3_ENDPOINT: access.endpoint,
    ANNEAL_S3_BUCKET: access.bucket,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: access.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: access.credentials.secretAccessKey,
    ANNEAL_PYTHON: python,
    ANNEAL_MODELS: models,
    ANNEAL_EXAMPLES: examples,
    ANNEAL_GATEWAY_HOST: '127.0.0.1',
    ANNEAL_GATEWAY_PORT: String(ports.gateway),
    ANNEAL_GATEWAY_URL: `http://127.0.0.1:${ports.gateway}`,
  };
}
