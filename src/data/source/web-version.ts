// What tells one content at a web address from another without reading it.

/** A file that was changed so shortly before the answer may be changed again under the same date, ms (RFC 9110, 8.8.2.2). */
const SETTLED_MS = 1_000;

/**
 * The ETag; where a server gives none, the date of the last change with the size, unless that change is too fresh to tell it from the next.
 * @param headerOf by its lower-case name, null = there is none. @returns null = it cannot be told.
 */
export function webVersion(headerOf: (name: string) => string | null): string | null {
  const etag = headerOf('etag');
  if (etag !== null) return etag;
  const [modified, date] = [headerOf('last-modified'), headerOf('date')];
  if (modified === null || date === null) return null;
  const isSettled = Date.parse(date) - Date.parse(modified) >= SETTLED_MS;
  return isSettled ? `${modified}, ${headerOf('content-length') ?? 'unknown'} bytes` : null;
}
