// Maps the row shapes that people bring to the canonical chat: which fields a shape has, and what is wrong with a row of it.
import type { Message } from '../contracts/rows.ts';
import type { Source } from '../contracts/spec.ts';
import { checkTurns, RowFault, type Turn } from './turns.ts';

type Shape = Exclude<Source['shape'], 'auto'>;
type Fields = Record<string, unknown>;

export interface Chat {
  messages: Message[];
  /** JSON text. */
  tools?: string;
}

/**
 * The row as a chat, with `system` put before it when it has no system message.
 * @throws RowFault with the first thing that is wrong.
 */
export function mapRow(value: unknown, shape: Source['shape'], system: string | null): Chat {
  const row = requireObject(value, '', 'not_object');
  const found = shape === 'auto' ? detectShape(row) : shape;
  const turns = MAPPERS[found](row);
  if (system !== null && system !== '' && !isSystem(turns[0]))
    turns.unshift({ message: { role: 'system', content: system }, at: 'data.system', field: '' });
  checkTurns(turns);
  const tools = readTools(row);
  const messages = turns.map((turn) => turn.message);
  return tools === undefined ? { messages } : { messages, tools };
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
  const names = Object.keys(row).slice(0, 8).join(', ').slice(0, 120) || 'none';
  throw new RowFault(
    'unknown_shape',
    '',
    `the fields (${names}) are of no known shape; use messages, conversations, instruction and output, prompt and completion, or question and answer`,
  );
}

const MAPPERS: Record<Shape, (row: Fields) => Turn[]> = {
  messages: (row) => readMessages(row, 'messages'),
  sharegpt: mapShareGpt,
  alpaca: mapAlpaca,
  'prompt-completion': mapPromptCompletion,
  'question-answer': mapQuestionAnswer,
};

