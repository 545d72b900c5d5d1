// Addresses of sources: what may be shown of one, and whether it lies on a server.

/** The address without user, password and query, which may hold secrets or a signature that is new each time. */
export function showUri(uri: string): string {
  if (/^postgres(ql)?:/i.test(uri)) return uri.replace(/\/\/[^/]*@/, '//').replace(/[?#].*$/s, '');
  if (!/^https?:\/\//i.test(uri) || !URL.canParse(uri)) return uri;
  const url = new URL(uri);
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** A database's content is known only once it was read. */
export function isDatabase(uri: string): boolean {
  return /^(postgres(ql)?|sqlite):/i.test(uri) || /^(file:|(?![a-z][a-z0-9+.-]+:)).*\.(db|sqlite3?)$/is.test(uri);
}

/** Known by the ETag that its server gives, because reading it all would cost as much as the run's ingest. */
export function isRemote(uri: string): boolean {
  return /^(https?|s3):/i.test(uri);
}
