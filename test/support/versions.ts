// Versions of the registry as a run would have made them.
import type { Version } from '../../src/contracts/records.ts';
import { ACCOUNTS, EVALUATION } from '../cli/pretend-results.ts';

export type VersionDraft = Omit<Version, 'version' | 'writeId'>;

const DIGEST = 'd'.repeat(64);

export function draftVersion(more: Partial<VersionDraft> = {}): VersionDraft {
  const { examples: _examples, ...evaluation } = EVALUATION;
  return {
    ...{ model: 'support', run: 'r', createdAt: new Date(0).toISOString() },
    ...{ digest: DIGEST, files: { digest: DIGEST, files: [] } },
    ...{ base: { name: 'tiny', digest: DIGEST }, parent: null, peft: 'lora', recipe: {}, recipeDigest: DIGEST },
    data: { snapshot: DIGEST, dataset: DIGEST, accounts: ACCOUNTS, system: null, templateSha256: DIGEST },
    training: {
      ...{ step: 1, steps: 1, epochs: 1, trainLoss: 1, evalLoss: null, best: null, tokens: 1 },
      ...{ trainableParameters: 1, totalParameters: 1, weightsSha256: DIGEST, bestModel: null, stoppedEarly: false },
      ...{ libraries: {}, seconds: 1, recoveries: 0, claim: 1 },
    },
    evaluation: { ...evaluation, predictionsDigest: DIGEST },
    code: { version: '0', gitCommit: null, digest: DIGEST },
    ...more,
  };
}
