// What the serving tests stand on: the tiny base model, adapters with random weights, a real gateway over the real engine.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import OpenAI from 'openai';
import type { Route } from '../../src/contracts/records.ts';
import { createEmbeddedEngine } from '../../src/serving/embedded-engine.ts';
import type { Engine } from '../../src/serving/engine.ts';
import { createGateway } from '../../src/serving/gateway.ts';
import { createRoutes, publishRoute, type Routes } from '../../src/serving/routes.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { createLog, type Log } from '../../src/telemetry/log.ts';

export const MODELS = join(PROJECT_FOLDER, '.anneal', 'models');
export const PYTHON = join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python');
export const BASE = 'tiny';
/** Rows of the test engine's batch, and answers that may wait. */
export const BATCH_MAX = 3;
export const WAITING_MAX = 1;

export function scratchFolder(): string {
  return mkdtempSync(join(tmpdir(), 'anneal-serving-'));
}

/** A LoRA adapter of the tiny model on `down_proj`; other seeds give other answers. Rank 4, weights large enough to be heard. */
export function writeAdapter(folder: string, seed: number): string {
  const tensors: Record<string, number[]> = {};
  for (const layer of [0, 1]) {
    const name = `base_model.model.model.layers.${layer}.mlp.down_proj`;
    tensors[`${name}.lora_A.weight`] = [4, 128];
    tensors[`${name}.lora_B.weight`] = [64, 4];
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'adapter_model.safetensors'), safetensors(tensors, seed));
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: 4, lora_alpha: 8, target_modules: ['down_proj'] };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
  return folder;
}

function safetensors(shapes: Record<string, number[]>, seed: number): Buffer {
  let offset = 0;
  const header: Record<string, object> = {};
  for (const [name, shape] of Object.entries(shapes)) {
    const end = offset + 4 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  let state = seed;
  const weights = Float32Array.from({ length: offset / 4 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator
    return state / 2 ** 31 - 1;
  });
  return Buffer.concat([length, json, Buffer.from(weights.buffer)]);
}

/** Publishes version `version` of the endpoint, with the adapter in `folder`. */
export async function publishVersion(
  store: ObjectStore,
  folder: string,
  version: number,
  over: Partial<Route> = {},
): Promise<Route> {
  const files = await putFolder(store, folder);
  const route = { endpoint: 'banking', model: 'intents', version, digest: files.digest, base: BASE, files };
  return await publishRoute(store, { ...route, system: null, ...over });
}

export interface Running {
  engine: Engine;
  routes: Routes;
  app: FastifyInstance;
  url: string;
  client: OpenAI;
  /** Pids of the engines that became ready, in order. */
  pids: number[];
  close(): Promise<void>;
}

export async function startGateway(store: ObjectStore, state: string): Promise<Running> {
  const pids: number[] = [];
  const quiet = createLog('gateway', 'error');
  const log: Log = {
    ...quiet,
    // The death of an engine is what a test may want.
    error: () => undefined,
    info: (message, fields) => void (message === 'engine ready' && pids.push(fields?.pid as number)),
  };
  const folder = join(state, 'gateway');
  const engine = createEmbeddedEngine({
    python: {
      executable: PYTHON,
      packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
      environment: { PATH: process.env.PATH ?? '' },
    },
    job: {
      v: 1,
      command: 'serve',
      baseModel: join(MODELS, BASE),
      threads: 1,
      maxBatch: BATCH_MAX,
      maxLength: 4096,
    },
    folder: join(folder, 'engine'),
    waitingMax: WAITING_MAX,
    log,
  });
  const routes = createRoutes({ store, engine, base: BASE, folder, log });
  const app = createGateway({ engine, routes, store, base: BASE, lengthMax: 4096, log });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  await engine.ready();
  await routes.restore();
  await routes.sync();
  return {
    engine,
    routes,
    app,
    url,
    client: clientOf(url),
    pids,
    async close() {
      await engine.close();
      await app.close();
    },
  };
}

export function clientOf(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 50_000 });
}
