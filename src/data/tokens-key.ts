// What decides how rows become tokens, as a digest: the same rows under the same tokenizer and rules are tokenised once, by whichever run.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TooLong } from '../contracts/data-spec.ts';
import type { RowKind } from '../contracts/rows.ts';
import { digestOf, sha256Hex } from '../storage/digest.ts';

/** The files that decide how a text becomes tokens; another model with the same ones makes the same. */
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json'];
const TEMPLATE_FILES = ['chat_template.jinja', 'chat_template.json'];
/** They decide how many tokens an image is, with the kind of model that `config.json` names. */
const IMAGE_FILES = ['preprocessor_config.json', 'processor_config.json'];

export interface TokenizerDigests {
  tokenizer: string;
  /** Of the template that lies in a file of its own; one in `tokenizer_config.json` is part of `tokenizer`. */
  template: string;
}

/** @param folder of a base model. */
export async function digestTokenizer(folder: string): Promise<TokenizerDigests> {
  const reader = IMAGE_FILES.some((name) => existsSync(join(folder, name))) ? ['config.json'] : [];
  const tokenizer = await digestFiles(folder, [...TOKENIZER_FILES, ...IMAGE_FILES, ...reader]);
  return { tokenizer, template: await digestFiles(folder, TEMPLATE_FILES) };
}

export interface TokensInput extends TokenizerDigests {
  /** Of the rows of all splits, as they are handed to the tokeniser. */
  rows: string;
  maxLength: number;
  tooLong: TooLong;
  kind: RowKind;
  /** Of the code that tokenises. */
  code: string;
}

export function tokensKey(input: TokensInput): string {
  return digestOf(input);
}

async function digestFiles(folder: string, names: string[]): Promise<string> {
  const contents = await Promise.all(names.map((name) => readFile(join(folder, name)).catch(absent)));
  return digestOf(contents.map((bytes) => bytes && sha256Hex(bytes)));
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}
