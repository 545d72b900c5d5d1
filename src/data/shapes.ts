// Maps the shapes of chats that people bring to the canonical chat: which fields a shape has, and what is wrong with a row of it.

import type { Source } from '../contracts/data-spec.ts';
import type { Message } from '../contracts/rows.ts';
import {
  type Fields,
  firstPresent,
  isPresent,
  optionalText,
  parseJsonText,
  requireList,
  requireObject,
  requireOneOf,
  requireText,
  wrongType,
} from './fields.ts';
import { readMessages, readTools, readWeight, toToolCall, toTurn, unknownRole } from './messages.ts';
import { checkTurns, RowFault, type Turn } from './turns.ts';

export type ChatShape = Exclude<Source['shape'], 'preference' | 'kto'>;
type Shape = Exclude<ChatShape, 'auto'>;

export interface Chat {
  messages: Message[];
  /** JSON text. */
  tools?: string;
}

/**
 * The row as a chat, with `system` put before it when it has no system message.
 * @throws RowFault with the first thing that is wrong.
 */
export function mapChat(row: Fields, shape: ChatShape, system: string | null): Chat {
  const found = shape === 'auto' ? detectShape(row) : shape;
  const turns = withSystem(MAPPERS[found](row), system);
  checkTurns(turns);
  return withTools({ messages: turns.map((turn) => turn.message) }, readTools(row));
}

export function withSystem(turns: Turn[], system: string | null): Turn[] {
  if (system === null || system === '' || isSystem(turns[0])) return turns;
  return [{ message: { role: 'system', content: system }, at: 'data.system', field: '' }, ...turns];
}

export function withTools<T extends object>(content: T, tools: string | undefined): T & { tools?: string } {
  return tools === undefined ? content : { ...content, tools };
}

/** Field names that tell a shape, in the order in which they are looked for. */
const SIGNS: readonly (readonly [string, Shape])[] = [
  ['messages', 'messages'],
  ['conversations', 'sharegpt'],
  ['instruction', 'alpaca'],
  ['prompt', 'prompt-completion'],
  ['completion', 'prompt-completion'],
  ['question', 'question-answer'],
  ['query', 'question-answer'],
  ['answer', 'question-answer'],
  ['response', 'question-answer'],
  ['output', 'alpaca'],
];

/** @throws RowFault `unknown_shape`. */
function detectShape(row: Fields): Shape {
  const sign = SIGNS.find(([field]) => Object.hasOwn(row, field));
  if (sign !== undefined) return sign[1];
  throw unknownShape(
    row,
    'messages, conversations, instruction and output, prompt and completion, or question and answer',
  );
}

export function looksLikeChat(row: Fields): boolean {
  return SIGNS.some(([field]) => Object.hasOwn(row, field));
}

export function unknownShape(row: Fields, known: string): RowFault {
  const names = Object.keys(row).slice(0, 8).join(', ').slice(0, 120) || 'none';
  return new RowFault('unknown_shape', '', `the fields (${names}) are of no known shape; use ${known}`);
}

const MAPPERS: Record<Shape, (row: Fields) => Turn[]> = {
  messages: (row) => readMessages(row, 'messages'),
  sharegpt: mapShareGpt,
  alpaca: mapAlpaca,
  'prompt-completion': mapPromptCompletion,
  'question-answer': mapQuestionAnswer,
};

function mapShareGpt(row: Fields): Turn[] {
  return [...optionalSystem(row), ...readConversation(row.conversations, 'conversations')];
}

/** Turns as ShareGPT or OpenAI writes them. */
export function readConversation(value: unknown, path: string): Turn[] {
  return requireList(value, path).map((entry, i) => toShareGptTurn(entry, `${path}[${i}]`));
}

const SHAREGPT_ROLES: Record<string, Message['role']> = {
  system: 'system',
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  assistant: 'assistant',
  function_call: 'assistant',
  observation: 'tool',
  tool: 'tool',
};

