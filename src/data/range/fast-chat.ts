// The fast way of the rows that most chats are: proves that a row's own bytes are what mapping it and writing it anew would give.
// It says nothing of a row that it cannot prove good; the mapper alone decides what is wrong with one.
import { type Message, ROW_KINDS } from '../../contracts/rows.ts';
import type { Mapping } from '../mapping.ts';
import type { Chat } from '../shapes.ts';

export interface FastChat {
  content: Chat;
  /** The content's part of the row's text, without the braces of a row. */
  from: number;
  to: number;
}

/** What stands between the texts of a chat that has no more than roles and texts, written without white space. */
const OPEN = '"messages":[{"role":"';
const BETWEEN = '"},{"role":"';
const CLOSE = '"}]';
const AFTER_ROLE = '","content":"';

/** Fields of a row that mean something beside `messages`. */
const OTHER_FIELDS = ['tools', 'functions', 'images', 'image', 'media', 'system'];

/** Whether there are rows that can go the fast way: chats as they stand, with nothing put before them. */
export function canBeFast({ method, shape, system }: Mapping): boolean {
  return ROW_KINDS[method] === 'chat' && (shape === 'auto' || shape === 'messages') && !system;
}

/** @param text the row's JSON text @param value what it parses to */
export function readFastChat(text: string, value: unknown): FastChat | null {
  // Escapes that JSON.stringify would write otherwise, and those of half a surrogate pair.
  if (text.includes('\\u') || text.includes('\\/')) return null;
  const row = value as { messages?: unknown };
  if (typeof row !== 'object' || row === null || !Array.isArray(row.messages)) return null;
  if (OTHER_FIELDS.some((field) => field in row)) return null;
  const messages = row.messages as Message[];
  if (!isGoodChat(messages)) return null;
  const from = findOpen(text);
  const to = from === null ? null : findClose(text, from + OPEN.length, messages);
  if (from === null || to === null || text.includes('"messages"', to)) return null;
  return { content: { messages }, from, to };
}

/** User and assistant by turns, with a system or developer message before them or not, and no text empty. */
function isGoodChat(messages: Message[]): boolean {
  const first = messages[0]?.role;
  const lead = first === 'system' || first === 'developer' ? 1 : 0;
  if (messages.length < lead + 2 || (messages.length - lead) % 2 !== 0) return false;
  for (let i = 0; i < messages.length; i++) {
    const message: Message | null | undefined = messages[i];
    if (message === undefined || message === null) return false;
    const { role, content } = message;
    if (i >= lead && role !== ((i - lead) % 2 === 0 ? 'user' : 'assistant')) return false;
    if (typeof content !== 'string' || !hasText(content)) return false;
  }
  return true;
}

function hasText(content: string): boolean {
  const first = content.charCodeAt(0);
  return (first > 32 && first < 127) || content.trim() !== '';
}

/** Where the messages start: as the row's first field, or behind fields that are no lists and no objects. */
function findOpen(text: string): number | null {
  if (text.startsWith(OPEN, 1)) return 1;
  const from = text.indexOf(OPEN);
  const bracket = from + '"messages":'.length;
  const isFlatBefore = text.indexOf('[') === bracket && text.indexOf('{', 1) === bracket + 1;
  return from !== -1 && isFlatBefore && text[from - 1] === ',' ? from : null;
}

/** Behind the bracket that closes the messages, which start with the first one's role. */
function findClose(text: string, from: number, messages: Message[]): number | null {
  let at = from;
  for (let i = 0; i < messages.length; i++) {
    const { role } = messages[i] as Message;
    if (!text.startsWith(role, at) || !text.startsWith(AFTER_ROLE, at + role.length)) return null;
    at = findStringEnd(text, at + role.length + AFTER_ROLE.length);
    const next = i === messages.length - 1 ? CLOSE : BETWEEN;
    if (!text.startsWith(next, at)) return null;
    at += next.length;
  }
  return at;
}

/** The offset of the quote that closes a string of valid JSON. */
function findStringEnd(text: string, from: number): number {
  let at = text.indexOf('"', from);
  while (isEscaped(text, at)) at = text.indexOf('"', at + 1);
  return at;
}

/** Behind an odd number of backslashes. */
function isEscaped(text: string, at: number): boolean {
  let before = at - 1;
  while (text.charCodeAt(before) === 0x5c) before--;
  return (at - before) % 2 === 0;
}
