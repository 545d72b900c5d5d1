// What a trainer died of: turns the traces that it left into one class, with a fingerprint by which the same death is known again.
// Nothing here reads the clock or a file.
import type { FailureKind } from '../contracts/failure.ts';
import type { ChildEnd } from './child.ts';

/** Classes differ in what is done about them (`recovery-policy.ts`). */
export type DeathClass =
  | 'killed' // from outside: SIGKILL or SIGTERM by somebody, or its channel was cut
  | 'crashed' // a signal of its own, an unknown exit code, garbage instead of events
  | 'exception' // Python said what was wrong
  | 'stalled' // no progress within the limit of its phase
  | 'out_of_memory'
  | 'not_finite' // NaN or Inf in loss, gradient norm or an evaluation
  | 'state_unreadable' // what it should resume from is torn or damaged
  | 'disk_full'
  | 'bad_request'
  | 'data_rejected'
  | 'no_result' // exit code 0 without a result
  | 'cannot_start';

export interface Death {
  class: DeathClass;
  kind: FailureKind;
  fingerprint: string;
  message: string;
}

export interface Evidence {
  end: ChildEnd;
  /** Kernel kills for want of memory while it lived. */
  oomKills: number;
  phase: string;
}

/** Signals that a process gets for what it did itself. */
const OWN_SIGNALS = ['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGFPE', 'SIGILL', 'SIGSYS', 'SIGTRAP', 'SIGXCPU', 'SIGXFSZ'];
/** By number, for shells that end with 128 + signal. */
const SIGNAL_NUMBERS: Record<number, string> = {
  4: 'SIGILL',
  6: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  15: 'SIGTERM',
};
/** A failed start that another try, a moment later, may get through. */
const START_ERRORS_OF_THE_MOMENT = ['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE'];

export function classifyDeath({ end, oomKills, phase }: Evidence): Death {
  const signal = end.signal ?? signalOfCode(end.code);
  const died = (its: DeathClass, kind: FailureKind, mark: string, message = end.message): Death => ({
    class: its,
    kind,
    // A resumed trainer meets at its first step what the one before met at a later one.
    fingerprint: `${its}:${phase === 'first_step' ? 'train' : phase}:${mark}`,
    message,
  });

  if (end.reason === 'not_started') return classifyStart(end, died);
  if (end.reason === 'stalled') return died('stalled', 'trainer_stalled', '', describeStall(end, phase));
  if (end.reason === 'flooded') {
    return died('crashed', 'trainer_crashed', 'garbage', `Its event channel was flooded with garbage: ${end.garbage}`);
  }
  if (signal === 'SIGKILL' && oomKills > 0) {
    return died(
      'out_of_memory',
      'out_of_memory',
      'host',
      'The kernel killed it because the memory of its control group ran out.',
    );
  }
  switch (end.outcome) {
    case 'done':
      return died('no_result', 'trainer_bug', '', 'The trainer ended with exit code 0 but without a result.');
    case 'bad_request':
    case 'data_rejected':
    case 'disk_full':
      return died(end.outcome, end.outcome, '');
    case 'out_of_memory':
      return died('out_of_memory', 'out_of_memory', 'trainer');
    case 'loss_not_finite':
      return died('not_finite', 'loss_not_finite', '');
    case 'checkpoint_corrupt':
      return died('state_unreadable', 'checkpoint_corrupt', '');
    case 'interrupted':
    case 'orphaned':
      return died('killed', 'trainer_crashed', end.outcome);
    case 'crashed':
      return classifyCrash(end, signal, died);
    default:
      return end.outcome satisfies never;
  }
}

type Died = (its: DeathClass, kind: FailureKind, mark: string, message?: string) => Death;

function classifyStart({ message }: ChildEnd, died: Died): Death {
  const isOfTheMoment = START_ERRORS_OF_THE_MOMENT.some((code) => message.includes(code));
  return isOfTheMoment
    ? died('crashed', 'trainer_crashed', 'start')
    : died(
        'cannot_start',
        'bad_request',
        '',
        `Python cannot be started (${message}); check \`ANNEAL_PYTHON\` of this worker.`,
      );
}

function classifyCrash(end: ChildEnd, signal: string | null, died: Died): Death {
  if (signal !== null) {
    return OWN_SIGNALS.includes(signal)
      ? died('crashed', 'trainer_crashed', signal)
      : died('killed', 'trainer_crashed', signal);
  }
  const hasSpoken = end.failed !== null || end.code === 1;
  return hasSpoken
    ? died('exception', 'trainer_crashed', fingerprintOf(end.message))
    : died('crashed', 'trainer_crashed', `exit ${end.code}`);
}

function signalOfCode(code: number | null): string | null {
  return code !== null && code > 128 ? (SIGNAL_NUMBERS[code - 128] ?? null) : null;
}

/** The last line, without what differs from one death to the next: addresses, numbers, paths. */
function fingerprintOf(message: string): string {
  const last = message.trim().split('\n').at(-1) ?? '';
  return last
    .replace(/0x[0-9a-f]+/gi, '#')
    .replace(/\/[^\s'"]+/g, '/')
    .replace(/\d+/g, '#')
    .slice(0, 200);
}

function describeStall({ stacks }: ChildEnd, phase: string): string {
  const where = stacks === null ? 'its threads did not answer' : `its threads:\n${stacks}`;
  return `No progress within the limit of phase ${phase}; ${where}`;
}
