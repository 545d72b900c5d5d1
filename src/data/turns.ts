// The rules that a chat must keep to be trained on, each with its code and a sentence that says how to mend the row.
import { toUSVString } from 'node:util';
import type { DropCode, Message } from '../contracts/rows.ts';
import { holdsMojibake } from './mojibake.ts';

/** Why a row is dropped: `path` inside the row, and a sentence without the row's place. */
export class RowFault extends Error {
  readonly code: DropCode;
  readonly path: string;
  /** What the rule wants there and what it found, where it is one thing. */
  readonly mismatch: Mismatch | null;

  constructor(code: DropCode, path: string, message: string, mismatch: Mismatch | null = null) {
    // Nobody reads the stack of a row's fault, and to take one costs as much as cleaning twenty rows.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(message);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = 'RowFault';
    this.code = code;
    this.path = path;
    this.mismatch = mismatch;
  }
}

export interface Mismatch {
  expected: string;
  found: string;
}

/** A message and where it stands in the row: `at` is the entry, `at + field` its text. */
export interface Turn {
  message: Message;
  at: string;
  field: string;
  /** Addresses of the images that the turn's parts name, in the order of the tags in its text. */
  images?: string[];
}

/** How broken rules are taken. */
export interface Judge {
  /** Throws the fault, or notes it where a row that breaks the rule is kept as it is. */
  take(fault: RowFault): void;
  /** Whether a rule is looked at that is only looked at on request. */
  asks(code: DropCode): boolean;
}

/** @throws RowFault for the first rule that is broken, unless the judge lets it pass. */
export function checkTurns(turns: Turn[], judge: Judge): void {
  for (const turn of turns) checkContent(turn, judge);
  for (const [i, turn] of turns.entries()) checkCalls(turns, turn, i, judge);
  for (const [i, turn] of turns.entries()) checkOrder(turns[i - 1] ?? null, turn, judge);
  const last = turns.at(-1);
  if (last === undefined || last.message.role !== 'assistant') judge.take(lastNotAssistant(last));
  if (turns.every(({ message }) => message.role !== 'assistant' || message.weight === 0)) {
    const sentence = turns.some(({ message }) => message.role === 'assistant')
      ? 'every assistant turn has weight 0, so nothing would be trained; give one the weight 1'
      : 'no turn is the assistant’s, so nothing would be trained; add the answer';
    throw new RowFault('no_trainable_turn', '', sentence);
  }
}

function checkContent({ message, at, field }: Turn, judge: Judge): void {
  const path = at + field;
  checkText(message.content, path, judge);
  if (message.reasoning_content !== undefined) checkText(message.reasoning_content, `${at}.reasoning_content`, judge);
  const mayBeEmpty = message.role === 'tool' || message.tool_calls !== undefined;
  if (!mayBeEmpty && message.content.trim() === '')
    judge.take(new RowFault('empty_content', path, `${path} is empty; write the text, or leave the row out`));
  if (message.weight !== undefined && message.role !== 'assistant')
    throw new RowFault(
      'bad_weight',
      `${at}.weight`,
      `${at}.weight stands on a ${message.role} turn; only assistant turns have a weight, take it away`,
    );
  if (message.role === 'assistant' && judge.asks('trailing_space') && message.content.trimEnd() !== message.content)
    judge.take(
      new RowFault('trailing_space', path, `${path} ends in white space, which the model would learn; take it away`),
    );
}

/** Also of texts without turns. */
export function checkText(text: string, path: string, judge: Judge): void {
  if (toUSVString(text) !== text)
    throw new RowFault(
      'invalid_utf8',
      path,
      `${path} holds half a surrogate pair, which is no character; write it anew`,
    );
  if (judge.asks('mojibake') && holdsMojibake(text))
    judge.take(
      new RowFault('mojibake', path, `${path} is UTF-8 that was read as CP1252 (such as Ã© for é); read it as UTF-8`),
    );
}

/** The results that follow a call must be its own, and every call has one unless the row ends with it. */
function checkCalls(turns: Turn[], { message, at }: Turn, i: number, judge: Judge): void {
  const before = turns[i - 1]?.message;
  if (message.role === 'tool' && before?.role !== 'tool' && before?.tool_calls === undefined)
    judge.take(
      new RowFault(
        'tool_result_without_call',
        at,
        `${at} is a tool turn, but no assistant turn with tool_calls stands before it; add one`,
      ),
    );
  if (message.tool_calls === undefined || i === turns.length - 1) return;
  const results = resultsBehind(turns, i);
  if (results.length === 0) judge.take(callWithoutResult(at, 'its tool call'));
  else matchIds(message.tool_calls, at, results, judge);
}

function resultsBehind(turns: Turn[], call: number): Turn[] {
  const end = turns.findIndex(({ message }, i) => i > call && message.role !== 'tool');
  return turns.slice(call + 1, end === -1 ? turns.length : end);
}

/** By id, where all have one: many sets give none, and some answer several calls by one result. */
function matchIds(callsText: string, at: string, results: Turn[], judge: Judge): void {
  const calls = (JSON.parse(callsText) as { id?: unknown }[]).map(({ id }) => id);
  const answered = results.map(({ message }) => message.tool_call_id);
  if (calls.some((id) => typeof id !== 'string') || answered.includes(undefined)) return;
  const stray = results.find(({ message }) => !calls.includes(message.tool_call_id));
  if (stray !== undefined) {
    const path = `${stray.at}.tool_call_id`;
    const sentence = `${path} is ${JSON.stringify(stray.message.tool_call_id)}, but the calls before it are ${calls.join(', ')}; name one of them`;
    judge.take(new RowFault('tool_result_without_call', path, sentence));
  }
  const open = calls.find((id) => !answered.includes(id as string));
  if (open !== undefined) judge.take(callWithoutResult(at, `the tool call ${JSON.stringify(open)}`));
}

function callWithoutResult(at: string, call: string): RowFault {
  const sentence = `${at} has a tool call without a result: no tool turn answers ${call}; add one behind it`;
  return new RowFault('tool_call_without_result', at, sentence);
}

/** What may stand before each role; tool turns are told by their calls. */
function checkOrder(before: Turn | null, { message, at }: Turn, judge: Judge): void {
  const previous = before?.message.role ?? null;
  const isLead = previous === null || previous === 'system' || previous === 'developer';
  switch (message.role) {
    case 'system':
    case 'developer':
      if (previous !== null) judge.take(badOrder(at, `${message.role} turn`, 'it must be the first; move it there'));
      return;
    case 'user':
      if (!isLead && previous !== 'assistant')
        judge.take(
          badOrder(at, 'user turn', `it follows a ${previous} turn; join the two, or add the answer between them`),
        );
      return;
    case 'assistant':
      if (previous === 'user' || previous === 'tool' || before?.message.tool_calls !== undefined) return;
      judge.take(
        badOrder(
          at,
          'assistant turn',
          previous === 'assistant'
            ? 'it follows an assistant turn; join the two'
            : 'no user turn stands before it; add one',
        ),
      );
      return;
    case 'tool':
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