function mapShareGpt(row: Fields): Turn[] {
  const entries = requireList(row.conversations, 'conversations');
  const turns = entries.map((entry, i) => toShareGptTurn(entry, `conversations[${i}]`));
  return [...optionalSystem(row), ...turns];
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

function toShareGptTurn(raw: unknown, at: string): Turn {
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
  const instruction = requireText(row.instruction, 'instruction');
  const [inputField, input] = optionalText(row, ['input', 'context']);
  const [outputField, output] = requireOneOf(row, ['output', 'response']);
  const joined = instruction.trim() === '' || input.trim() === '' ? instruction + input : `${instruction}\n${input}`;
  return [
    ...optionalSystem(row),
    ...readHistory(row.history),
    {
      message: { role: 'user', content: joined },
      at: instruction.trim() === '' && input !== '' ? inputField : 'instruction',
      field: '',
    },
    { message: { role: 'assistant', content: output }, at: outputField, field: '' },
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
    ? readMessages(row, 'prompt').map(withoutWeight)
    : [plainTurn(row, 'prompt', 'user')];
  const completion = Array.isArray(row[completionField])
    ? readMessages(row, completionField)
    : [plainTurn(row, completionField, 'assistant')];
  return [...optionalSystem(row), ...prompt, ...completion];
}

function withoutWeight(turn: Turn): Turn {
  return turn.message.role === 'assistant' ? { ...turn, message: { ...turn.message, weight: 0 } } : turn;
}

function plainTurn(row: Fields, field: string, role: 'user' | 'assistant'): Turn {
  return { message: { role, content: requireText(row[field], field) }, at: field, field: '' };
}

function mapQuestionAnswer(row: Fields): Turn[] {
  const [questionField, question] = requireOneOf(row, ['question', 'query']);
  const [answerField, answer] = requireOneOf(row, ['answer', 'response']);
  const [, context] = optionalText(row, ['context']);
  const content = context.trim() === '' || question.trim() === '' ? question : `${context}\n\n${question}`;
  return [
    ...optionalSystem(row),
    { message: { role: 'user', content }, at: questionField, field: '' },
    { message: { role: 'assistant', content: answer }, at: answerField, field: '' },
  ];
}

function readMessages(row: Fields, field: string): Turn[] {
  return requireList(row[field], field).map((entry, i) => toTurn(entry, `${field}[${i}]`));
}

const ROLES: readonly string[] = ['system', 'developer', 'user', 'assistant', 'tool'];

function toTurn(raw: unknown, at: string): Turn {
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

function readWeight(value: unknown, path: string): { weight?: 0 | 1 } {
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

function toToolCall(raw: unknown, path: string): Fields {
  const call = requireObject(raw, path, 'wrong_type');
  const called = requireObject(call.function, `${path}.function`, 'wrong_type');
  requireText(called.name, `${path}.function.name`);
  return Object.hasOwn(call, 'type') ? call : { type: 'function', ...call };
}

/** `tools`, or the `functions` that came before it, as JSON text. */
function readTools(row: Fields): string | undefined {
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

function parseJsonText(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RowFault(
      'wrong_type',
      path,
      `${path} must be JSON or JSON text, found text that is not JSON; write it with a JSON library`,
    );
  }
}

function optionalSystem(row: Fields): Turn[] {
  if (!isPresent(row.system) || row.system === '') return [];
  return [{ message: { role: 'system', content: requireText(row.system, 'system') }, at: 'system', field: '' }];
}

function isSystem(turn: Turn | undefined): boolean {
  return turn?.message.role === 'system' || turn?.message.role === 'developer';
}

function firstPresent(row: Fields, fields: readonly [string, ...string[]]): [string, unknown] {
  const field = fields.find((name) => isPresent(row[name])) ?? fields[0];
  return [field, row[field]];
}

function requireOneOf(row: Fields, fields: readonly [string, ...string[]]): [string, string] {
  const [field, value] = firstPresent(row, fields);
  return [field, requireText(value, field)];
}

function optionalText(row: Fields, fields: readonly [string, ...string[]]): [string, string] {
  const [field, value] = firstPresent(row, fields);
  return [field, isPresent(value) ? requireText(value, field) : ''];
}

function requireText(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  if (value === undefined) throw missing(path, 'text');
  throw wrongType(path, 'text', value);
}

function requireList(value: unknown, path: string, least: 'one' | 'empty' = 'one'): unknown[] {
  if (value === undefined) throw missing(path, 'a list');
  if (!Array.isArray(value)) throw wrongType(path, 'a list', value);
  if (value.length === 0 && least === 'one')
    throw new RowFault('missing_field', path, `${path} is an empty list; fill it, or leave the row out`);
  return value;
}

function requireObject(value: unknown, path: string, code: 'not_object' | 'wrong_type'): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  if (value === undefined) throw missing(path, 'an object');
  const where = path === '' ? 'the row' : path;
  throw new RowFault(code, path, `${where} must be an object, found ${describe(value)}; write it as { … }`);
}

function missing(path: string, wanted: string): RowFault {
  return new RowFault('missing_field', path, `${path} is missing; add ${wanted}, or leave the row out`);
}

function wrongType(path: string, wanted: string, found: unknown): RowFault {
  const isPlain = typeof found === 'number' || typeof found === 'boolean';
  const fix = isPlain && wanted === 'text' ? 'put it into quotes' : `write it as ${wanted}`;
  return new RowFault('wrong_type', path, `${path} must be ${wanted}, found ${describe(found)}; ${fix}`);
}

function unknownRole(path: string, found: string, known: readonly string[]): RowFault {
  const shown = JSON.stringify(found.slice(0, 40));
  return new RowFault('unknown_role', path, `${path} is ${shown}, which is no role; use ${known.join(', ')}`);
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (value === undefined) return 'nothing';
  return `the ${typeof value === 'string' ? 'text' : typeof value} ${JSON.stringify(value).slice(0, 60)}`;
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}
