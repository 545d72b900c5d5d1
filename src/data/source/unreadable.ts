// The line that stands for a document that could not be read: its place in the accounts, with the reason.
import { RowFault } from '../turns.ts';

const KEY = '$unreadable';

export function unreadableLine(file: string, reason: string): string {
  return JSON.stringify({ [KEY]: reason, meta: { file } });
}

/** @throws RowFault `document_unreadable` for such a line. */
export function refuseUnreadable(value: unknown): void {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, KEY)) return;
  const reason = (value as { [KEY]: unknown })[KEY];
  throw new RowFault('document_unreadable', '', `the document could not be read: ${String(reason).slice(0, 500)}`);
}
