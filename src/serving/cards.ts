// Data cards of datasets, and of runs that a gate has stopped, read from the store for whoever follows the link on a run's page.
import type { FastifyInstance, FastifyReply } from 'fastify';
import { DatasetSchema, Digest, type FileSet, FileSetSchema } from '../contracts/records.ts';
import { readStoredFile } from '../storage/file-set.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import { notFound } from './api-error.ts';

interface CardFile {
  file: string;
  type: string;
}

/** By the last part of the address: the file of the card, and its type. */
const FILES: Record<string, CardFile> = {
  card: { file: 'card.html', type: 'text/html; charset=utf-8' },
  'card.md': { file: 'card.md', type: 'text/markdown; charset=utf-8' },
  'card.json': { file: 'card.json', type: 'application/json; charset=utf-8' },
};
/** The page needs nothing but its own style, so a browser is told to allow it nothing else. */
const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function serveCards(app: FastifyInstance, store: ObjectStore): void {
  app.get<{ Params: Address }>('/datasets/:digest/:name', async ({ params, url }, reply) => {
    const { digest, file } = requireAddress(params, url);
    const dataset = await readJson(store, keys.dataset(digest), DatasetSchema);
    return await sendCard(reply, store, dataset?.card ?? null, file);
  });
  app.get<{ Params: Address & { run: string } }>('/runs/:run/stopped/:digest/:name', async ({ params, url }, reply) => {
    const { digest, file } = requireAddress(params, url);
    return await sendCard(
      reply,
      store,
      await readJson(store, keys.stoppedCard(params.run, digest), FileSetSchema),
      file,
    );
  });
}

interface Address {
  digest: string;
  name: string;
}

function requireAddress({ digest, name }: Address, url: string): { digest: string; file: CardFile } {
  const file = Object.hasOwn(FILES, name) ? FILES[name] : undefined;
  const parsed = Digest.safeParse(digest);
  if (file === undefined || !parsed.success) throw unknownUrl(url);
  return { digest: parsed.data, file };
}

function unknownUrl(url: string) {
  return notFound(`${url} does not exist here; cards are at /datasets/<digest>/card.`, null, 'unknown_url');
}

async function sendCard(reply: FastifyReply, store: ObjectStore, card: FileSet | null, { file, type }: CardFile) {
  const bytes = card && (await readStoredFile(store, card, file));
  if (bytes === null) throw notFound('The store of this gateway has no such card.', 'digest', 'card_not_found');
  return reply
    .type(type)
    .header('content-security-policy', POLICY)
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', 'no-referrer')
    .send(bytes);
}
