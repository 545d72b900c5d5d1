// The rules that a chat must keep to be trained on, each with its code and a sentence that says how to mend the row.
import { toUSVString } from 'node:util';
import type { DropCode, Message } from '../contracts/rows.ts';

/** Why a row is dropped: `path` inside the row, and a sentence without the row's place. */
export class RowFault extends Error {
  readonly code: DropCode;
  readonly path: string;

  constructor(code: DropCode, path: string, message: string) {
    super(message);
    this.name = 'RowFault';
    this.code = code;
    this.path = path;
  }
}

/** A message and where it stands in the row: `at` is the entry, `at + field` its text. */
export interface Turn {
  message: Message;
  at: string;
  field: string;
}

/** @throws RowFault for the first rule that is broken. */
export function checkTurns(turns: Turn[]): void {
  for (const turn of turns) checkContent(turn);
  for (const [i, turn] of turns.entries()) checkOrder(turns[i - 1] ?? null, turn);
  const last = turns.at(-1);
  if (last === undefined || last.message.role !== 'assistant') throw lastNotAssistant(last);
  if (turns.every(({ message }) => message.role !== 'assistant' || message.weight === 0)) {
    const sentence = 'every assistant turn has weight 0, so nothing would be trained; give one the weight 1';
    throw new RowFault('no_trainable_turn', '', sentence);
  }
}

function checkContent({ message, at, field }: Turn): void {
  const path = at + field;
  if (toUSVString(message.content) !== message.content)
    throw new RowFault(
      'invalid_utf8',
      path,
      `${path} holds half a surrogate pair, which is no character; write it anew`,
    );
  const mayBeEmpty = message.role === 'tool' || message.tool_calls !== undefined;
  if (!mayBeEmpty && message.content.trim() === '')
    throw new RowFault('empty_content', path, `${path} is empty; write the text, or leave the row out`);
  if (message.weight !== undefined && message.role !== 'assistant')
    throw new RowFault(
      'bad_weight',
      `${at}.weight`,
      `${at}.weight stands on a ${message.role} turn; only assistant turns have a weight, take it away`,
    );
}

/** What may stand before each role. */
function checkOrder(before: Turn | null, { message, at }: Turn): void {
  const previous = before?.message.role ?? null;
  const isLead = previous === null || previous === 'system' || previous === 'developer';
  const called = before?.message.tool_calls !== undefined;
  switch (message.role) {
    case 'system':
    case 'developer':
      if (previous !== null) throw badOrder(at, `${message.role} turn`, 'it must be the first; move it there');
      return;
    case 'user':
      if (!isLead && previous !== 'assistant')
        throw badOrder(at, 'user turn', `it follows a ${previous} turn; join the two, or add the answer between them`);
      if (called) throw badOrder(at, 'user turn', 'it follows a tool call without a result; add the tool turn');
      return;
    case 'assistant':
      if (previous !== 'user' && previous !== 'tool')
        throw badOrder(
          at,
          'assistant turn',
          previous === 'assistant'
            ? 'it follows an assistant turn; join the two'
            : 'no user turn stands before it; add one',
        );
      return;
    case 'tool':
      if (previous !== 'tool' && !called)
        throw badOrder(at, 'tool turn', 'no assistant turn with tool_calls stands before it; add one');
      return;
    default:
      message.role satisfies never;
  }
}

function badOrder(at: string, what: string, why: string): RowFault {
  const article = what.startsWith('a') ? 'an' : 'a';
  return new RowFault('bad_turn_order', at, `${at} is ${article} ${what} out of order: ${why}`);
}

function lastNotAssistant(last: Turn | undefined): RowFault {
  const found = last === undefined ? 'there are no turns' : `${last.at} is a ${last.message.role} turn`;
  return new RowFault(
    'last_not_assistant',
    last?.at ?? '',
    `the last turn must be the assistant's, but ${found}; add the answer`,
  );
}
