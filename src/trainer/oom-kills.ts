// How often the kernel killed for want of memory in this process's control group: the only trace that such a kill leaves.
import { readUpwards } from './control-group.ts';

/** The counter, or null where the system keeps none. Compared before and after a trainer's life. @param root of the file system. */
export function countOomKills(root?: string): number | null {
  const counts = readUpwards({ v1: 'memory.oom_control', v2: 'memory.events' }, root).flatMap(
    (text) => /^oom_kill (\d+)$/m.exec(text)?.[1] ?? [],
  );
  return counts[0] === undefined ? null : Number(counts[0]);
}
