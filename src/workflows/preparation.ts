// The stage `preprocess` as activities: ranges in parallel, with one decision over all of them in between.
import { CancellationScope, isCancellation, patched, proxyActivities } from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import type { PreprocessInput, PreprocessResult } from '../contracts/stages.ts';
import type { StageCall } from './run-page.ts';
import { STAGE_OPTIONS } from './stage-options.ts';

const data = proxyActivities<activities.Data>(STAGE_OPTIONS.data);

/** Ranges that wait for workers or are worked on at once: enough for many workers, and no burst for the server. */
const RANGES_AT_ONCE = 32;

/** @param onProgress hears how many ranges are done, such as `range 3 of 12 cleaned`. */
export async function prepareDataset(
  input: PreprocessInput,
  call: StageCall,
  onProgress: (text: string) => void = () => undefined,
): Promise<PreprocessResult> {
  if (!patched('ranges')) return await data.preprocess.executeWithOptions(call, [input]);
  const { run } = input;
  const startedMs = Date.now();
  const step = (name: string, summary: string) => ({ ...call, activityId: `preprocess-${name}`, summary });

  const { preparation, ranges, done } = await data.planRanges.executeWithOptions(step('plan', call.summary), [input]);
  if (done !== null) return done;

  const cleaned = await eachRange(ranges, 'cleaned', onProgress, (range, place) =>
    data.cleanRange.executeWithOptions(step(`clean-${range + 1}`, `clean ${place}`), [{ run, preparation, range }]),
  );
  const digests = cleaned.map((result) => result.cleaned);

  const { resolution } = await data.resolveRows.executeWithOptions(step('resolve', 'duplicates, splits, gates'), [
    { run, preparation, cleaned: digests },
  ]);

  const tokenised = await eachRange(ranges, 'tokenised', onProgress, (range, place) =>
    data.tokeniseRange.executeWithOptions(step(`tokenise-${range + 1}`, `tokenise ${place}`), [
      { run, preparation, range, resolution, cleaned: digests[range] as string },
    ]),
  );

  return await data.finishDataset.executeWithOptions(step('finish', 'accounts, card, dataset'), [
    {
      run,
      preparation,
      resolution,
      cleaned: digests,
      tokenised: tokenised.map((result) => result.tokenised),
      startedMs,
    },
  ]);
}

/** Results in the order of the ranges. When one fails the others are cancelled, and it ends when all have ended. */
async function eachRange<R>(
  ranges: number,
  what: string,
  onProgress: (text: string) => void,
  work: (range: number, place: string) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let [next, done] = [0, 0];
  const takeRanges = async () => {
    while (next < ranges) {
      const range = next++;
      results[range] = await work(range, `range ${range + 1} of ${ranges}`);
      done++;
      if (ranges > 1) onProgress(`range ${done} of ${ranges} ${what}`);
    }
  };
  await CancellationScope.cancellable(async () => {
    const scope = CancellationScope.current();
    const lanes = Array.from({ length: Math.min(ranges, RANGES_AT_ONCE) }, () =>
      takeRanges().catch((error: unknown) => {
        next = ranges;
        scope.cancel();
        throw error;
      }),
    );
    const ends = await Promise.allSettled(lanes);
    requireAll(ends);
  });
  return results;
}

/** @throws the first error that is no mere consequence of another. */
function requireAll(ends: PromiseSettledResult<void>[]): void {
  const errors = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
  if (errors.length > 0) throw errors.find((error) => !isCancellation(error)) ?? errors[0];
}
