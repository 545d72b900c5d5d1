// Names of a split's files: one where it has one shard, numbered ones in the order of the rows where it has several.

export type ShardExtension = 'jsonl' | 'safetensors';

/** Digits of a shard's number: enough for the thousand ranges of a run, and the form that Hugging Face data sets have. */
const DIGITS = 5;

/** `train.jsonl`; of several `train-00003-of-00012.jsonl`. @param index from 0 on. */
export function shardName(split: string, extension: ShardExtension, index: number, of: number): string {
  if (of === 1) return `${split}.${extension}`;
  return `${split}-${digits(index)}-of-${digits(of)}.${extension}`;
}

/** Whether the file is the split's only shard or one of several. */
export function isShardOf(path: string, split: string, extension: ShardExtension): boolean {
  return numberOf(path, split, extension) !== null;
}

/** Paths of the split's shards in the order of its rows. */
export function shardsOf(paths: string[], split: string, extension: ShardExtension): string[] {
  const numbered = paths.flatMap((path) => {
    const number = numberOf(path, split, extension);
    return number === null ? [] : [{ path, number }];
  });
  return numbered.sort((a, b) => a.number - b.number).map(({ path }) => path);
}

function numberOf(path: string, split: string, extension: ShardExtension): number | null {
  if (path === `${split}.${extension}`) return 0;
  if (!path.startsWith(`${split}-`)) return null;
  const match = path.slice(split.length).match(/^-(\d{5})-of-\d{5}\.([a-z]+)$/);
  return match?.[2] === extension ? Number(match[1]) : null;
}

function digits(number: number): string {
  return String(number).padStart(DIGITS, '0');
}
