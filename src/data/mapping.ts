// Decides what a source row becomes for a training method: a chat, a pair or a judged answer, or a fault that says why not.

import type { Source } from '../contracts/data-spec.ts';
import { type Method, ROW_KINDS } from '../contracts/rows.ts';
import { type Fields, requireObject } from './fields.ts';
import {
  type Judged,
  looksLikeJudged,
  looksLikePair,
  mapChosen,
  mapJudged,
  mapPair,
  type Pair,
} from './preferences.ts';
import { type Chat, type ChatShape, looksLikeChat, mapChat, unknownShape } from './shapes.ts';
import { RowFault } from './turns.ts';

/** A row without its id, group and place; keys in the order of the contract. */
export type Content = Chat | Pair | Judged;

export interface Mapping {
  method: Method;
  shape: Source['shape'];
  /** System message put before rows that have none. */
  system: string | null;
}

/** @throws RowFault with the first thing that is wrong. */
export function mapRow(value: unknown, { method, shape, system }: Mapping): Content {
  const row = requireObject(value, '', 'not_object');
  const kind = ROW_KINDS[method];
  switch (kind) {
    case 'chat':
      if (shape === 'preference') return mapChosen(row, system);
      if (shape === 'auto') refusePair(row);
      return mapChat(row, shape as ChatShape, system);
    case 'pair':
      if (shape === 'auto') requirePair(row, method);
      return mapPair(row, system);
    case 'judged':
      if (shape === 'auto') requireJudged(row);
      return mapJudged(row, system);
    default:
      return kind satisfies never;
  }
}

/** Some sets have both: the pair, and `messages` with the better answer for those who want chats. */
function refusePair(row: Fields): void {
  if (!looksLikePair(row) || Object.hasOwn(row, 'messages')) return;
  throw notForMethod(
    'the row is a pair of answers, and `train.method: sft` learns from chats; set `train.method` to dpo or reward, or the source’s `shape` to preference to learn the chosen answers',
  );
}

function requirePair(row: Fields, method: Method): void {
  if (looksLikePair(row)) return;
  const learns = `and \`train.method: ${method}\` learns from pairs; add chosen and rejected`;
  if (looksLikeJudged(row))
    throw notForMethod(`the row is an answer with a label, ${learns}, or set \`train.method: kto\``);
  if (looksLikeChat(row)) throw notForMethod(`the row is a chat, ${learns}, or set \`train.method: sft\``);
  throw unknownShape(row, 'prompt, chosen and rejected, or input, preferred_output and non_preferred_output');
}

function requireJudged(row: Fields): void {
  if (looksLikePair(row))
    throw notForMethod(
      'the row is a pair of answers, and `train.method: kto` learns from single ones; set `train.method` to dpo or reward, or write each answer as a row with prompt, completion and label',
    );
  if (!looksLikeChat(row)) throw unknownShape(row, 'prompt, completion and label');
}

function notForMethod(sentence: string): RowFault {
  return new RowFault('not_for_method', '', sentence);
}
