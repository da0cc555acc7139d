import { sleep } from "../lib/wait.ts";

/**
 * Keeps the copy at or below a rate in bytes a second, counted between chunks: a chunk in flight is never held back,
 * since it holds dirty keys. Shared by all workers of a job.
 */
export class Pace {
  readonly #bytesPerSecond: number | undefined;
  #freeAt = 0;

  constructor(bytesPerSecond: number | undefined) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Waits until the bytes that were copied so far are paid for. */
  async wait(signal: AbortSignal): Promise<void> {
    const ms = this.#freeAt - performance.now();
    if (ms > 0) await sleep(ms, signal);
  }

  spent(bytes: number): void {
    if (this.#bytesPerSecond === undefined) return;
    const now = performance.now();
    this.#freeAt = Math.max(this.#freeAt, now) + (bytes / this.#bytesPerSecond) * 1_000;
  }
}
