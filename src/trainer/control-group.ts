// This process's control group for memory, in either version of the kernel's interface. Trainers live in the group of their worker.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * What a file says in the group and in those above it, nearest first; empty where there are no groups. A container sees its group at the
 * top of the tree, whatever the path says. @param root of the file system.
 */
export function readUpwards(file: { v1: string; v2: string }, root = '/'): string[] {
  const groups = read(join(root, 'proc/self/cgroup')) ?? '';
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1];
  return v1 === undefined
    ? upwards(join(root, 'sys/fs/cgroup'), /^0::(.*)$/m.exec(groups)?.[1], file.v2)
    : upwards(join(root, 'sys/fs/cgroup/memory'), v1, file.v1);
}

function upwards(top: string, path: string | undefined, file: string): string[] {
  const found: string[] = [];
  for (let at = path; at !== undefined; at = at === '/' || at === '.' ? undefined : dirname(at)) {
    const text = read(join(top, at, file));
    if (text !== null) found.push(text);
  }
  return found;
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}
