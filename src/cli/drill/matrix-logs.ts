// What a run said, for comparison: every step and evaluation as often as it was done, and the result. Times and paths do not count.
import type { TrainResult } from '../../contracts/trainer-protocol.ts';
import type { TimedEvent } from './events.ts';

export interface RunLog {
  /** By kind and step; each value as often as it was said. */
  said: Map<string, string[]>;
  weightsSha256: string;
  /** The result without what may differ. */
  result: string;
  /** How often a trainer went on, by where from. */
  resumed: Record<string, number>;
}

/** Besides `t`, what is not a number of the training. */
const NOT_COMPARED = ['t', 'seconds'];

export function readRunLog(events: TimedEvent[], { adapter: _adapter, ...result }: TrainResult): RunLog {
  const said = new Map<string, string[]>();
  for (const event of events.filter(({ ev }) => ev === 'step' || ev === 'metrics')) {
    const key = `${event.ev} ${event.step}`;
    const numbers = Object.entries(event).filter(([name]) => !NOT_COMPARED.includes(name));
    said.set(key, [...(said.get(key) ?? []), JSON.stringify(numbers)]);
  }
  const resumed: Record<string, number> = {};
  for (const { source = '' } of events.filter(({ ev }) => ev === 'plan')) resumed[source] = (resumed[source] ?? 0) + 1;
  const { weightsSha256, ...rest } = result;
  return { said, weightsSha256, result: JSON.stringify(rest), resumed };
}

/** Nothing is missing, nothing is new, and whatever was done again came out as the first time. */
export function areLogsEqual(undisturbed: RunLog, disturbed: RunLog): boolean {
  const keys = new Set([...undisturbed.said.keys(), ...disturbed.said.keys()]);
  const isEqual = (key: string) => {
    const [expected] = undisturbed.said.get(key) ?? [];
    const said = disturbed.said.get(key) ?? [];
    return expected !== undefined && said.length > 0 && said.every((numbers) => numbers === expected);
  };
  return undisturbed.result === disturbed.result && [...keys].every(isEqual);
}
