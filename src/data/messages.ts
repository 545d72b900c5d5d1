// Messages as OpenAI writes them, and what is wrong with one: role, content, weight, tool calls.
import type { Message } from '../contracts/rows.ts';
import { describe, type Fields, isPresent, parseJsonText, requireList, requireObject, requireText } from './fields.ts';
import { RowFault, type Turn } from './turns.ts';

export function readMessages(row: Fields, field: string): Turn[] {
  return requireList(row[field], field).map((entry, i) => toTurn(entry, `${field}[${i}]`));
}

const ROLES: readonly string[] = ['system', 'developer', 'user', 'assistant', 'tool'];

export function toTurn(raw: unknown, at: string): Turn {
  const entry = requireObject(raw, at, 'wrong_type');
  const named = requireText(entry.role, `${at}.role`);
  const role = named === 'function' ? 'tool' : named;
  if (!ROLES.includes(role)) throw unknownRole(`${at}.role`, role, ROLES);
  const calls = readToolCalls(entry, at);
  if (calls !== undefined && role !== 'assistant')
    throw new RowFault(
      'wrong_type',
      `${at}.tool_calls`,
      `${at}.tool_calls stands on a ${role} turn; only assistant turns call tools`,
    );
  const message: Message = {
    role: role as Message['role'],
    content: readContent(entry.content, `${at}.content`, calls !== undefined),
  };
  if (isPresent(entry.name)) message.name = requireText(entry.name, `${at}.name`);
  Object.assign(message, readWeight(entry.weight, `${at}.weight`));
  if (calls !== undefined) message.tool_calls = calls;
  if (isPresent(entry.tool_call_id)) message.tool_call_id = requireText(entry.tool_call_id, `${at}.tool_call_id`);
  return { message, at, field: '.content' };
}

/** Text, or a list of text parts, which are joined by line ends as vLLM joins them. */
function readContent(value: unknown, path: string, isOptional: boolean): string {
  if (isOptional && !isPresent(value)) return '';
  if (!Array.isArray(value)) return requireText(value, path);
  return value.map((part: unknown, i) => readPart(part, `${path}[${i}]`)).join('\n');
}

function readPart(value: unknown, path: string): string {
  const part = requireObject(value, path, 'wrong_type');
  if (part.type !== 'text')
    throw new RowFault(
      'wrong_type',
      `${path}.type`,
      `${path} must be a part of type text, found ${describe(part.type)}; only text is trained on`,
    );
  return requireText(part.text, `${path}.text`);
}

export function readWeight(value: unknown, path: string): { weight?: 0 | 1 } {
  if (!isPresent(value)) return {};
  if (value === 0 || value === 1) return { weight: value };
  throw new RowFault(
    'bad_weight',
    path,
    `${path} must be 0 or 1, found ${describe(value)}; write 0 for context and 1 for training`,
  );
}

/** OpenAI's `tool_calls`, or the `function_call` that came before it, as JSON text. */
function readToolCalls(entry: Fields, at: string): string | undefined {
  if (isPresent(entry.function_call)) {
    const path = `${at}.function_call`;
    return JSON.stringify([toToolCall({ function: entry.function_call }, path)]);
  }
  if (!isPresent(entry.tool_calls)) return undefined;
  const path = `${at}.tool_calls`;
  const value = typeof entry.tool_calls === 'string' ? parseJsonText(entry.tool_calls, path) : entry.tool_calls;
  const calls = requireList(value, path, 'empty');
  return calls.length === 0 ? undefined : JSON.stringify(calls.map((call, i) => toToolCall(call, `${path}[${i}]`)));
}

export function toToolCall(raw: unknown, path: string): Fields {
  const call = requireObject(raw, path, 'wrong_type');
  const called = requireObject(call.function, `${path}.function`, 'wrong_type');
  requireText(called.name, `${path}.function.name`);
  return Object.hasOwn(call, 'type') ? call : { type: 'function', ...call };
}

/** `tools`, or the `functions` that came before it, as JSON text. */
export function readTools(row: Fields): string | undefined {
  if (isPresent(row.functions)) {
    const functions = requireList(row.functions, 'functions', 'empty');
    return functions.length === 0
      ? undefined
      : JSON.stringify(functions.map((f) => ({ type: 'function', function: f })));
  }
  if (!isPresent(row.tools) || row.tools === '') return undefined;
  const value = typeof row.tools === 'string' ? parseJsonText(row.tools, 'tools') : row.tools;
  const tools = requireList(value, 'tools', 'empty');
  return tools.length === 0 ? undefined : JSON.stringify(tools);
}

export function unknownRole(path: string, found: string, known: readonly string[]): RowFault {
  const shown = JSON.stringify(found.slice(0, 40));
  return new RowFault('unknown_role', path, `${path} is ${shown}, which is no role; use ${known.join(', ')}`);
}
