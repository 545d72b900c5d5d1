// Which version each endpoint serves: the newest routing document of the store, once its adapter answers.
// The last routes that worked are kept on disk and served when the store is gone. Nothing here decides what to serve.
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { z } from 'zod';
import { AnnealError } from '../contracts/failure.ts';
import { type Route, RouteSchema } from '../contracts/records.ts';
import { fileSetOf, getFolder } from '../storage/file-set.ts';
import { keyNumber, keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createNext, readJson } from '../storage/record.ts';
import type { Log } from '../telemetry/log.ts';
import { type Engine, engineUnavailable } from './engine.ts';

export interface RoutesConfig {
  store: ObjectStore;
  engine: Engine;
  /** Name of the base model that the engine holds; routes of another are refused. */
  base: string;
  /** Folder for `versions/<digest>/` and `routes.json`. */
  folder: string;
  log: Log;
}

export interface Routes {
  /** What the endpoint serves now, or null. */
  find(endpoint: string): Route | null;
  list(): Route[];
  /** Serves the routes that were served before the restart. Needs no store. */
  restore(): Promise<void>;
  /** Looks for newer routes and switches to those that load. Never throws; calls at once share one look. */
  sync(): Promise<void>;
  /** Sentences of the last look: what keeps an endpoint from its newest route. */
  problems(): string[];
}

/** Versions kept on disk beyond those that are served, so that a rollback needs no download. */
const SPARE_VERSIONS_MAX = 4;

/** Pause before a load that took the engine down is tried again, ms: the other endpoints have to be served in between. */
const DEADLY_LOAD_PAUSE_MS = 30_000;

/** Immutable name of a version's adapter. */
export function adapterName(route: Pick<Route, 'model' | 'version'>): string {
  return `${route.model}--v${route.version}`;
}

export function createRoutes(config: RoutesConfig): Routes {
  const { store, engine, log } = config;
  const served = new Map<string, Route>();
  const retryAtMs = new Map<string, number>();
  const memory = join(config.folder, 'routes.json');
  let lastProblems: string[] = [];
  let last: Promise<void> = Promise.resolve();
  let next: Promise<void> | null = null;

  /** Loads the new adapter, switches, lets the old one drain. Until the switch the endpoint serves as before. */
  const serve = async (route: Route) => {
    await engine.load(adapterName(route), await fetchVersion(route));
    const before = served.get(route.endpoint);
    served.set(route.endpoint, route);
    const from = before === undefined ? null : adapterName(before);
    if (from !== adapterName(route))
      log.info('route switched', { endpoint: route.endpoint, from, to: adapterName(route) });
    if (from !== null) unloadUnused(from);
    await writeAtomically(memory, JSON.stringify([...served.values()], null, 2));
  };

  const unloadUnused = (adapter: string) => {
    if ([...served.values()].some((route) => adapterName(route) === adapter)) return;
    engine
      .unload(adapter)
      .catch((error: unknown) => log.error('adapter not unloaded', { adapter, error: String(error) }));
  };

  /** Returns the folder of the version's adapter, downloading what is not there. Every byte is verified. */
  const fetchVersion = async (route: Route): Promise<string> => {
    requireServable(route, config.base);
    const folder = join(config.folder, 'versions', route.digest);
    await getFolder(store, route.files, folder);
    const entry = route.files.files.find((file) => posix.basename(file.path) === 'adapter_config.json');
    return join(folder, posix.dirname(entry?.path ?? ''));
  };

  /** A load that took the engine down is not repeated at once. */
  const tryToServe = async (route: Route) => {
    const adapter = adapterName(route);
    if (!engine.isReady()) throw engineUnavailable('it is starting.');
    if (Date.now() < (retryAtMs.get(adapter) ?? 0)) throw engineUnavailable(`it died while it loaded ${adapter}.`);
    try {
      await serve(route);
    } catch (error) {
      if (!engine.isReady()) retryAtMs.set(adapter, Date.now() + DEADLY_LOAD_PAUSE_MS);
      throw error;
    }
  };

  const bringUp = async (route: Route, problems: string[]) => {
    await tryToServe(route).catch((error: unknown) => {
      problems.push(`Endpoint ${route.endpoint} does not serve ${adapterName(route)}: ${messageOf(error)}`);
    });
  };

  /** Once, not at every look. */
  const logNews = (problems: string[]) => {
    if (problems.join() !== lastProblems.join()) {
      if (problems.length > 0) log.error('routes are not up to date', { problems });
      else log.info('routes are up to date again');
    }
    lastProblems = problems;
  };

  const look = async () => {
    const problems: string[] = [];
    for (const [endpoint, number] of await newestNumbers(store, problems)) {
      if (number <= (served.get(endpoint)?.number ?? 0)) continue;
      const route = await readRoute(store, endpoint, number, problems);
      if (route !== null) await bringUp(route, problems);
    }
    for (const route of served.values()) if (!engine.holds(adapterName(route))) await bringUp(route, problems);
    logNews(problems);
    await pruneVersions(join(config.folder, 'versions'), [...served.values()]).catch((error: unknown) =>
      log.warn('old versions not removed', { error: messageOf(error) }),
    );
  };

  return {
    find: (endpoint) => served.get(endpoint) ?? null,
    list: () => [...served.values()],
    problems: () => lastProblems,

    async restore() {
      const text = await readFile(memory, 'utf8').catch(() => null);
      const known = text === null ? [] : parseRoutes(text);
      if (known === null) log.error('remembered routes are not readable; waiting for the store', { file: memory });
      const problems: string[] = [];
      for (const route of known ?? []) await bringUp(route, problems);
      logNews(problems);
    },

    sync() {
      next ??= last.then(() => {
        next = null;
        return look();
      });
      last = next;
      return next;
    },
  };
}

