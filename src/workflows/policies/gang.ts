// What became of a gang's attempt, out of how its hosts ended: which end was the root, and which only followed from it. Pure.
import type { GangDeath, MemberOutcome } from '../../contracts/gang.ts';
import type { TrainStopped } from '../../contracts/stages.ts';

/** How one host's part ended, as the workflow saw it. */
export type MemberEnd =
  | MemberOutcome
  /** An error of its own; `isFinal` = repeating is pointless. */
  | { ended: 'failed'; kind: string; message: string; isFinal: boolean }
  | { ended: 'cancelled'; details: unknown[] }
  /** It did not answer any more; with what it last told of. */
  | { ended: 'lost'; step: number | null; gpuSeconds: number | null };

export type GangVerdict =
  | { is: 'done'; result: NonNullable<(MemberOutcome & { ended: 'done' })['result']> }
  | { is: 'over'; kind: string; message: string }
  /** Of hosts that were lost, the places. */
  | { is: 'broken'; death: GangDeath; receiptKind: string; lost: number[] };

/** @param ends by place; null = it had not ended when the gang stopped waiting. @param highest the highest step known before. */
export function judgeAttempt(ends: (MemberEnd | null)[], hosts: string[], highest: number): GangVerdict {
  const first = ends[0];
  if (first?.ended === 'done' && first.result !== null) return { is: 'done', result: first.result };
  const final = ends.find((end) => end?.ended === 'failed' && end.isFinal);
  if (final?.ended === 'failed') return { is: 'over', kind: final.kind, message: final.message };

  const lost = ends.flatMap((end, i) => (end === null || end.ended === 'lost' ? [i] : []));
  const step = stepOf(first ?? null);
  const broken = (death: Omit<GangDeath, 'highest' | 'stepped'>, receiptKind: string): GangVerdict => {
    const from = Math.max(death.from, first?.ended === 'died' ? first.death.from : 0);
    return {
      is: 'broken',
      death: { ...death, from, highest: Math.max(highest, step), stepped: step > from },
      receiptKind,
      lost,
    };
  };
  const killed = (mark: string, kind: string, message: string) =>
    broken({ class: 'killed', kind: 'trainer_crashed', fingerprint: `killed:gang:${mark}`, message, from: 0 }, kind);

  const root = ends.find((end) => end?.ended === 'died' && !end.isCascade);
  if (root?.ended === 'died') return broken(root.death, root.death.kind);
  if (lost.length > 0) {
    const names = lost.map((i) => hosts[i]).join(', ');
    return killed('host', 'node_lost', `${lost.length === 1 ? 'Host' : 'Hosts'} ${names} ended without an answer.`);
  }
  const failed = ends.find((end) => end?.ended === 'failed');
  if (failed?.ended === 'failed') return killed(failed.kind, failed.kind, failed.message);
  const cascade = ends.find((end) => end?.ended === 'died');
  const message = cascade?.ended === 'died' ? cascade.death.message : 'The hosts ended without saying why.';
  return killed('cascade', 'trainer_crashed', `The hosts lost each other: ${message}`);
}

/** Only the first host sees steps. */
function stepOf(first: MemberEnd | null): number {
  if (first?.ended === 'died') return first.death.highest;
  if (first?.ended === 'lost') return first.step ?? 0;
  if (first?.ended === 'cancelled') return (first.details[0] as TrainStopped | undefined)?.step ?? 0;
  return 0;
}

/** GPU seconds of the run, by the newest of what the hosts told and what was known before. */
export function gpuSecondsOf(ends: (MemberEnd | null)[], before: number): number {
  const told = ends.map((end) => {
    if (end?.ended === 'died' || end?.ended === 'lost') return end.gpuSeconds ?? 0;
    return end?.ended === 'cancelled' ? ((end.details[0] as TrainStopped | undefined)?.gpuSeconds ?? 0) : 0;
  });
  return Math.max(before, ...told);
}

/** A host was told to end, or its ranks were and agreed with all others: the first host saves and commits, which takes its time. */
export function wasAsked(ends: (MemberEnd | null)[]): boolean {
  return ends.some(
    (end) =>
      (end?.ended === 'failed' && end.kind === 'preempted') ||
      (end?.ended === 'died' && end.isCascade && end.death.class === 'killed'),
  );
}

/** All that have ended saved because another host was asked to end, which has not said so: it is about to, or an operator has paused it. */
export function mayBePaused(ends: (MemberEnd | null)[]): boolean {
  return ends.includes(null) && wasAsked(ends) && !ends.some((end) => end?.ended === 'failed' || end?.ended === 'lost');
}

/** Hosts keep the places that they had, where their ranks' state lies; new ones fill the gaps. */
export function placeHosts(before: string[], granted: string[]): string[] {
  const fresh = granted.filter((name) => !before.includes(name));
  const kept = (i: number) => granted.find((name) => name === before[i]);
  return granted.map((_, i) => kept(i) ?? (fresh.shift() as string));
}

/** Who was granted and has nothing to offer: everybody counts as lost for the pool, those that did not answer also as a death. */
export function absentHosts(
  offers: ({ isBusy: boolean } | null)[],
  hosts: string[],
  highest: number,
): { lost: string[]; absent: GangDeath | null } {
  const silent = hosts.filter((_, i) => offers[i] === null);
  const lost = hosts.filter((_, i) => offers[i]?.isBusy !== false);
  if (silent.length === 0) return { lost, absent: null };
  const message = `${silent.length === 1 ? 'Host' : 'Hosts'} ${silent.join(', ')} did not answer.`;
  const progress = { highest, from: 0, stepped: false };
  const absent: GangDeath = {
    class: 'killed',
    kind: 'trainer_crashed',
    fingerprint: 'killed:gang:host',
    message,
    ...progress,
  };
  return { lost, absent };
}
