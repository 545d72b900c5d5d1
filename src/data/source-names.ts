// What people call a source: the name of its file, with as much of the path before it as tells it from others.

/** In the order of the sources. */
export function sourceNames(sources: readonly { uri: string }[]): string[] {
  const paths = sources.map(({ uri }) => uri.split('/').filter((part) => part !== ''));
  return paths.map((path, i) => {
    for (let length = 1; length < path.length; length++) {
      const tail = path.slice(-length).join('/');
      if (paths.every((other, j) => i === j || other.slice(-length).join('/') !== tail)) return tail;
    }
    return path.join('/');
  });
}
