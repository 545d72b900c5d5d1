// Labelled faults: what each trainer does, which class its deaths are, and what must be done about them.
// Read by test/trainer/faults.test.ts and by `bench/faults`.
import type { FailureKind } from '../../../src/contracts/failure.ts';
import type { Finding, Receipt } from '../../../src/contracts/records.ts';

interface Fault {
  do: string;
  at: string;
  [field: string]: unknown;
}

export interface FaultCase {
  name: string;
  /** For `misbehave.py`. */
  fault?: Fault | Fault[];
  /** For `parents.py`; the training then starts from a warm parent. */
  parent?: string;
  /** Without warm state a dead trainer goes on from its last checkpoint. */
  warm?: boolean;
  microBatch?: number;
  /** Aborts the attempt at this step. */
  abortAtStep?: number;
  python?: string;
  /** Layout of the control group's files. */
  cgroup?: 'v1' | 'v2';
  /** The same failure would come back for ever: a retry that changes nothing is wasted. */
  deterministic?: boolean;
  expect: {
    /** Kinds of the deaths, in order. */
    kinds: FailureKind[];
    actions: Receipt['action'][];
    /** `done`, or the kind with which the attempt ends. */
    ends: 'done' | FailureKind;
    findings?: Finding['code'][];
    /** Text that the last receipt must hold. */
    says?: string;
  };
}

/** A training of 12 steps that saves every third. */
export const FAULT_STEPS = 12;
export const FAULT_SAVE_STEPS = 3;

const times = <T>(n: number, value: T): T[] => Array.from({ length: n }, () => value);
const once = (kind: FailureKind, action: Receipt['action'] = 'restarted'): FaultCase['expect'] => ({
  kinds: [kind],
  actions: [action],
  ends: 'done',
});
const never: FaultCase['expect'] = { kinds: [], actions: [], ends: 'done' };

