// Gives the turns of a source their usual names: fields `role` and `content`, and roles as OpenAI calls them.
import type { Columns, ColumnTarget, Roles, TurnFields } from '../../contracts/column-map.ts';
import { parseTemplate, wholeColumn } from '../../contracts/template.ts';
import { type Fields, requireList } from '../fields.ts';
import { RowFault } from '../turns.ts';

/** Fields of a row that may be a list of turns. */
const TURN_LISTS = ['messages', 'conversations', 'prompt', 'completion', 'chosen', 'rejected'] as const;

export function createTurnNames(turns: TurnFields | null, roles: Roles): (row: Fields) => Fields {
  if (turns === null && Object.keys(roles).length === 0) return (row) => row;
  return (row) => {
    const lists = TURN_LISTS.filter((field) => isTurnList(field, row[field]));
    const renamed = lists.map((field) => [
      field,
      requireList(row[field], field, 'empty').map((entry) => rename(entry, turns, roles)),
    ]);
    return { ...row, ...Object.fromEntries(renamed) };
  };
}

/** Text of a prompt or an answer is a text, whatever it begins with. */
function isTurnList(field: string, value: unknown): boolean {
  if (Array.isArray(value)) return true;
  return (field === 'messages' || field === 'conversations') && typeof value === 'string' && /^\s*\[/.test(value);
}

/** What is no turn stays, to be found out by the shape. */
function rename(entry: unknown, turns: TurnFields | null, roles: Roles): unknown {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return entry;
  const turn = entry as Fields;
  const style = turns ?? (Object.hasOwn(turn, 'from') ? { role: 'from', content: 'value' } : PLAIN);
  const { [style.role]: named, [style.content]: content, ...rest } = turn;
  const role = typeof named === 'string' && Object.hasOwn(roles, named) ? roles[named] : named;
  const weight = turns?.weight == null ? {} : weightOf(turn[turns.weight]);
  // The names that ShareGPT has besides OpenAI's are only known beside its `from`.
  if (role === 'function_call' || style.role === 'from' || !isOpenAiRole(role))
    return { ...rest, ...weight, from: role, value: content };
  return { ...rest, ...weight, role, content };
}

const PLAIN = { role: 'role', content: 'content' };

function isOpenAiRole(role: unknown): boolean {
  return typeof role !== 'string' || ['system', 'developer', 'user', 'assistant', 'tool', 'function'].includes(role);
}

function weightOf(value: unknown): { weight?: unknown } {
  if (value === undefined || value === null) return {};
  return { weight: typeof value === 'boolean' ? Number(value) : value };
}

/** Says a fault in the source's own names: where a row has `dialog[1].who`, nobody looks for `messages[1].from`. */
export function inOwnNames(fault: RowFault, columns: Columns | null, turns: TurnFields | null): RowFault {
  const [, list = '', place = '', field = ''] =
    /^(\w+)((?:\[\d+\])?)(?:\.(from|role|value|content))?$/.exec(fault.path) ?? [];
  const isTurn = place !== '' && (TURN_LISTS as readonly string[]).includes(list);
  if (!isTurn || (columns === null && turns === null)) return fault;
  const template = columns?.[list as ColumnTarget];
  const column = template === undefined ? list : (wholeColumn(parseTemplate(template))?.column ?? list);
  const own = { from: turns?.role, role: turns?.role, value: turns?.content, content: turns?.content }[field] ?? field;
  const path = `${column}${place}${own === '' ? '' : `.${own}`}`;
  return new RowFault(fault.code, path, fault.message.replaceAll(fault.path, path), fault.mismatch);
}
