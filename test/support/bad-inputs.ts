// What users get wrong, each as a spec that a run must refuse, with the kind and the one sentence that say so.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';

export interface BadInput {
  name: string;
  /** Files of the working folder that sources name. */
  files?: Record<string, string | Uint8Array>;
  spec: { model?: object; data: { sources: ({ uri: string } & Record<string, unknown>)[] } & Record<string, unknown> };
  kind: 'bad_request' | 'data_rejected';
  says: RegExp;
}

/** @param gateway something that answers HTTP and has no such page */
export function badInputs(folder: string, gateway: string): BadInput[] {
  const rows = {
    'rows.jsonl': Array.from({ length: 40 }, (_, i) => `{"question":"${i}?","answer":"${i}"}`).join('\n'),
  };
  const from = (...uris: string[]) => ({ data: { sources: uris.map((uri) => ({ uri })) } });
  return [
    {
      name: 'an address that its server does not know',
      spec: { data: { sources: [{ uri: `${gateway}/rows.jsonl`, allowPrivate: true }] } },
      kind: 'bad_request',
      says: /^Source http:\S+\/rows\.jsonl was refused by its server \(HTTP 404\); correct the address\.$/,
    },
    {
      name: 'an S3 key that is not there',
      spec: from('s3://anneal/rows/of/nobody.jsonl'),
      kind: 'bad_request',
      says: /^Source s3:\S+ is not there \(bucket anneal, key rows\/of\/nobody\.jsonl\); correct the bucket or the key\.$/,
    },
    {
      name: 'an S3 bucket that is not there',
      spec: from('s3://nowhere/rows.jsonl'),
      kind: 'bad_request',
      says: /^Source s3:\S+ is not there \(bucket nowhere, key rows\.jsonl\); correct the bucket or the key\.$/,
    },
    {
      name: 'an empty file',
      files: { ...rows, 'empty.jsonl': '' },
      spec: from('rows.jsonl', 'empty.jsonl'),
      kind: 'data_rejected',
      says: /^Source file:\S+\/empty\.jsonl is empty; put rows into it, or take it out of `data\.sources`\.$/,
    },
    {
      name: 'a file of blank lines',
      files: { 'blank.csv': '\ufeff\r\n  \r\n' },
      spec: from('blank.csv'),
      kind: 'data_rejected',
      says: /blank\.csv is empty/,
    },
    {
      name: 'an address of the own network',
      spec: from(`${gateway}/rows.jsonl`),
      kind: 'bad_request',
      says: /^Source http:\S+ leads to the private address 127\.0\.0\.1, which is refused; set `allowPrivate: true` on the source if it is yours\.$/,
    },
    {
      name: 'a packed file that is torn',
      files: { 'rows.jsonl.gz': gzipSync('{"question":"1?","answer":"1"}').subarray(0, 20) },
      spec: from('rows.jsonl.gz'),
      kind: 'data_rejected',
      says: /rows\.jsonl\.gz is no whole gzip file \(Z_BUF_ERROR after \d+ unpacked bytes\); write it again\.$/,
    },
    {
      name: 'a file in another encoding',
      files: { 'latin.csv': Buffer.from('frage,antwort\nGröße?,Maß\nFüße?,Schuß\nÄpfel?,süß\n', 'latin1') },
      spec: from('latin.csv'),
      kind: 'data_rejected',
      says: /latin\.csv is not UTF-8 and looks like cp1252; set `encoding: cp1252` on it to have it converted, or save it as UTF-8\.$/,
    },
    {
      name: 'a CSV with a broken quote in its header',
      files: { 'header.csv': 'question,"answer\na,b\n' },
      spec: from('header.csv'),
      kind: 'data_rejected',
      says: /^The CSV header of header\.csv \(line 1\) cannot be used: the quote that opens on line 1 is not closed; close it, and double the quotes inside the field\.$/,
    },
    {
      name: 'a CSV whose only row has a broken quote',
      files: { 'quote.csv': 'question,answer\nwhat?,"that\n' },
      spec: from('quote.csv'),
      kind: 'data_rejected',
      says: /^No row can be trained on \(1 rows? read, .*csv_unterminated_quote 1\).*quote\.csv line 2: the quote that opens on line 2 is not closed/,
    },
    {
      name: 'rows that are too few to be split',
      files: { 'two.jsonl': '{"question":"1?","answer":"1"}\n{"question":"2?","answer":"2"}\n' },
      spec: from('two.jsonl'),
      kind: 'data_rejected',
      says: /^No row is left for the split .*add rows/,
    },
    {
      name: 'rows that are all too long',
      files: rows,
      spec: { data: { ...from('rows.jsonl').data, maxLength: 8 } },
      kind: 'data_rejected',
      says: /^No row can be trained on .*too_long 40.*`data\.maxLength`/,
    },
    {
      name: 'a base model folder without a tokenizer',
      files: rows,
      spec: { model: { base: modelWithoutTokenizer(folder) }, ...from('rows.jsonl') },
      kind: 'bad_request',
      says: /^`model\.base` \S+ in \S+ lacks a tokenizer \(tokenizer\.json\); add it or name another model\.$/,
    },
    {
      name: 'a base model that nobody has',
      files: rows,
      spec: { model: { base: 'tyni' }, ...from('rows.jsonl') },
      kind: 'bad_request',
      says: /^`model\.base` tyni is not a folder .*known are .*tiny.*Name one of them or give an absolute path\.$/,
    },
  ];
}

function modelWithoutTokenizer(folder: string): string {
  const broken = join(folder, 'model-without-tokenizer');
  mkdirSync(broken, { recursive: true });
  for (const file of ['config.json', 'model.safetensors']) {
    copyFileSync(join(PROJECT_FOLDER, '.anneal', 'models', 'tiny', file), join(broken, file));
  }
  return broken;
}

/** Writes the files of the input and its spec; gives the spec's path. */
export function writeBadInput(folder: string, number: number, { files = {}, spec }: BadInput): string {
  const own = join(folder, `bad-${number}`);
  mkdirSync(own, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(own, name), content);
  const path = join(own, 'spec.json');
  writeFileSync(path, JSON.stringify({ name: `bad-${number}`, model: { base: 'tiny' }, ...spec }));
  return path;
}
