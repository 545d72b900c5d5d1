// What people call a source: the name of its file, with as much of the path before it as tells it from others.

/** In the order of the sources. Time: the number of sources times the depth of their paths. */
export function sourceNames(sources: readonly { uri: string }[]): string[] {
  const paths = sources.map(({ uri }) =>
    readable(uri)
      .split('/')
      .filter((part) => part !== ''),
  );
  const names: string[] = [];
  let open = [...paths.keys()];
  for (let length = 1; open.length > 0; length++) {
    const tails = paths.map((path) => path.slice(-length).join('/'));
    const counts = new Map<string, number>();
    for (const tail of tails) counts.set(tail, (counts.get(tail) ?? 0) + 1);
    open = open.filter((i) => {
      const tail = tails[i] as string;
      const isTold = counts.get(tail) === 1 || (paths[i] as string[]).length <= length;
      if (isTold) names[i] = tail;
      return !isTold;
    });
  }
  return names;
}

/** Addresses of files write spaces and letters beyond ASCII as numbers. */
function readable(uri: string): string {
  if (!uri.startsWith('file:')) return uri;
  try {
    return decodeURI(uri);
  } catch {
    return uri;
  }
}
