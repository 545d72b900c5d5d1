// The environment variables that processes read, with their defaults. Read in workers, cli and dev only.
import { z } from 'zod';
import { AnnealError } from './failure.ts';

const Port = z.coerce.number().int().min(1).max(65535);

export const EnvironmentSchema = z.object({
  /** Folder of state and working files of this host. */
  ANNEAL_STATE: z.string().default('.anneal'),
  ANNEAL_TEMPORAL_ADDRESS: z.string().default('127.0.0.1:7233'),
  ANNEAL_TEMPORAL_NAMESPACE: z.string().default('default'),
  /** For links in summaries. */
  ANNEAL_WEB_UI: z.string().default('http://127.0.0.1:8233'),
  /** `s3` or `file`; `file` keeps objects under `<state>/store`. */
  ANNEAL_STORE: z.enum(['s3', 'file']).default('s3'),
  /** Empty = the endpoint of AWS. */
  ANNEAL_S3_ENDPOINT: z.string().default('http://127.0.0.1:8333'),
  ANNEAL_S3_BUCKET: z.string().default('anneal'),
  AWS_REGION: z.string().default('us-east-1'),
  AWS_ACCESS_KEY_ID: z.string().optional(),
  AWS_SECRET_ACCESS_KEY: z.string().optional(),
  /** Python with `anneal_trainer`'s requirements. */
  ANNEAL_PYTHON: z.string().default('python3'),
  /** Folder that holds base models by name. */
  ANNEAL_MODELS: z.string().default('.anneal/models'),
  /** Folder that `example:` sources are read from. */
  ANNEAL_EXAMPLES: z.string().default('.anneal/examples'),
  /** Folder that files named as sources must lie in, links followed; empty = anywhere. */
  ANNEAL_DATA_ROOT: z.string().default(''),
  ANNEAL_GATEWAY_HOST: z.string().default('127.0.0.1'),
  ANNEAL_GATEWAY_PORT: Port.default(8080),
  /** Where others reach the gateway. */
  ANNEAL_GATEWAY_URL: z.string().default('http://127.0.0.1:8080'),
  /** Where people's browsers reach the gateway; empty = `ANNEAL_GATEWAY_URL`. */
  ANNEAL_PUBLIC_URL: z.string().default(''),
  /** The base model that the gateway's engine holds. */
  ANNEAL_SERVE_BASE: z.string().default('smollm2-135m'),
  /** Of a GPU worker, unique among all; empty = the machine's own name. */
  ANNEAL_HOST_NAME: z
    .string()
    .regex(/^[\w.-]{0,200}$/, 'must be at most 200 letters, digits, dots, hyphens or underscores')
    .default(''),
  /** Where the other hosts of a gang reach this one. Whoever reaches it may join a gang: a network of one's own. */
  ANNEAL_HOST_ADDRESS: z.string().default('127.0.0.1'),
  /** Where the first host of a gang listens for the others; 0 = any free port. */
  ANNEAL_GANG_PORT: z.coerce.number().int().min(0).max(65535).default(0),
  /** GPUs that the pool may count on; empty = those that the driver shows. */
  ANNEAL_HOST_GPUS: z.coerce.number().int().min(0).max(64).optional(),
  /** Only hosts with the same labels train together, such as `gpu=h100,rack=3`. */
  ANNEAL_HOST_LABELS: z.string().max(200).default(''),
  /** Of a data worker: the project's secret from which pseudonyms are made; the same key gives the same pseudonyms. */
  ANNEAL_PSEUDONYM_KEY: z.string().optional(),
  /** What an hour of a GPU costs; empty = `prices.yaml` in the state folder. `examples/prices.yaml` shows its form. */
  ANNEAL_PRICES: z.string().default(''),
  ANNEAL_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});
export type Environment = z.infer<typeof EnvironmentSchema>;

/** Page of a run in Temporal's Web UI. */
export function webUiLink(
  environment: Pick<Environment, 'ANNEAL_TEMPORAL_NAMESPACE' | 'ANNEAL_WEB_UI'>,
  run: string,
): string {
  const { ANNEAL_WEB_UI: webUi, ANNEAL_TEMPORAL_NAMESPACE: namespace } = environment;
  return `${webUi.replace(/\/$/, '')}/namespaces/${namespace}/workflows/${encodeURIComponent(run)}`;
}

/** @throws AnnealError `bad_request` with every bad variable at once. */
export function readEnvironment(env: Record<string, string | undefined>): Environment {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = EnvironmentSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => {
    const name = String(path[0]);
    return { path: name, message: `is ${JSON.stringify(given[name])}, ${message.replace(/^Invalid \w+: /, '')}` };
  });
  const sentences = problems.map(({ path, message }) => `${path} ${message}`);
  throw new AnnealError('bad_request', `The environment is wrong: ${sentences.join('; ')}. Correct it.`, { problems });
}
