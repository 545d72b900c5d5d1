// Maps the shapes of chats that people bring to the canonical chat: which fields a shape has, and what is wrong with a row of it.
import type { Source } from '../contracts/data-spec.ts';
import type { MediaRef, Message } from '../contracts/rows.ts';
import { readConversation, readMessages } from './conversation.ts';
import {
  type Fields,
  firstPresent,
  optionalText,
  requireList,
  requireOneOf,
  requireText,
  wrongType,
} from './fields.ts';
import { type PendingMedia, readMedia } from './media/pending.ts';
import { readTools } from './tools.ts';
import { checkText, checkTurns, type Judge, RowFault, type Turn } from './turns.ts';

export type ChatShape = Exclude<Source['shape'], 'preference' | 'kto' | 'stepwise'>;
type TurnShape = Exclude<ChatShape, 'auto' | 'text'>;

export interface Chat {
  messages: Message[];
  /** JSON text. */
  tools?: string;
  /** Pending until they are read; then what the contract says. */
  media?: (PendingMedia | MediaRef)[];
}

/** Text without turns. */
export interface Text {
  text: string;
}

/**
 * The row as a chat, with `system` put before it when it has no system message, or as a text.
 * @throws RowFault with the first thing that is wrong and that the judge does not let pass.
 */
export function mapChat(row: Fields, shape: ChatShape, system: string | null, judge: Judge): Chat | Text {
  const found = shape === 'auto' ? detectShape(row) : shape;
  if (found === 'text') return mapText(row, judge);
  const turns = withSystem(MAPPERS[found](row), system);
  checkTurns(turns, judge);
  const media = readMedia(row, turns);
  const chat: Chat = withTools({ messages: turns.map((turn) => turn.message) }, readTools(row, judge));
  return media.length === 0 ? chat : { ...chat, media };
}

function mapText(row: Fields, judge: Judge): Text {
  const text = requireText(row.text, 'text');
  checkText(text, 'text', judge);
  if (text.trim() === '')
    throw new RowFault('empty_content', 'text', 'text is empty; write the text, or leave the row out');
  return { text };
}

export function withSystem(turns: Turn[], system: string | null): Turn[] {
  if (system === null || system === '' || isSystem(turns[0])) return turns;
  return [{ message: { role: 'system', content: system }, at: 'data.system', field: '' }, ...turns];
}

export function withTools<T extends object>(content: T, tools: string | undefined): T & { tools?: string } {
  return tools === undefined ? content : { ...content, tools };
}

/** Field names that tell a shape, in the order in which they are looked for. */
const SIGNS: readonly (readonly [string, TurnShape | 'text'])[] = [
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
  ['user', 'user-assistant'],
  ['assistant', 'user-assistant'],
  ['text', 'text'],
];

/** @throws RowFault `unknown_shape`. */
export function detectShape(row: Fields): TurnShape | 'text' {
  const sign = SIGNS.find(([field]) => Object.hasOwn(row, field));
  if (sign?.[1] === 'text') refuseLabelled(row);
  if (sign !== undefined) return sign[1];
  throw unknownShape(
    row,
    'messages, conversations, instruction and output, prompt and completion, question and answer, user and assistant, or text, or map them by the source’s `columns`',
  );
}

/** Sets for classifiers, and the flat form of trees of messages: reading their texts on would pass over what they are for. */
function refuseLabelled(row: Fields): void {
  const label = ['label', 'labels', 'role'].find((field) => Object.hasOwn(row, field));
  if (label === undefined) return;
  const sentence =
    label === 'role'
      ? 'the row is one message of a chat, and a row must be a whole one; write its messages as one row, or set the source’s `shape` to text to learn each text alone'
      : `text has a ${label}, and is no chat; make one of both by the source’s \`columns\`, or set its \`shape\` to text to learn the text alone`;
  throw new RowFault('unknown_shape', '', sentence);
}

export function looksLikeChat(row: Fields): boolean {
  return SIGNS.some(([field, shape]) => shape !== 'text' && Object.hasOwn(row, field));
}

export function unknownShape(row: Fields, known: string): RowFault {
  const wrapped = Object.keys(row).find((field) => holdsRows(row[field]));
  if (wrapped !== undefined) {
    const sentence = `the row is an object around a list of rows, \`${wrapped}\`; write the list alone, or each of its rows on a line of its own`;
    return new RowFault('unknown_shape', wrapped, sentence);
  }
  const names = Object.keys(row).slice(0, 8).join(', ').slice(0, 120) || 'none';
  return new RowFault('unknown_shape', '', `the fields (${names}) are of no known shape; use ${known}`);
}

/** As exports of help desks and of web services wrap them. */
function holdsRows(value: unknown): boolean {
  const first: unknown = Array.isArray(value) ? value[0] : null;
  return typeof first === 'object' && first !== null && looksLikeChat(first as Fields);
}

const MAPPERS: Record<TurnShape, (row: Fields) => Turn[]> = {
  messages: (row) => afterSystem(row, readMessages(row, 'messages')),
  sharegpt: mapShareGpt,
  alpaca: mapAlpaca,
  'prompt-completion': mapPromptCompletion,
  'question-answer': mapQuestionAnswer,
  'user-assistant': (row) => [...readUserPrompt(row), plainTurn(row, 'assistant', 'assistant')],
};

function mapShareGpt(row: Fields): Turn[] {
  return afterSystem(row, readConversation(row.conversations, 'conversations'));
}

/** What `columns` make, and some sets have. */
export function readUserPrompt(row: Fields): Turn[] {
  return [...optionalSystem(row), ...readHistory(row.history), plainTurn(row, 'user', 'user')];
}

function mapAlpaca(row: Fields): Turn[] {
  const prompt = readAlpacaPrompt(row);
  const [outputField, output] = requireOneOf(row, ['output', 'response']);
  return [...prompt, { message: { role: 'assistant', content: output }, at: outputField, field: '' }];
}

export function readAlpacaPrompt(row: Fields): Turn[] {
  const [inputField, input] = optionalText(row, ['input', 'context']);
  // Many sets have an input and an output, and no more.
  const isWhole = inputField === 'input' && input.trim() !== '' && !Object.hasOwn(row, 'instruction');
  const instruction = isWhole ? '' : requireText(row.instruction, 'instruction');
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

const COMPLETION_FIELDS = ['completion', 'response', 'output', 'answer'] as const;

/** Only the completion is trained on: assistant turns of a prompt have the weight 0. */
function mapPromptCompletion(row: Fields): Turn[] {
  const [completionField] = firstPresent(row, COMPLETION_FIELDS);
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

/** The row's system message before its turns, which may begin with one of their own: that one says it. */
export function afterSystem(row: Fields, turns: Turn[]): Turn[] {
  return isSystem(turns[0]) ? turns : [...optionalSystem(row), ...turns];
}

export function optionalSystem(row: Fields): Turn[] {
  const [field, content] = optionalText(row, ['system', 'system_prompt']);
  return content === '' ? [] : [{ message: { role: 'system', content }, at: field, field: '' }];
}

function isSystem(turn: Turn | undefined): boolean {
  return turn?.message.role === 'system' || turn?.message.role === 'developer';
}
