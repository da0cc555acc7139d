/**
 * The blocks of a row stream, started early: the source works on the first one while the target opens its
 * transaction. Disposing ends a reading that nobody finished.
 */
export interface StartedBlocks extends AsyncIterator<Uint8Array>, AsyncDisposable {
  /** Whether the stream has no row at all. */
  empty(): Promise<boolean>;
}

export function startBlocks(blocks: AsyncIterable<Uint8Array>): StartedBlocks {
  const iterator = blocks[Symbol.asyncIterator]();
  const first = iterator.next();
  // Looked at later, or not at all when the transaction does not come that far.
  first.catch(() => undefined);
  let taken = false;
  let ended = false;
  const seen = (result: IteratorResult<Uint8Array>): IteratorResult<Uint8Array> => {
    ended = result.done === true;
    return result;
  };
  const stop = async (): Promise<IteratorResult<Uint8Array>> => {
    if (!ended) await iterator.return?.();
    ended = true;
    return { done: true, value: undefined };
  };
  return {
    empty: async () => seen(await first).done === true,
    next: async () => {
      if (taken) return seen(await iterator.next());
      taken = true;
      return seen(await first);
    },
    return: stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}
