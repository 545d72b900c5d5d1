// A disk that is soon full: a tmpfs of a few kilobytes over a folder. Needs the right to mount, as root or by `sudo` without a password.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const asRoot = (command: string, ...args: string[]) => {
  const [file, before] = process.getuid?.() === 0 ? [command, []] : ['sudo', ['-n', command]];
  return spawnSync(file, [...before, ...args], { encoding: 'utf8' });
};

const mount = (folder: string, sizeKb: number) =>
  asRoot('mount', '-t', 'tmpfs', '-o', `size=${sizeKb}k,mode=0777`, 'tmpfs', folder);

export interface SmallDisk extends Disposable {
  /** Takes it away again; what lay under it is there again. */
  remove(): void;
}

export function mountSmallDisk(folder: string, sizeKb: number): SmallDisk {
  mkdirSync(folder, { recursive: true });
  const { status, stderr } = mount(folder, sizeKb);
  if (status !== 0) throw new Error(`A small disk on ${folder} cannot be mounted: ${stderr}`);
  let isThere = true;
  const remove = () => {
    if (isThere) asRoot('umount', '--lazy', folder);
    isThere = false;
  };
  return { remove, [Symbol.dispose]: remove };
}

export function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-mount-'));
  const { status } = mount(folder, 4);
  if (status === 0) asRoot('umount', folder);
  rmdirSync(folder);
  return status === 0;
}