export function toShareGptTurn(raw: unknown, at: string): Turn {
  const entry = requireObject(raw, at, 'wrong_type');
  if (Object.hasOwn(entry, 'role') && !Object.hasOwn(entry, 'from')) return toTurn(entry, at);
  const from = requireText(entry.from, `${at}.from`);
  const role = Object.hasOwn(SHAREGPT_ROLES, from) ? SHAREGPT_ROLES[from] : undefined;
  if (role === undefined) throw unknownRole(`${at}.from`, from, Object.keys(SHAREGPT_ROLES));
  const content = requireText(entry.value, `${at}.value`);
  const weight = readWeight(entry.weight, `${at}.weight`);
  const message: Message =
    from === 'function_call'
      ? { role, content: '', ...weight, tool_calls: toolCallOf(content, `${at}.value`) }
      : { role, content, ...weight };
  return { message, at, field: '.value' };
}

/** ShareGPT's `function_call` is JSON text of one call. */
function toolCallOf(text: string, path: string): string {
  const call = requireObject(parseJsonText(text, path), path, 'wrong_type');
  return JSON.stringify([toToolCall({ function: call }, path)]);
}

function mapAlpaca(row: Fields): Turn[] {
  const prompt = readAlpacaPrompt(row);
  const [outputField, output] = requireOneOf(row, ['output', 'response']);
  return [...prompt, { message: { role: 'assistant', content: output }, at: outputField, field: '' }];
}

export function readAlpacaPrompt(row: Fields): Turn[] {
  const instruction = requireText(row.instruction, 'instruction');
  const [inputField, input] = optionalText(row, ['input', 'context']);
  const joined = instruction.trim() === '' || input.trim() === '' ? instruction + input : `${instruction}\n${input}`;
  return [
    ...optionalSystem(row),
    ...readHistory(row.history),
    {
      message: { role: 'user', content: joined },
      at: instruction.trim() === '' && input !== '' ? inputField : 'instruction',
      field: '',
    },
  ];
}

/** Earlier turns as pairs of question and answer. */
function readHistory(value: unknown): Turn[] {
  if (value === undefined || value === null || value === '') return [];
  return requireList(value, 'history', 'empty').flatMap((pair, i) => {
    const path = `history[${i}]`;
    const both = requireList(pair, path);
    if (both.length !== 2) throw wrongType(path, 'a pair of question and answer', pair);
    return both.map((text, j): Turn => {
      const at = `${path}[${j}]`;
      return { message: { role: j === 0 ? 'user' : 'assistant', content: requireText(text, at) }, at, field: '' };
    });
  });
}

/** Only the completion is trained on: assistant turns of a prompt have the weight 0. */
function mapPromptCompletion(row: Fields): Turn[] {
  const [completionField] = firstPresent(row, ['completion', 'response']);
  const prompt = Array.isArray(row.prompt)
    ? readMessages(row, 'prompt').map(asContext)
    : [plainTurn(row, 'prompt', 'user')];
  const completion = Array.isArray(row[completionField])
    ? readMessages(row, completionField)
    : [plainTurn(row, completionField, 'assistant')];
  return [...optionalSystem(row), ...prompt, ...completion];
}

export function asContext(turn: Turn): Turn {
  return turn.message.role === 'assistant' ? { ...turn, message: { ...turn.message, weight: 0 } } : turn;
}

export function plainTurn(row: Fields, field: string, role: 'user' | 'assistant'): Turn {
  return { message: { role, content: requireText(row[field], field) }, at: field, field: '' };
}

function mapQuestionAnswer(row: Fields): Turn[] {
  const prompt = readQuestionPrompt(row);
  const [answerField, answer] = requireOneOf(row, ['answer', 'response']);
  return [...prompt, { message: { role: 'assistant', content: answer }, at: answerField, field: '' }];
}

export function readQuestionPrompt(row: Fields): Turn[] {
  const [questionField, question] = requireOneOf(row, ['question', 'query']);
  const [, context] = optionalText(row, ['context']);
  const content = context.trim() === '' || question.trim() === '' ? question : `${context}\n\n${question}`;
  return [...optionalSystem(row), { message: { role: 'user', content }, at: questionField, field: '' }];
}

export function optionalSystem(row: Fields): Turn[] {
  if (!isPresent(row.system) || row.system === '') return [];
  return [{ message: { role: 'system', content: requireText(row.system, 'system') }, at: 'system', field: '' }];
}

function isSystem(turn: Turn | undefined): boolean {
  return turn?.message.role === 'system' || turn?.message.role === 'developer';
}
