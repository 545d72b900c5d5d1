// Walks the texts of a row, the values inside its JSON texts included, and puts others in their place.
// Names of fields, roles, ids of tool calls and images are no texts.
import type { Fields } from '../fields.ts';
import type { Content } from '../mapping.ts';

/** `name` is the field of a JSON text that has the value; empty elsewhere. */
export type TextVisitor = (text: string, path: string, name: string) => string;

const NOT_TEXTS: readonly string[] = ['role', 'type', 'tool_call_id', 'media'];
/** Fields that hold JSON text. */
const JSON_TEXTS: readonly string[] = ['tools', 'tool_calls'];

/** What the answer to a tool call refers to. */
const CALL_ID = /(?:^|\.)tool_calls\[\d+\]\.id$/;

/** JSON text inside JSON text is looked into this deep; tool calls have it once. */
const NESTING_MAX = 4;

/** The same object when no text was replaced. */
export function replaceTexts(content: Content, visit: TextVisitor): Content {
  return replaceFields(content, '', (value, path, name) => {
    if (typeof value !== 'string') return value;
    return JSON_TEXTS.includes(name) ? replaceInJson(value, path, '', visit, NESTING_MAX) : visit(value, path, '');
  }) as Content;
}

type Leaf = (value: string | number | boolean | null, path: string, name: string) => unknown;

function replaceFields(value: unknown, path: string, leaf: Leaf, name = ''): unknown {
  if (typeof value !== 'object' || value === null) return leaf(value as string, path, name);
  return Array.isArray(value) ? replaceEntries(value, path, leaf, name) : replaceObject(value as Fields, path, leaf);
}

function replaceEntries(entries: unknown[], path: string, leaf: Leaf, name: string): unknown[] {
  let replaced = entries;
  for (let i = 0; i < entries.length; i++) {
    const entry = replaceFields(entries[i], `${path}[${i}]`, leaf, name);
    if (entry === entries[i]) continue;
    if (replaced === entries) replaced = [...entries];
    replaced[i] = entry;
  }
  return replaced;
}

function replaceObject(fields: Fields, path: string, leaf: Leaf): Fields {
  let replaced = fields;
  for (const key of Object.keys(fields)) {
    if (NOT_TEXTS.includes(key)) continue;
    const field = replaceFields(fields[key], path === '' ? key : `${path}.${key}`, leaf, key);
    if (field === fields[key]) continue;
    if (replaced === fields) replaced = { ...fields };
    replaced[key] = field;
  }
  return replaced;
}

/** Numbers, too: a card number may stand as one. */
function replaceInJson(text: string, path: string, name: string, visit: TextVisitor, nesting: number): string {
  const parsed = nesting > 0 && /^\s*[[{]/.test(text) ? tryParse(text) : undefined;
  if (parsed === undefined) return visit(text, path, name);
  const replaced = replaceFields(parsed, path, (value, at, field) => {
    if (CALL_ID.test(at)) return value;
    if (typeof value === 'number') return replaceNumber(value, at, field, visit);
    return typeof value === 'string' ? replaceInJson(value, at, field, visit, nesting - 1) : value;
  });
  return replaced === parsed ? text : JSON.stringify(replaced);
}

function replaceNumber(value: number, path: string, name: string, visit: TextVisitor): unknown {
  const text = String(value);
  const replaced = visit(text, path, name);
  return replaced === text ? value : replaced;
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
