// The card of data that a gate refuses: it says what is wrong with them, to whoever follows the link that the failure carries.
import { AnnealError } from '../../contracts/failure.ts';
import { buildCard } from '../../data/card/card.ts';
import { type Collected, collectCard, NO_DATASET } from '../../data/card/collect.ts';
import { storeCard } from '../../data/card/stored.ts';
import { loadProfile } from '../../data/profile/stored.ts';
import { keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createJson } from '../../storage/record.ts';
import type { CardLinks } from './options.ts';

type Known = 'spec' | 'snapshot' | 'pieces' | 'resolution' | 'accounts';
type Refused = Pick<Collected, Known> & Partial<Pick<Collected, 'tokens' | 'rejected'>> & { run: string };

/** Stores the card of what `resolution.blocked` refuses. @returns the failure to end with. */
export async function refuseData(
  store: ObjectStore,
  refused: Refused,
  links: CardLinks | undefined,
): Promise<AnnealError> {
  const { run, pieces, resolution } = refused;
  const profile = await loadProfile(store, pieces);
  const built = buildCard(collectCard({ ...NO_DATASET, ...refused, profile, workflow: links?.run(run) ?? null }));
  const card = await storeCard(store, built);
  await createJson(store, keys.stoppedCard(run, card.digest), card);
  return new AnnealError('data_rejected', resolution.blocked ?? 'The data were refused; look at their card.', {
    card: links?.stopped(run, card.digest) ?? null,
  });
}
