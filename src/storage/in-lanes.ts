// Work on many things, so many at once.

/** After a failure nothing more begins; what has begun is waited for, so that nothing goes on behind the caller's back. Throws the first. */
export async function inLanes<T>(things: Iterable<T>, lanes: number, work: (thing: T) => Promise<void>): Promise<void> {
  const left = things[Symbol.iterator]();
  let hasFailed = false;
  const lane = async () => {
    for (let next = left.next(); !next.done && !hasFailed; next = left.next()) await work(next.value);
  };
  const ends = await Promise.allSettled(
    Array.from({ length: lanes }, () =>
      lane().catch((error: unknown) => {
        hasFailed = true;
        throw error;
      }),
    ),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
