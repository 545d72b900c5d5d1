// Turns in the two styles that people write them: OpenAI's (`role`, `content`) and ShareGPT's (`from`, `value`).
import type { Message } from '../contracts/rows.ts';
import { type Fields, parseJsonText, requireList, requireObject, requireText } from './fields.ts';
import { readWeight, toTurn, unknownRole } from './messages.ts';
import { toToolCall } from './tools.ts';
import type { Turn } from './turns.ts';

/** Turns of `messages`; some name them as ShareGPT does. */
export function readMessages(row: Fields, field: string): Turn[] {
  return requireList(row[field], field).map((entry, i) => {
    const at = `${field}[${i}]`;
    return isShareGptTurn(entry) ? toShareGptTurn(entry, at) : toTurn(entry, at);
  });
}

/** Turns as ShareGPT or OpenAI writes them. */
export function readConversation(value: unknown, path: string): Turn[] {
  return requireList(value, path).map((entry, i) => toShareGptTurn(entry, `${path}[${i}]`));
}

function isShareGptTurn(entry: unknown): boolean {
  return typeof entry === 'object' && entry !== null && Object.hasOwn(entry, 'from') && !Object.hasOwn(entry, 'role');
}

const SHAREGPT_ROLES: Record<string, Message['role']> = {
  system: 'system',
  developer: 'developer',
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
      ? { role, content: '', ...weight, tool_calls: toolCallsOf(content, `${at}.value`) }
      : { role, content, ...weight };
  return { message, at, field: '.value' };
}

/** ShareGPT's `function_call` is JSON text of one call, or of a list of them. */
function toolCallsOf(text: string, path: string): string {
  const value = parseJsonText(text, path);
  if (!Array.isArray(value)) return JSON.stringify([callOf(value, path)]);
  return JSON.stringify(requireList(value, path).map((call, i) => callOf(call, `${path}[${i}]`)));
}

function callOf(value: unknown, path: string): Fields {
  return toToolCall({ function: requireObject(value, path, 'wrong_type') }, path);
}
