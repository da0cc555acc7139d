import { setTimeout as delay } from "node:timers/promises";

/** Sleeps; throws the signal's reason when it is aborted. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/**
 * Stops waiting for a promise when the signal is aborted; the work behind it goes on, and its end is not looked at any
 * more. Only for work that may be left alone.
 */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
    // A failure after the wait has ended must not become an unhandled one.
    void work.catch(() => undefined);
  }
}

/**
 * A condition variable: `wait` resolves at the next `notify` or after the time limit, whichever is first. The caller
 * looks at its condition again in a loop, so a spurious wake does no harm.
 */
export class Notifier {
  #waiters = new Set<() => void>();

  notify(): void {
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
  }

  async wait(signal: AbortSignal, limitMs = 1000): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, limitMs);
      signal.addEventListener("abort", done, { once: true });
      this.#waiters.add(done);
    });
    signal.throwIfAborted();
  }
}

/** Runs one task at a time, in the order of the calls. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  async run<T>(task: () => Promise<T>): Promise<T> {
    const previous = this.#tail;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#tail = promise;
    await previous;
    try {
      return await task();
    } finally {
      resolve();
    }
  }
}
