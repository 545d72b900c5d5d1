// One digest of many files, whatever their order: the same for those who only look and for the stage that reads them.
import { digestOf } from '../../storage/digest.ts';

export function identifyFiles(files: { name: string; sha256: string }[]): string {
  return digestOf(files.map(({ name, sha256 }) => `${name}\n${sha256}`).sort());
}
