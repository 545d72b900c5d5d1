// Decides what a source row becomes for a training method: a chat, a text, a pair or a judged answer, or a fault that says why not.
import type { Columns, Roles, TurnFields } from '../contracts/column-map.ts';
import type { Source } from '../contracts/data-spec.ts';
import { type DropCode, type Method, ROW_KINDS } from '../contracts/rows.ts';
import { ASKED_CODES, policyOf, type Rules } from '../contracts/rules.ts';
import type { Spec } from '../contracts/spec.ts';
import { createColumns } from './columns/columns.ts';
import { createDropper } from './columns/drop.ts';
import { createTurnNames, inOwnNames } from './columns/turn-names.ts';
import { type Fields, requireObject } from './fields.ts';
import { mend } from './mend.ts';
import {
  hasVerdict,
  type Judged,
  looksLikeJudged,
  looksLikePair,
  mapChosen,
  mapJudged,
  mapPair,
  type Pair,
} from './preferences.ts';
import { type Chat, type ChatShape, detectShape, looksLikeChat, mapChat, type Text, unknownShape } from './shapes.ts';
import { refuseUnreadable } from './source/unreadable.ts';
import { joinSteps, looksStepwise } from './stepwise.ts';
import { type Judge, RowFault } from './turns.ts';

/** A row without its id, group and place; keys in the order of the contract. */
export type Content = Chat | Text | Pair | Judged;

/** The mapping of a source's rows. */
export function mappingOf({ data, train }: Pick<Spec, 'data' | 'train'>, source: Source): Mapping {
  const { shape, columns, turns, roles } = source;
  const { system, rules, dropColumns } = data;
  return { method: train.method, shape, system, columns, turns, roles, rules, dropColumns };
}

/** How the rows of a source are mapped: what the source says of itself, and what the data's rules say. */
export interface Mapping {
  method: Method;
  shape: Source['shape'];
  columns?: Columns | null;
  turns?: TurnFields | null;
  roles?: Roles;
  /** System message put before rows that have none. */
  system: string | null;
  rules?: Rules;
  dropColumns?: readonly string[];
}

export interface Mapped {
  content: Content;
  /** Rules that the row broke: mended, or let pass. A code stands there once. */
  fixed: DropCode[];
  warned: RowFault[];
}

/** Gives what a row becomes, or throws RowFault with the first thing that is wrong. Pure. */
export type RowMapper = (value: unknown) => Mapped;

/** Mends of one row, each of a copy: a row that needs more is beyond mending. */
const MENDS_MAX = 100;

export function createRowMapper(mapping: Mapping): RowMapper {
  const { rules = {}, columns = null, turns = null } = mapping;
  const drop = createDropper(mapping.dropColumns ?? []);
  const rename = createTurnNames(turns, mapping.roles ?? {});
  const map = columns === null ? (row: Fields) => row : createColumns(columns);
  const own = (fault: RowFault) => inOwnNames(fault, columns, turns);
  return (value) => {
    refuseUnreadable(value);
    let row = rename(map(drop(requireObject(value, '', 'not_object'))));
    const fixed = new Set<DropCode>();
    for (let mends = 0; ; mends++) {
      const warned: RowFault[] = [];
      try {
        const content = mapFields(row, mapping, createJudge(rules, warned));
        return { content, fixed: [...fixed], warned: warned.map(own) };
      } catch (error) {
        if (!(error instanceof RowFault)) throw error;
        const mended = mends < MENDS_MAX ? mendBy(rules, row, error, fixed) : null;
        if (mended === null) throw own(error);
        row = mended;
      }
    }
  };
}

/** True where a row of a known shape can only become what stands in it: nothing is renamed, taken out or looked at on request. */
export function isPlainMapping({ columns, turns, roles = {}, rules = {}, dropColumns = [] }: Mapping): boolean {
  const isRenamed = columns != null || turns != null || Object.keys(roles).length > 0 || dropColumns.length > 0;
  return !isRenamed && ASKED_CODES.every((code) => rules[code] === undefined);
}

/** What groups a row that no column does: its first question, or the text itself. */
export function groupTextOf(content: Content): string {
  if ('text' in content) return content.text;
  const turns = 'messages' in content ? content.messages : content.prompt;
  return turns.find(({ role }) => role === 'user')?.content ?? '';
}

function createJudge(rules: Rules, warned: RowFault[]): Judge {
  return {
    take(fault) {
      if (policyOf(rules, fault.code) !== 'warn') throw fault;
      if (warned.every(({ code }) => code !== fault.code)) warned.push(fault);
    },
    asks: (code) => rules[code] !== undefined,
  };
}

function mendBy(rules: Rules, row: Fields, fault: RowFault, fixed: Set<DropCode>): Fields | null {
  if (rules[fault.code] !== 'fix') return null;
  const mended = mend(row, fault);
  if (mended !== null) fixed.add(fault.code);
  return mended;
}

function mapFields(row: Fields, mapping: Mapping, judge: Judge): Content {
  const { method, shape, system } = mapping;
  if (shape === 'stepwise' || (shape === 'auto' && looksStepwise(row)))
    return mapFields(joinSteps(row, method), { ...mapping, shape: 'prompt-completion' }, judge);
  const kind = ROW_KINDS[method];
  switch (kind) {
    case 'chat':
      if (shape === 'preference') return mapChosen(row, system, judge);
      if (shape === 'auto') refuseCompared(row);
      return mapChat(row, shape as ChatShape, system, judge);
    case 'pair':
      if (shape === 'auto') requirePair(row, method);
      return mapPair(row, system, judge);
    case 'judged':
      if (shape === 'auto') requireJudged(row);
      return mapJudged(row, system, judge);
    default:
      return kind satisfies never;
  }
}

/** Answers that are compared or judged: not all of them are worth learning. */
function refuseCompared(row: Fields): void {
  if (looksLikeChat(row) && hasVerdict(row))
    throw notForMethod(
      `the row is an answer with a label, and \`train.method: sft\` learns every answer; set \`train.method: kto\`, or the source’s \`shape: ${detectShape(row)}\` to learn the unwanted ones too`,
    );
  // Some sets have both: the pair, and `messages` with the better answer for those who want chats.
  if (!looksLikePair(row) || Object.hasOwn(row, 'messages')) return;
  throw notForMethod(
    'the row is a pair of answers, and `train.method: sft` learns from chats; set `train.method` to dpo or reward, or the source’s `shape` to preference to learn the chosen answers',
  );
}

function requirePair(row: Fields, method: Method): void {
  if (looksLikePair(row)) return;
  const learns = `and \`train.method: ${method}\` learns from pairs; add chosen and rejected`;
  if (looksLikeJudged(row))
    throw notForMethod(`the row is an answer with a label, ${learns}, or set \`train.method: kto\``);
  if (looksLikeChat(row)) throw notForMethod(`the row is a chat, ${learns}, or set \`train.method: sft\``);
  throw unknownShape(row, 'prompt, chosen and rejected, or input, preferred_output and non_preferred_output');
}

function requireJudged(row: Fields): void {
  if (looksLikePair(row))
    throw notForMethod(
      'the row is a pair of answers, and `train.method: kto` learns from single ones; set `train.method` to dpo or reward, or write each answer as a row with prompt, completion and label',
    );
  if (!looksLikeChat(row)) throw unknownShape(row, 'prompt, completion and label');
}

function notForMethod(sentence: string): RowFault {
  return new RowFault('not_for_method', '', sentence);
}
