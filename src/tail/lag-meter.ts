/**
 * How far the log reader is behind, measured with our own markers: the time from sending a marker until the log shows
 * it. The time since the last event says nothing about that (facts/peers, vitess#18804): it is reported apart, as
 * liveness.
 */
export class LagMeter {
  readonly #now: () => number;
  readonly #pending: { readonly n: number; readonly startedAt: number }[] = [];
  #passedN = 0;
  #lastMs = 0;
  #heardAt: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#heardAt = now();
  }

  /** A marker was committed. The log may have shown it already: the commit's answer can come later than the event. */
  raised(n: number, startedAt: number): void {
    if (n <= this.#passedN) {
      this.#lastMs = this.#now() - startedAt;
      return;
    }
    const last = this.#pending.at(-1);
    if (last === undefined || n > last.n) this.#pending.push({ n, startedAt });
  }

  /** The log has shown marker `n`, and so all before it. */
  passed(n: number): void {
    this.#passedN = Math.max(this.#passedN, n);
    while (this.#pending[0] !== undefined && this.#pending[0].n <= n) {
      this.#lastMs = this.#now() - this.#pending[0].startedAt;
      this.#pending.shift();
    }
  }

  heard(): void {
    this.#heardAt = this.#now();
  }

  /** Age of the oldest marker that the log has not shown yet, or what the last one took. */
  lagMs(): number {
    const oldest = this.#pending[0];
    return oldest === undefined ? this.#lastMs : Math.max(this.#lastMs, this.#now() - oldest.startedAt);
  }

  livenessMs(): number {
    return this.#now() - this.#heardAt;
  }
}
