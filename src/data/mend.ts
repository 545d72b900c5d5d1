// Mends a row that breaks a rule, where there is one way to do so without a doubt. The row itself stays as it is.
import { stepsOf } from './columns/look-up.ts';
import type { Fields } from './fields.ts';
import { mendMojibake } from './mojibake.ts';
import type { RowFault } from './turns.ts';

type Mender = (place: Place) => boolean;

/** Where the fault lies in the copy of the row. */
interface Place {
  row: Fields;
  steps: string[];
  /** What stands there. */
  value: unknown;
  /** Puts another value there. */
  put(value: unknown): void;
}

const MENDERS: Partial<Record<RowFault['code'], Mender>> = {
  wrong_type: toTextOrJson,
  unknown_role: useUsualRole,
  empty_content: takeTurnOut,
  bad_turn_order: joinOrMove,
  last_not_assistant: takeTurnOut,
  bad_weight: useUsualWeight,
  not_one_answer: keepFirstAnswer,
  mojibake: (place) => changeTexts(place, mendMojibake),
  trailing_space: (place) => changeTexts(place, (text) => text.trimEnd()),
};

/** The mended row, or null where this row cannot be mended. It may still break other rules. */
export function mend(row: Fields, fault: RowFault): Fields | null {
  const copy = structuredClone(row);
  const steps = stepsOf(fault.path);
  const last = steps.at(-1);
  const owner = steps.slice(0, -1).reduce<unknown>((value, step) => (value as Fields | undefined)?.[step], copy);
  if (last === undefined || typeof owner !== 'object' || owner === null) return null;
  const fields = owner as Fields;
  const put = (value: unknown) => {
    fields[last] = value;
  };
  const hasMended = MENDERS[fault.code]?.({ row: copy, steps, value: fields[last], put }) ?? false;
  return hasMended ? copy : null;
}

/** Numbers and truth values become text; JSON text becomes the list or object that it is. */
function toTextOrJson({ value, put }: Place): boolean {
  if (typeof value === 'number' || typeof value === 'boolean') {
    put(String(value));
    return true;
  }
  const parsed = typeof value === 'string' ? parseJson(value) : null;
  if (typeof parsed !== 'object' || parsed === null) return false;
  put(parsed);
  return true;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** What chats outside of OpenAI's and ShareGPT's call their roles. */
const USUAL_ROLES: Record<string, string> = {
  human: 'user',
  customer: 'user',
  client: 'user',
  'end-user': 'user',
  prompter: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  bing: 'assistant',
  bard: 'assistant',
  bot: 'assistant',
  chatbot: 'assistant',
  ai: 'assistant',
  model: 'assistant',
  agent: 'assistant',
  observation: 'tool',
  system: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool',
};

function useUsualRole({ value, put }: Place): boolean {
  const name = String(value).trim().toLowerCase();
  if (!Object.hasOwn(USUAL_ROLES, name) || USUAL_ROLES[name] === value) return false;
  put(USUAL_ROLES[name]);
  return true;
}

/** Of a list of turns; a chat needs one. */
function takeTurnOut({ row, steps }: Place): boolean {
  const found = turnAt(row, steps);
  if (found === null || found.list.length === 1) return false;
  found.list.splice(found.index, 1);
  return true;
}

/**
 * Turns of one role are joined by an empty line; a system turn goes to the front, behind the one that stands there; an answer to nothing,
 * such as a greeting before the first question, is left off.
 */
function joinOrMove(place: Place): boolean {
  const found = turnAt(place.row, place.steps);
  if (found === null) return false;
  const { list, index } = found;
  const [turn, before, first] = [list[index], list[index - 1], list[0]] as [Fields, Fields | undefined, Fields];
  if (before === undefined || (isSystem(before) && !isSystem(turn))) return takeTurnOut(place);
  if (isSystem(turn)) {
    list.splice(index, 1);
    return isSystem(first) ? joinTexts(first, turn) : list.unshift(turn) > 0;
  }
  if (roleOf(turn) !== roleOf(before) || !joinTexts(before, turn)) return false;
  list.splice(index, 1);
  return true;
}

function isSystem(turn: Fields): boolean {
  return roleOf(turn) === 'system' || roleOf(turn) === 'developer';
}

function roleOf(turn: Fields): unknown {
  return turn.role ?? turn.from;
}

/** Turns that hold more than text are not joined. */
function joinTexts(into: Fields, turn: Fields): boolean {
  const field = Object.hasOwn(into, 'content') ? 'content' : 'value';
  const [a, b] = [into[field], turn[field]];
  const isPlain = [into, turn].every(
    ({ tool_calls, function_call, weight }) => !(tool_calls || function_call || weight === 0),
  );
  if (typeof a !== 'string' || typeof b !== 'string' || !isPlain) return false;
  into[field] = `${a}\n\n${b}`;
  return true;
}

/** A truth value or its text becomes 0 or 1; where a turn has no weight it is taken away. */
function useUsualWeight({ row, steps, value, put }: Place): boolean {
  const word = String(value).trim().toLowerCase();
  if (['1', 'true', '1.0'].includes(word) && value !== 1) put(1);
  else if (['0', 'false', '0.0'].includes(word) && value !== 0) put(0);
  else {
    const turn = turnAt(row, steps.slice(0, -1));
    if (turn === null || roleOf(turn.list[turn.index] as Fields) === 'assistant') return false;
    delete (turn.list[turn.index] as Fields).weight;
  }
  return true;
}

/** Turns behind the answer are another conversation. */
function keepFirstAnswer({ value }: Place): boolean {
  if (!Array.isArray(value) || value.length < 2) return false;
  value.pop();
  return true;
}

/** Also of the parts of a content. */
function changeTexts({ value, put }: Place, change: (text: string) => string): boolean {
  const changed = changeIn(value, change);
  if (JSON.stringify(changed) === JSON.stringify(value)) return false;
  put(changed);
  return true;
}

function changeIn(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map((entry) => changeIn(entry, change));
  if (typeof value !== 'object' || value === null) return value;
  const { text } = value as Fields;
  return typeof text === 'string' ? { ...value, text: change(text) } : value;
}

/** The entry of a list that the path leads to or into. */
function turnAt(row: Fields, steps: string[]): { list: unknown[]; index: number } | null {
  const at = steps.findIndex((step) => /^\d+$/.test(step));
  if (at === -1) return null;
  const list = steps.slice(0, at).reduce<unknown>((value, step) => (value as Fields | undefined)?.[step], row);
  const index = Number(steps[at]);
  return Array.isArray(list) && index < list.length ? { list, index } : null;
}
