// Tools: their definitions and the calls of them, as JSON text, and what is wrong with one.
import { describe, type Fields, isPresent, parseJsonText, requireList, requireObject, requireText } from './fields.ts';
import { type Judge, RowFault } from './turns.ts';

/** OpenAI's `tool_calls`, or the `function_call` that came before it. */
export function readToolCalls(entry: Fields, at: string): string | undefined {
  if (isPresent(entry.function_call)) {
    const path = `${at}.function_call`;
    return JSON.stringify([toToolCall({ function: entry.function_call }, path)]);
  }
  if (!isPresent(entry.tool_calls)) return undefined;
  const path = `${at}.tool_calls`;
  const calls = requireList(entry.tool_calls, path, 'empty');
  return calls.length === 0 ? undefined : JSON.stringify(calls.map((call, i) => toToolCall(call, `${path}[${i}]`)));
}

export function toToolCall(raw: unknown, path: string): Fields {
  const call = withFunction(requireObject(raw, path, 'wrong_type'));
  const called = requireObject(call.function, `${path}.function`, 'wrong_type');
  requireText(called.name, `${path}.function.name`);
  checkArguments(called.arguments, `${path}.function.arguments`);
  return Object.hasOwn(call, 'type') ? call : { type: 'function', ...call };
}

/** Open sets leave OpenAI's frame out, as they do with the definitions. */
function withFunction(call: Fields): Fields {
  if (Object.hasOwn(call, 'function') || !Object.hasOwn(call, 'name')) return call;
  const { name, arguments: given, ...frame } = call;
  return { ...frame, function: given === undefined ? { name } : { name, arguments: given } };
}

/** Templates write them as JSON, so that text must be JSON already. */
function checkArguments(value: unknown, path: string): void {
  if (typeof value === 'string') parseJsonText(value, path);
}

/** `tools`, or the `functions` that came before it. */
export function readTools(row: Fields, judge: Judge): string | undefined {
  const [field, tools] = isPresent(row.functions)
    ? (['functions', requireList(row.functions, 'functions', 'empty')] as const)
    : (['tools', readToolList(row.tools)] as const);
  for (const [i, tool] of tools.entries()) checkTool(tool, `${field}[${i}]`, judge);
  checkNames(tools, field, judge);
  if (tools.length === 0) return undefined;
  return JSON.stringify(field === 'functions' ? tools.map((f) => ({ type: 'function', function: f })) : tools);
}

function readToolList(value: unknown): unknown[] {
  if (!isPresent(value) || value === '') return [];
  return requireList(value, 'tools', 'empty');
}

/** OpenAI's definition, or its `function` alone, as most open sets have it. */
function checkTool(tool: unknown, path: string, judge: Judge): void {
  const problem = toolProblem(tool, path);
  if (problem === null) return;
  judge.take(new RowFault('bad_tool_schema', problem.path, `${problem.path} ${problem.what}`));
}

interface Problem {
  path: string;
  what: string;
}

function toolProblem(tool: unknown, path: string): Problem | null {
  if (!isObject(tool)) return { path, what: `must be an object, found ${describe(tool)}; write it as { … }` };
  const isWrapped = Object.hasOwn(tool, 'function');
  const at = isWrapped ? `${path}.function` : path;
  const definition = isWrapped ? tool.function : tool;
  if (!isObject(definition))
    return {
      path: at,
      what: `must be an object, found ${describe(definition)}; write { name, description, parameters }`,
    };
  if (typeof definition.name !== 'string' || definition.name.trim() === '')
    return { path: `${at}.name`, what: `must be the tool's name, found ${describe(definition.name)}; add it` };
  return isPresent(definition.parameters) ? schemaProblem(definition.parameters, `${at}.parameters`) : null;
}

function schemaProblem(schema: unknown, path: string): Problem | null {
  if (!isObject(schema)) return { path, what: `must be a JSON schema, found ${describe(schema)}; write it as { … }` };
  const { type, properties, required } = schema;
  // A parameter may itself be called `type`, `properties` or `required` where the schema's frame is left out.
  if (typeof type !== 'string') return null;
  if (type !== 'object')
    return { path: `${path}.type`, what: `must be "object", found ${describe(type)}; arguments are an object` };
  if (isPresent(properties) && !isObject(properties))
    return {
      path: `${path}.properties`,
      what: `must be an object, found ${describe(properties)}; write one entry a name`,
    };
  return isPresent(required) ? requiredProblem(required, properties ?? {}, `${path}.required`) : null;
}

function requiredProblem(required: unknown, properties: object, path: string): Problem | null {
  if (!Array.isArray(required) || required.some((name) => typeof name !== 'string'))
    return { path, what: `must be a list of names, found ${describe(required)}; write ["name"]` };
  const unknown = required.find((name: string) => !Object.hasOwn(properties, name));
  if (unknown === undefined) return null;
  return { path, what: `names ${JSON.stringify(unknown)}, which is no property; add it to properties` };
}

function checkNames(tools: unknown[], field: string, judge: Judge): void {
  const names = tools.map(nameOf);
  const twice = names.findIndex((name, i) => name !== null && names.indexOf(name) !== i);
  if (twice === -1) return;
  const path = `${field}[${twice}]`;
  const sentence = `${path} is another tool of the name ${JSON.stringify(names[twice])}; rename one`;
  judge.take(new RowFault('bad_tool_schema', path, sentence));
}

function nameOf(tool: unknown): string | null {
  if (!isObject(tool)) return null;
  const definition = isObject(tool.function) ? tool.function : tool;
  return typeof definition.name === 'string' ? definition.name : null;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
