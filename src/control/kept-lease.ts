import { ShardliftError } from "../errors/error.ts";
import { LeaseGone, type ControlStore, type LeaseId } from "./store.ts";

/**
 * A lease that this process keeps alive, and its own opinion of whether it still has it.
 *
 * Invariant: `isLive()` is false *before* the store may give the lease's rights to somebody else. It counts from the
 * moment at which the last good keep-alive was sent, by the process's monotonic clock, less a margin, so a process that
 * was stopped knows it at its first step (facts: control.md 1.3).
 */
export class KeptLease implements AsyncDisposable {
  readonly id: LeaseId;
  readonly #store: ControlStore;
  readonly #ttlMs: number;
  readonly #marginMs: number;
  readonly #lost = new AbortController();
  #liveUntil: number;
  #timer: NodeJS.Timeout | undefined;
  #renewal: Promise<void> | undefined;
  #closed = false;

  static async grant(store: ControlStore, ttlMs: number): Promise<KeptLease> {
    const sentAt = performance.now();
    const { id, ttlMs: granted } = await store.grant(ttlMs);
    return new KeptLease(store, id, sentAt, granted);
  }

  private constructor(store: ControlStore, id: LeaseId, sentAt: number, ttlMs: number) {
    this.id = id;
    this.#store = store;
    this.#ttlMs = ttlMs;
    // A tenth covers the difference of two clocks' rates and the time from a check to what follows it.
    this.#marginMs = ttlMs / 10;
    this.#liveUntil = sentAt + ttlMs - this.#marginMs;
    this.#schedule(ttlMs / 3);
  }

  /** Aborted with E_LEASE_LOST when the lease could not be kept; never by `close`. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  isLive(): boolean {
    return !this.#closed && !this.#lost.signal.aborted && performance.now() < this.#liveUntil;
  }

  /** Ends the lease in the store, with everything that is bound to it. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#renewal;
    await this.#store.revoke(this.id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #schedule(ms: number): void {
    if (this.#closed || this.#lost.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#renewal = this.#renew();
    }, ms);
    // Keeping a lease is no reason for a process to stay.
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    const sentAt = performance.now();
    try {
      const ttlMs = await this.#store.keepAlive(this.id);
      this.#liveUntil = sentAt + ttlMs - this.#marginMs;
      this.#schedule(ttlMs / 3);
    } catch (cause) {
      // While there is time the store may come back; after it, or when the store says so, the lease is lost.
      if (cause instanceof LeaseGone || performance.now() >= this.#liveUntil) this.#lose(cause);
      else this.#schedule(Math.min(this.#ttlMs / 20, 100));
    }
  }

  #lose(cause: unknown): void {
    this.#lost.abort(
      new ShardliftError("E_LEASE_LOST", `lease ${this.id} could not be kept alive`, { cause }),
    );
  }
}
