/**
 * Tasks that run beside a piece of work. The first failure aborts `signal` with its error, so that everybody who
 * waits ends with that very error; `stop` waits for all of them, so nothing outlives the work.
 */
export class Background implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  readonly #stopped = Symbol("stopped");
  readonly signal: AbortSignal = this.#stop.signal;

  /** Starts a task. It must end when its signal is aborted. */
  run(task: (signal: AbortSignal) => Promise<void>): void {
    this.#tasks.push(
      task(this.signal).catch((error: unknown) => {
        // A task that ends because all were told to end has not failed.
        if (!this.signal.aborted) this.#stop.abort(error);
      }),
    );
  }

  /** Ends with an error that came from elsewhere, for example a lost lease. */
  fail(error: unknown): void {
    if (!this.signal.aborted) this.#stop.abort(error);
  }

  throwIfFailed(): void {
    if (this.signal.aborted && this.signal.reason !== this.#stopped) throw this.signal.reason;
  }

  async stop(): Promise<void> {
    if (!this.signal.aborted) this.#stop.abort(this.#stopped);
    await Promise.all(this.#tasks);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
