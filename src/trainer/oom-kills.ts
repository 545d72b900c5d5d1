// How often the kernel killed for want of memory in this process's control group: the only trace that such a kill leaves.
// Trainers live in the group of the worker that started them.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The counter, or null where the system keeps none. Compared before and after a trainer's life. @param root of the file system. */
export function countOomKills(root = '/'): number | null {
  const groups = read(join(root, 'proc/self/cgroup')) ?? '';
  const unified = /^0::(.*)$/m.exec(groups)?.[1];
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1];
  return (
    counterUpwards(join(root, 'sys/fs/cgroup'), v1 === undefined ? unified : undefined, 'memory.events') ??
    counterUpwards(join(root, 'sys/fs/cgroup/memory'), v1, 'memory.oom_control')
  );
}

/** A container sees its group at the top of the tree, whatever the path says. */
function counterUpwards(top: string, path: string | undefined, file: string): number | null {
  if (path === undefined) return null;
  for (let at = path; ; at = dirname(at)) {
    const count = /^oom_kill (\d+)$/m.exec(read(join(top, at, file)) ?? '')?.[1];
    if (count !== undefined) return Number(count);
    if (at === '/' || at === '.') return null;
  }
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