const KILLS: FaultCase[] = [
  {
    name: 'killed once',
    fault: { do: 'signal', name: 'SIGKILL', at: 'step', step: 8, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'killed once without warm state',
    warm: false,
    fault: { do: 'signal', name: 'SIGKILL', at: 'step', step: 8, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'killed every third step',
    fault: { do: 'signal', name: 'SIGKILL', at: 'edge', every: 3, times: 3 },
    expect: { kinds: times(3, 'trainer_crashed'), actions: times(3, 'restarted'), ends: 'done' },
  },
  {
    name: 'killed three times while it loads',
    fault: { do: 'signal', name: 'SIGKILL', at: 'load', times: 3 },
    expect: { kinds: times(3, 'trainer_crashed'), actions: times(3, 'restarted'), ends: 'done' },
  },
  {
    name: 'killed for ever while it loads',
    fault: { do: 'signal', name: 'SIGKILL', at: 'load' },
    expect: {
      kinds: [...times(19, 'trainer_crashed' as const), 'trainer_bug'],
      actions: [...times(19, 'restarted' as const), 'stopped'],
      ends: 'trainer_bug',
    },
  },
  {
    name: 'killed while it saves',
    fault: { do: 'signal', name: 'SIGKILL', at: 'save', step: 6, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'killed before its result',
    fault: { do: 'signal', name: 'SIGKILL', at: 'finish', times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'told to end by somebody',
    fault: { do: 'obey_sigterm', at: 'step', step: 5, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exit code 137 of a shell',
    fault: { do: 'exit', code: 137, at: 'step', step: 4, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exit code 143 of a shell',
    fault: { do: 'exit', code: 143, at: 'step', step: 4, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'lost its channel',
    fault: { do: 'exit', code: 45, at: 'step', step: 4, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'killed in the middle of an event',
    fault: { do: 'half_event', at: 'step', step: 7, times: 1 },
    expect: once('trainer_crashed'),
  },
];

const CRASHES: FaultCase[] = [
  ...['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGFPE', 'SIGILL'].map((name) => ({
    name: `${name} once`,
    fault: { do: 'signal', name, at: 'step', step: 5, times: 1 },
    expect: once('trainer_crashed'),
  })),
  {
    name: 'SIGSEGV at one step for ever',
    deterministic: true,
    fault: { do: 'signal', name: 'SIGSEGV', at: 'step', step: 5 },
    expect: {
      kinds: [...times(2, 'trainer_crashed' as const), 'trainer_bug'],
      actions: ['restarted', 'older_checkpoint', 'stopped'],
      ends: 'trainer_bug',
    },
  },
  {
    name: 'SIGSEGV at the start for ever',
    deterministic: true,
    fault: { do: 'signal', name: 'SIGSEGV', at: 'load' },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'SIGSEGV whenever it resumes from a late state',
    fault: [
      { do: 'signal', name: 'SIGKILL', at: 'edge', step: 8, times: 1 },
      { do: 'signal', name: 'SIGSEGV', at: 'resume', from: 7 },
    ],
    expect: {
      kinds: times(3, 'trainer_crashed'),
      actions: ['restarted', 'restarted', 'older_checkpoint'],
      ends: 'done',
    },
  },
  {
    name: 'exit code 139 of a shell',
    fault: { do: 'exit', code: 139, at: 'step', step: 4, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exit code 77 once',
    fault: { do: 'exit', code: 77, at: 'step', step: 4, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exit code 3 for ever',
    deterministic: true,
    fault: { do: 'exit', code: 3, at: 'load' },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
];

const EXCEPTIONS: FaultCase[] = [
  {
    name: 'exception once',
    fault: { do: 'raise', message: 'hiccup', at: 'step', step: 5, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exception at one step for ever',
    deterministic: true,
    fault: { do: 'raise', message: 'shape mismatch', at: 'step', step: 5 },
    expect: {
      kinds: ['trainer_crashed', 'trainer_bug'],
      actions: ['restarted', 'stopped'],
      ends: 'trainer_bug',
      says: 'shape mismatch',
    },
  },
  {
    name: 'exception at one step for ever, without warm state',
    deterministic: true,
    warm: false,
    fault: { do: 'raise', message: 'shape mismatch', at: 'step', step: 6 },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'exception while it loads for ever',
    deterministic: true,
    fault: { do: 'raise', message: 'no such layer', at: 'load' },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'exception with other numbers each time',
    deterministic: true,
    fault: { do: 'raise_numbered', at: 'step', step: 5 },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'a missing library, said by nobody but the log',
    deterministic: true,
    fault: { do: 'die_untold', at: 'start' },
    expect: {
      kinds: ['trainer_crashed', 'trainer_bug'],
      actions: ['restarted', 'stopped'],
      ends: 'trainer_bug',
      says: "No module named 'torch'",
    },
  },
  {
    name: 'an unknown kind of failure',
    deterministic: true,
    fault: { do: 'end', kind: 'cosmic_ray', at: 'step', step: 2 },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
];

const MEMORY: FaultCase[] = [
  {
    name: 'memory runs out once',
    fault: { do: 'end', kind: 'out_of_memory', at: 'step', step: 5, times: 1 },
    expect: once('out_of_memory'),
  },
  {
    name: 'memory runs out above a micro-batch of 2',
    deterministic: true,
    microBatch: 8,
    fault: { do: 'end', kind: 'out_of_memory', at: 'step', step: 5, batchAbove: 2 },
    expect: {
      kinds: times(3, 'out_of_memory'),
      actions: ['restarted', 'smaller_batch', 'smaller_batch'],
      ends: 'done',
    },
  },
  {
    name: 'memory runs out with a micro-batch of 1',
    deterministic: true,
    microBatch: 1,
    fault: { do: 'end', kind: 'out_of_memory', at: 'step', step: 5 },
    expect: { kinds: times(2, 'out_of_memory'), actions: ['restarted', 'stopped'], ends: 'out_of_memory' },
  },
  ...(['v1', 'v2'] as const).map(
    (cgroup): FaultCase => ({
      name: `killed by the kernel for want of memory (cgroup ${cgroup})`,
      cgroup,
      fault: { do: 'host_oom', at: 'step', step: 5, times: 1 },
      expect: once('out_of_memory'),
    }),
  ),
  {
    name: 'killed by the kernel above a micro-batch of 4',
    deterministic: true,
    cgroup: 'v2',
    microBatch: 8,
    fault: { do: 'host_oom', at: 'step', step: 5, batchAbove: 4 },
    expect: { kinds: times(2, 'out_of_memory'), actions: ['restarted', 'smaller_batch'], ends: 'done' },
  },
];

const NUMBERS: FaultCase[] = [
  {
    name: 'NaN once',
    fault: { do: 'end', kind: 'loss_not_finite', at: 'loss', step: 5, times: 1 },
    expect: once('loss_not_finite', 'replayed'),
  },
  {
    name: 'NaN at one step for ever',
    deterministic: true,
    fault: { do: 'end', kind: 'loss_not_finite', at: 'loss', step: 5 },
    expect: { kinds: times(2, 'loss_not_finite'), actions: ['replayed', 'stopped'], ends: 'loss_not_finite' },
  },
  {
    name: 'NaN at the first step for ever',
    deterministic: true,
    fault: { do: 'end', kind: 'loss_not_finite', at: 'loss', step: 1 },
    expect: { kinds: times(2, 'loss_not_finite'), actions: ['replayed', 'stopped'], ends: 'loss_not_finite' },
  },
  {
    name: 'NaN at two steps',
    fault: [
      { do: 'end', kind: 'loss_not_finite', at: 'loss', step: 5, times: 1 },
      { do: 'end', kind: 'loss_not_finite', at: 'loss', step: 10, times: 1 },
    ],
    expect: { kinds: times(2, 'loss_not_finite'), actions: times(2, 'replayed'), ends: 'done' },
  },
  {
    name: 'a step that comes out differently when it is done again',
    warm: false,
    fault: [
      { do: 'signal', name: 'SIGKILL', at: 'edge', step: 8, times: 1 },
      { do: 'differ', at: 'loss', step: 7, from: 6 },
    ],
    expect: { ...once('trainer_crashed'), findings: ['not_deterministic'] },
  },
];

const STALLS: FaultCase[] = [
  {
    name: 'hangs in a step once',
    fault: { do: 'hang', at: 'step', step: 5, times: 1 },
    expect: { ...once('trainer_stalled'), says: '_hang_here' },
  },
  {
    name: 'hangs and cannot tell where',
    fault: { do: 'hang_deaf', at: 'step', step: 5, times: 1 },
    expect: { ...once('trainer_stalled'), says: 'did not answer' },
  },
  {
    name: 'stopped by SIGSTOP',
    fault: { do: 'signal', name: 'SIGSTOP', at: 'step', step: 5, times: 1 },
    expect: once('trainer_stalled'),
  },
  { name: 'hangs while it loads', fault: { do: 'hang', at: 'load', times: 1 }, expect: once('trainer_stalled') },
  {
    name: 'says nothing from the start',
    fault: { do: 'hang', at: 'start', times: 1 },
    expect: once('trainer_stalled'),
  },
  {
    name: 'hangs while it saves',
    fault: { do: 'hang', at: 'save', step: 6, times: 1 },
    expect: once('trainer_stalled'),
  },
  { name: 'hangs after its last step', fault: { do: 'hang', at: 'finish', times: 1 }, expect: once('trainer_stalled') },
  {
    name: 'says the same step again and again',
    fault: { do: 'repeat_step', at: 'step', step: 5, times: 1 },
    expect: once('trainer_stalled'),
  },
  {
    name: 'goes back and forth between phases',
    fault: { do: 'repeat_phases', at: 'step', step: 5, times: 1 },
    expect: once('trainer_stalled'),
  },
  {
    name: 'reports the same finding for ever',
    fault: { do: 'repeat_finding', at: 'step', step: 5, times: 1 },
    expect: { ...once('trainer_stalled'), findings: ['warm_state_off'] },
  },
  {
    name: 'hangs at one step for ever',
    deterministic: true,
    fault: { do: 'hang', at: 'step', step: 5 },
    expect: {
      kinds: [...times(2, 'trainer_stalled' as const), 'trainer_bug'],
      actions: ['restarted', 'older_checkpoint', 'stopped'],
      ends: 'trainer_bug',
    },
  },
];

const GARBAGE: FaultCase[] = [
  {
    name: 'a few lines of garbage',
    fault: { do: 'garbage', lines: 20, at: 'step', step: 5, times: 1 },
    expect: { ...never, findings: ['garbage_on_channel'] },
  },
  {
    name: 'JSON that is no event',
    fault: { do: 'garbage_json', at: 'step', step: 5, times: 1 },
    expect: { ...never, findings: ['garbage_on_channel'] },
  },
  {
    name: 'a line of two megabytes',
    fault: { do: 'garbage_bytes', bytes: 2_000_000, at: 'step', step: 5, times: 1 },
    expect: { ...never, findings: ['garbage_on_channel'] },
  },
  {
    name: 'a flood of lines',
    fault: { do: 'garbage', lines: 100_000, at: 'step', step: 5, times: 1 },
    expect: { ...once('trainer_crashed'), findings: ['garbage_on_channel'] },
  },
  {
    name: 'a flood without a line end',
    fault: { do: 'garbage_bytes', bytes: 50_000_000, at: 'step', step: 5, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'checkpoints that it says lie elsewhere',
    fault: { do: 'foreign_path', at: 'nowhere' },
    expect: { ...never, findings: ['garbage_on_channel'] },
  },
];

const STATES: FaultCase[] = [
  {
    name: 'a torn checkpoint',
    warm: false,
    fault: { do: 'tear_checkpoint', at: 'edge', step: 8, times: 1 },
    expect: { kinds: ['trainer_crashed', 'checkpoint_corrupt'], actions: ['restarted', 'state_dropped'], ends: 'done' },
  },
  {
    name: 'a flipped bit in a checkpoint',
    warm: false,
    fault: { do: 'flip_bit', at: 'edge', step: 8, times: 1 },
    expect: { kinds: ['trainer_crashed', 'checkpoint_corrupt'], actions: ['restarted', 'state_dropped'], ends: 'done' },
  },
  {
    name: 'damaged warm state',
    fault: { do: 'damage_warm', at: 'edge', step: 8, times: 1 },
    expect: { kinds: ['trainer_crashed', 'checkpoint_corrupt'], actions: ['restarted', 'state_dropped'], ends: 'done' },
  },
  {
    name: 'warm state half written',
    fault: { do: 'half_warm', at: 'edge', step: 8, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'warm state of another run',
    fault: { do: 'foreign_warm', at: 'edge', step: 8, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'nothing to resume from and yet unreadable',
    deterministic: true,
    fault: { do: 'end', kind: 'checkpoint_corrupt', at: 'load' },
    expect: { kinds: ['trainer_bug'], actions: ['stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'an exception whenever it resumes from the newest state',
    fault: [
      { do: 'signal', name: 'SIGKILL', at: 'edge', step: 8, times: 1 },
      { do: 'raise', message: 'odd state', at: 'resume', from: 7 },
    ],
    expect: { kinds: times(2, 'trainer_crashed'), actions: ['restarted', 'older_checkpoint'], ends: 'done' },
  },
];

const ENDS: FaultCase[] = [
  {
    name: 'a full disk once',
    fault: { do: 'end', kind: 'disk_full', at: 'save', step: 6, times: 1 },
    expect: once('disk_full', 'disk_freed'),
  },
  {
    name: 'a full disk for ever',
    deterministic: true,
    fault: { do: 'end', kind: 'disk_full', at: 'save', step: 6 },
    expect: { kinds: times(2, 'disk_full'), actions: ['disk_freed', 'stopped'], ends: 'disk_full' },
  },
  {
    name: 'a wrong job',
    deterministic: true,
    fault: { do: 'end', kind: 'bad_request', at: 'load' },
    expect: { kinds: ['bad_request'], actions: ['stopped'], ends: 'bad_request' },
  },
  {
    name: 'wrong data',
    deterministic: true,
    fault: { do: 'end', kind: 'data_rejected', at: 'load' },
    expect: { kinds: ['data_rejected'], actions: ['stopped'], ends: 'data_rejected' },
  },
  {
    name: 'done without a result',
    deterministic: true,
    fault: { do: 'end', kind: 'done', at: 'step', step: 4 },
    expect: { kinds: ['trainer_bug'], actions: ['stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'a result that is none',
    deterministic: true,
    fault: { do: 'bad_result', at: 'nowhere' },
    expect: { kinds: ['trainer_bug'], actions: ['stopped'], ends: 'trainer_bug' },
  },
  {
    name: 'no Python',
    deterministic: true,
    python: '/nonexistent/python',
    expect: { kinds: ['bad_request'], actions: ['stopped'], ends: 'bad_request', says: 'ANNEAL_PYTHON' },
  },
  {
    name: 'preempted',
    abortAtStep: 5,
    fault: { do: 'nothing', at: 'nowhere' },
    expect: { kinds: [], actions: [], ends: 'preempted' },
  },
  {
    name: 'preempted and deaf to SIGTERM',
    abortAtStep: 4,
    fault: { do: 'ignore_sigterm', at: 'step', step: 5 },
    expect: { kinds: [], actions: [], ends: 'preempted', findings: ['ignored_sigterm'] },
  },
];

const PARENTS: FaultCase[] = [
  { name: 'a warm parent as it should be', parent: 'none', expect: never },
  {
    name: 'killed once under a warm parent',
    parent: 'none',
    fault: { do: 'signal', name: 'SIGKILL', at: 'step', step: 8, times: 1 },
    expect: once('trainer_crashed'),
  },
  {
    name: 'exception under a warm parent for ever',
    parent: 'none',
    deterministic: true,
    fault: { do: 'raise', message: 'boom', at: 'step', step: 5 },
    expect: { kinds: ['trainer_crashed', 'trainer_bug'], actions: ['restarted', 'stopped'], ends: 'trainer_bug' },
  },
  { name: 'a warm parent that dies at its start', parent: 'warm_dies', expect: { ...never, findings: ['cold_start'] } },
  { name: 'a warm parent that forks nothing', parent: 'warm_is_deaf', expect: { ...never, findings: ['cold_start'] } },
  { name: 'a job parent that dies', parent: 'prepared_dies', expect: { ...never, findings: ['cold_start'] } },
  { name: 'a job parent that hangs', parent: 'prepared_hangs', expect: { ...never, findings: ['cold_start'] } },
  {
    name: 'a job parent that forks nothing',
    parent: 'prepared_is_deaf',
    expect: { ...never, findings: ['cold_start'] },
  },
  { name: 'a fork that hangs', parent: 'fork_hangs', expect: { ...once('trainer_stalled'), findings: ['cold_start'] } },
  {
    name: 'a job that cannot be prepared',
    parent: 'none',
    deterministic: true,
    fault: { do: 'end', kind: 'bad_request', at: 'load' },
    expect: { kinds: ['bad_request'], actions: ['stopped'], ends: 'bad_request', findings: ['cold_start'] },
  },
];

export const FAULTS: FaultCase[] = [
  ...KILLS,
  ...CRASHES,
  ...EXCEPTIONS,
  ...MEMORY,
  ...NUMBERS,
  ...STALLS,
  ...GARBAGE,
  ...STATES,
  ...ENDS,
  ...PARENTS,
];