/**
 * Makes the endpoint's newest route name this version. Nothing is written when it does already.
 * Racing publishers are ordered by their numbers; the last one counts.
 */
export async function publishRoute(
  store: ObjectStore,
  draft: Omit<Route, 'number' | 'writeId' | 'at'>,
): Promise<Route> {
  const route = { ...draft, at: new Date().toISOString(), writeId: randomUUID() };
  const numbers = (await store.list(keys.routes(route.endpoint))).map(keyNumber).filter((n) => n !== null);
  const newest = Math.max(0, ...numbers);
  const current = newest === 0 ? null : await readJson(store, keys.route(route.endpoint, newest), RouteSchema);
  if (current?.digest === route.digest && adapterName(current) === adapterName(route)) return current;
  const build = async (number: number) => ({
    key: keys.route(route.endpoint, number),
    value: { ...route, number },
  });
  return await createNext(build, store, newest + 1);
}

/** Newest number of each endpoint; empty, with a problem, when the store does not answer. */
async function newestNumbers(store: ObjectStore, problems: string[]): Promise<Map<string, number>> {
  const newest = new Map<string, number>();
  try {
    for (const key of await store.list(keys.endpoints())) {
      const endpoint = /^endpoints\/([^/]+)\/routes\//.exec(key)?.[1];
      const number = keyNumber(key);
      if (endpoint === undefined || number === null) continue;
      newest.set(endpoint, Math.max(number, newest.get(endpoint) ?? 0));
    }
  } catch (error) {
    problems.push(messageOf(error));
  }
  return newest;
}

async function readRoute(
  store: ObjectStore,
  endpoint: string,
  number: number,
  problems: string[],
): Promise<Route | null> {
  try {
    return await readJson(store, keys.route(endpoint, number), RouteSchema);
  } catch (error) {
    problems.push(`Endpoint ${endpoint}: ${messageOf(error)}`);
    return null;
  }
}

/** @throws AnnealError `bad_request` for another base model, files that are not what the digest names, and paths that leave the folder. */
function requireServable(route: Route, base: string): void {
  const name = `Route ${route.number} of endpoint ${route.endpoint}`;
  if (route.base !== base) {
    throw new AnnealError(
      'bad_request',
      `${name} is for the base model ${route.base}, but this gateway's engine holds ${base}; set ANNEAL_SERVE_BASE=${route.base}.`,
    );
  }
  if (fileSetOf(route.files.files).digest !== route.digest) {
    throw new AnnealError('bad_request', `${name} names other files than its digest ${route.digest}; deploy it again.`);
  }
  const stray = route.files.files.find(({ path }) => posix.isAbsolute(path) || path.split('/').includes('..'));
  if (stray !== undefined) {
    throw new AnnealError(
      'bad_request',
      `${name} has the file ${stray.path}, which leaves its folder; deploy it again.`,
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function parseRoutes(text: string): Route[] | null {
  try {
    return z.array(RouteSchema).parse(JSON.parse(text));
  } catch {
    return null;
  }
}

async function writeAtomically(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** Removes the versions that have been on disk longest, except those that are served and a few spare ones. */
async function pruneVersions(folder: string, served: Route[]): Promise<void> {
  const digests = await readdir(folder).catch(() => []);
  const unused = digests.filter((digest) => !served.some((route) => route.digest === digest));
  const aged = await Promise.all(unused.map(async (d) => ({ d, at: (await stat(join(folder, d))).mtimeMs })));
  const oldest = aged.sort((a, b) => b.at - a.at).slice(SPARE_VERSIONS_MAX);
  for (const { d } of oldest) await rm(join(folder, d), { recursive: true, force: true });
}
