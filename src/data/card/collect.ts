// Gathers what a card is made of from the records of preprocess.
import type { CleanedPiece, Resolution } from '../../contracts/ranges.ts';
import type { Snapshot } from '../../contracts/records.ts';
import type { Spec } from '../../contracts/spec.ts';
import { digestOf } from '../../storage/digest.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { addCounts } from '../profile/row-sample.ts';
import type { CardInput } from './input.ts';

type Counted = 'pii' | 'fixed' | 'warned';

export interface Collected
  extends Pick<
    CardInput,
    'run' | 'dataset' | 'accounts' | 'profile' | 'rejected' | 'tokens' | 'packing' | 'previous' | 'seconds' | 'workflow'
  > {
  spec: Spec;
  snapshot: Snapshot;
  /** Of all ranges, in order. */
  pieces: CleanedPiece[];
  resolution: Resolution;
}

/** What only a dataset has. */
export const NO_DATASET = {
  ...{ dataset: null, rejected: [], tokens: null, packing: null, previous: null, seconds: null, workflow: null },
};

export function collectCard({ spec, pieces, resolution, ...given }: Collected): CardInput {
  const { sources: _sources, ...rules } = spec.data;
  const counted = (what: Counted) => pieces.reduce((sum, { counts }) => addCounts(sum, counts[what]), {});
  const wasAsked = rules.nearDuplicates.action !== 'off';
  return {
    ...given,
    ...{ name: spec.name, method: spec.train.method, maxLength: rules.maxLength, privacy: rules.privacy },
    dropColumns: rules.dropColumns,
    ...{ pii: counted('pii'), fixed: counted('fixed'), warned: counted('warned') },
    nearFound: wasAsked ? resolution.sources.reduce((sum, { nearFound }) => sum + nearFound, 0) : null,
    ...{ leakage: resolution.leakage, notes: resolution.notes, blocked: resolution.blocked },
    ...{ rules: digestOf(rules), code: codeIdentity().digest },
  };
}
