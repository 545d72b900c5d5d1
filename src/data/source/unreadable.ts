// The line that stands for a document that could not be read: its place in the accounts, with the reason.
import { RowFault } from '../turns.ts';

const KEY = '$unreadable';

export const UNREADABLE_CODES = ['document_unreadable', 'document_is_scan', 'document_locked'] as const;
type UnreadableCode = (typeof UNREADABLE_CODES)[number];

/** Why there is no text. */
export interface Unreadable {
  reason: string;
  /** Absent = `document_unreadable`. */
  code?: UnreadableCode;
}

export function unreadableLine(file: string, { reason, code }: Unreadable): string {
  return JSON.stringify({ [KEY]: reason, ...(code && { code }), meta: { file } });
}

/** @throws RowFault of one of `UNREADABLE_CODES` for such a line. */
export function refuseUnreadable(value: unknown): void {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, KEY)) return;
  const { [KEY]: reason, code, meta } = value as { [KEY]: unknown; code?: unknown; meta?: { file?: unknown } };
  const known = UNREADABLE_CODES.find((one) => one === code) ?? 'document_unreadable';
  throw new RowFault(
    known,
    '',
    `the document ${String(meta?.file ?? '')} could not be read: ${String(reason).slice(0, 500)}`,
  );
}
