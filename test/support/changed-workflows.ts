// The workflows with changes of the kind that break runs which are under way: what the replay tests must catch.
import { CancellationScope, sleep } from '@temporalio/workflow';
import { FineTune as unchangedFineTune, Retraining as unchangedRetraining } from '../../src/workflows/index.ts';

/** One timer more, after everything else: found only by who compares a history to its last event. */
export async function FineTune(input?: Parameters<typeof unchangedFineTune>[0]) {
  try {
    return await unchangedFineTune(input);
  } finally {
    await CancellationScope.nonCancellable(() => sleep('1 second'));
  }
}

/** One timer more, before everything else. */
export async function Retraining(input?: Parameters<typeof unchangedRetraining>[0]) {
  await sleep('1 second');
  return await unchangedRetraining(input);
}
