// A queue with one writer and one reader: values pushed now, read when the reader comes. Not bounded; the writer bounds what it pushes.

export interface Channel<T> extends AsyncIterable<T> {
  /** Ignored after the end. */
  push(value: T): void;
  /** The reader gets what was pushed, then the end. */
  end(): void;
  /** The reader gets what was pushed, then the error. */
  fail(error: unknown): void;
}

export function createChannel<T>(): Channel<T> {
  const values: T[] = [];
  let ending: { error?: unknown } | null = null;
  let wake = () => {};

  const finish = (how: { error?: unknown }) => {
    ending ??= how;
    wake();
  };
  return {
    push(value) {
      if (ending !== null) return;
      values.push(value);
      wake();
    },
    end: () => finish({}),
    fail: (error) => finish({ error }),
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (values.length > 0) yield values.shift() as T;
        if (ending !== null) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if ('error' in ending) throw ending.error;
    },
  };
}

/** Values of all sources as they come, each with the index of its source. The first error ends the whole. */
export async function* merge<T>(sources: AsyncIterable<T>[]): AsyncGenerator<{ index: number; value: T }> {
  const merged = createChannel<{ index: number; value: T }>();
  const drain = async (source: AsyncIterable<T>, index: number) => {
    for await (const value of source) merged.push({ index, value });
  };
  Promise.all(sources.map(drain)).then(merged.end, merged.fail);
  yield* merged;
}
