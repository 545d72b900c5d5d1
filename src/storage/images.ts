// Brings the images that rows and shards name by their digest to where the trainer looks for them: `media` beside the file that names them.
import { createReadStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { getBlobs } from './file-set.ts';
import type { ObjectStore } from './object-store.ts';
import { readImageDigests } from './safetensors.ts';

/** @param files in one folder: rows (JSONL) or shards (safetensors). @throws AnnealError `checkpoint_corrupt` when an image is gone. */
export async function bringImages(store: ObjectStore, files: string[], signal?: AbortSignal): Promise<void> {
  const digests = new Set<string>();
  for (const file of files) {
    for (const digest of file.endsWith('.jsonl') ? await digestsOfRows(file) : await readImageDigests(file))
      digests.add(digest);
  }
  const [first] = files;
  if (first !== undefined && digests.size > 0) await getBlobs(store, digests, join(dirname(first), 'media'), signal);
}

/** Most rows have none, and are not parsed. */
async function digestsOfRows(file: string): Promise<string[]> {
  const digests: string[] = [];
  for await (const line of createInterface({ input: createReadStream(file) })) {
    if (!line.includes('"media"')) continue;
    const { media = [] } = JSON.parse(line) as { media?: { digest: string }[] };
    digests.push(...media.map(({ digest }) => digest));
  }
  return digests;
}
