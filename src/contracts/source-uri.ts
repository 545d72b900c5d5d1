// Addresses of sources: what may be shown of one, and whether it lies on a server.

/** The address without user, password and query, which may hold secrets or a signature that is new each time. */
export function showUri(uri: string): string {
  if (!/^https?:\/\//i.test(uri) || !URL.canParse(uri)) return uri;
  const url = new URL(uri);
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Known by the ETag that its server gives, because reading it all would cost as much as the run's ingest. */
export function isRemote(uri: string): boolean {
  return /^(https?|s3):/i.test(uri);
}
