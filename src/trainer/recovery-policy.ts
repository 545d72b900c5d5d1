// Judges the deaths of an attempt's trainers: what to do next. Counted in progress, not in tries: a trainer that gets further each time
// may die as often as it likes, and a failure that comes back without a new step is met with something else, then with a stop.
import { AnnealError, type FailureKind } from '../contracts/failure.ts';
import { KTO_MICRO_BATCH_MIN, type Recipe } from '../contracts/spec.ts';
import type { Death } from './death.ts';

export interface DeathOnRecord extends Death {
  /** Highest step that the attempt had reached. */
  highest: number;
  /** The step that it had started from. */
  from: number;
  /** It had done a step since it started. */
  stepped: boolean;
}

export type RecoveryStep =
  /** Start again; from the newest state unless the word says otherwise. Words: `RECOVERY_ACTIONS` in contracts/records.ts. */
  | { action: 'restarted' | 'replayed' | 'older_checkpoint' | 'state_dropped' | 'disk_freed' }
  | { action: 'smaller_batch'; factor: number }
  | { action: 'stopped'; error: AnnealError };

/** Kills from outside without a step between them: somebody kills it while it loads. It says little about the trainer. */
export const FRUITLESS_KILLS_MAX = 20;
/** Other deaths without a step between them, each different from the others. */
export const FRUITLESS_DEATHS_MAX = 6;

/** @param deaths every death of the attempt, the last one last. */
export function decideRecovery(
  deaths: DeathOnRecord[],
  recipe: { microBatch: number; method?: Recipe['method'] },
): RecoveryStep {
  const last = deaths.at(-1);
  if (last === undefined) throw new AnnealError('trainer_bug', 'A recovery was judged without a death.');
  const fruitless = sinceLastProgress(deaths);
  const same = fruitless.filter(({ fingerprint }) => fingerprint === last.fingerprint).length;
  const others = fruitless.filter((death) => death.class !== 'killed' && death.class !== 'state_unreadable').length;
  const stop = (kind: FailureKind): RecoveryStep => ({
    action: 'stopped',
    error: new AnnealError(kind, describe(last, same)),
  });

  if (last.class !== 'state_unreadable' && last.class !== 'out_of_memory' && others >= FRUITLESS_DEATHS_MAX) {
    return stop('trainer_bug');
  }
  switch (last.class) {
    case 'killed':
      return same < FRUITLESS_KILLS_MAX ? { action: 'restarted' } : stop('trainer_bug');
    case 'crashed':
    case 'stalled':
      if (same === 1) return { action: 'restarted' };
      return same === 2 && last.from > 0 ? { action: 'older_checkpoint' } : stop('trainer_bug');
    case 'exception':
      // Python errors repeat themselves. One that comes before the first step after a resume may be about the state.
      if (same > 1) return stop('trainer_bug');
      return { action: last.from > 0 && !last.stepped ? 'older_checkpoint' : 'restarted' };
    case 'out_of_memory': {
      // Once it may have been a neighbour's fault, or fragmentation.
      if (same === 1) return { action: 'restarted' };
      const least = recipe.method === 'kto' ? KTO_MICRO_BATCH_MIN : 1;
      const factor = smallestFactor(recipe.microBatch, least);
      return factor === null ? stop('out_of_memory') : { action: 'smaller_batch', factor };
    }
    case 'not_finite':
      return same === 1 ? { action: 'replayed' } : stop('loss_not_finite');
    case 'state_unreadable':
      return last.from > 0 ? { action: 'state_dropped' } : stop('trainer_bug');
    case 'disk_full':
      return same === 1 ? { action: 'disk_freed' } : stop('disk_full');
    case 'bad_request':
    case 'data_rejected':
    case 'no_result':
    case 'cannot_start':
      return stop(last.kind);
    default:
      return last.class satisfies never;
  }
}

/** The last deaths that brought no step beyond what had been reached before; the first of them did. */
function sinceLastProgress(deaths: DeathOnRecord[]): DeathOnRecord[] {
  let since = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (const [i, death] of deaths.entries()) {
    if (death.highest > highest) since = i;
    highest = Math.max(highest, death.highest);
  }
  return deaths.slice(since);
}

/** What the micro-batch is divided and the accumulation multiplied by; null when the micro-batch is as small as it may be. */
function smallestFactor(microBatch: number, least: number): number | null {
  for (let factor = 2; factor * least <= microBatch; factor++) if (microBatch % factor === 0) return factor;
  return null;
}

function describe(last: DeathOnRecord, same: number): string {
  const times =
    same > 1 ? `The trainer failed ${same} times in the same way without a step beyond ${last.highest}: ` : '';
  return `${times}${last.message}${REMEDIES[last.class]}`;
}

/** Where the trainer's own sentence does not say it. */
const REMEDIES: Record<Death['class'], string> = {
  killed: ' Look for who kills it (the log of the host, a memory limit).',
  crashed: ' Look at its log; report it with the versions of its libraries.',
  exception: ' Look at its log for the traceback.',
  stalled: ' Look at its log; with several processes look for one that waits for another.',
  out_of_memory:
    ' The micro-batch is 1 already: shorten `data.maxLength`, lower `train.lora.rank`, or take a host with more memory.',
  not_finite: '',
  state_unreadable: ' It had nothing to resume from.',
  disk_full: '',
  bad_request: '',
  data_rejected: '',
  no_result: ' Look at its log; its version and the worker`s may differ.',
  cannot_start: '',
};
