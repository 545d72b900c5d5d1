// The card of a dataset as it lies in the store: one set of three files.
import type { FileSet } from '../../contracts/records.ts';
import { sha256Hex } from '../../storage/digest.ts';
import { fileSetOf, putBlob } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { BuiltCard } from './card.ts';

export const CARD_FILES = { json: 'card.json', markdown: 'card.md', html: 'card.html' } as const;

export async function storeCard(store: ObjectStore, { json, markdown, html }: BuiltCard): Promise<FileSet> {
  const texts: [string, string][] = [
    [CARD_FILES.json, `${JSON.stringify(json)}\n`],
    [CARD_FILES.markdown, markdown],
    [CARD_FILES.html, html],
  ];
  const files: FileSet['files'] = [];
  for (const [path, text] of texts) {
    const bytes = Buffer.from(text);
    files.push({ path, size: bytes.length, sha256: sha256Hex(bytes), parts: [await putBlob(store, bytes)] });
  }
  return fileSetOf(files);
}
