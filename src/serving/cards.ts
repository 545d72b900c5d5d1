// Data cards of datasets, read from the store for whoever follows the link on a run's page.
import type { FastifyInstance } from 'fastify';
import { DatasetSchema, Digest } from '../contracts/records.ts';
import { readStoredFile } from '../storage/file-set.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import { notFound } from './api-error.ts';

/** By the last part of the address: the file of the card, and its type. */
const FILES: Record<string, { file: string; type: string }> = {
  card: { file: 'card.html', type: 'text/html; charset=utf-8' },
  'card.md': { file: 'card.md', type: 'text/markdown; charset=utf-8' },
  'card.json': { file: 'card.json', type: 'application/json; charset=utf-8' },
};
/** The page needs nothing but its own style, so a browser is told to allow it nothing else. */
const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function serveCards(app: FastifyInstance, store: ObjectStore): void {
  app.get<{ Params: { digest: string; name: string } }>('/datasets/:digest/:name', async ({ params, url }, reply) => {
    const wanted = Object.hasOwn(FILES, params.name) ? FILES[params.name] : undefined;
    const digest = Digest.safeParse(params.digest);
    if (wanted === undefined || !digest.success)
      throw notFound(`${url} does not exist here; cards are at /datasets/<digest>/card.`, null, 'unknown_url');
    const dataset = await readJson(store, keys.dataset(digest.data), DatasetSchema);
    const bytes = dataset?.card ? await readStoredFile(store, dataset.card, wanted.file) : null;
    if (bytes === null)
      throw notFound(`Dataset ${digest.data} has no card in the store of this gateway.`, 'digest', 'card_not_found');
    return reply
      .type(wanted.type)
      .header('content-security-policy', POLICY)
      .header('x-content-type-options', 'nosniff')
      .header('referrer-policy', 'no-referrer')
      .send(bytes);
  });
}
