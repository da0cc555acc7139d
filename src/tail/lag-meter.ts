/**
 * How far the log reader is behind, measured with our own markers: the time from sending a marker until the log shows
 * it. The time since the last event says nothing about that (facts/peers, vitess#18804): it is reported apart, as
 * liveness.
 */
export class LagMeter {
  readonly #pending: { readonly n: number; readonly startedAt: number }[] = [];
  #lastMs = 0;
  #heardAt = performance.now();

  raised(n: number, startedAt: number): void {
    const last = this.#pending.at(-1);
    if (last === undefined || n > last.n) this.#pending.push({ n, startedAt });
  }

  passed(n: number): void {
    while (this.#pending[0] !== undefined && this.#pending[0].n <= n) {
      this.#lastMs = performance.now() - this.#pending[0].startedAt;
      this.#pending.shift();
    }
  }

  heard(): void {
    this.#heardAt = performance.now();
  }

  /** Age of the oldest marker that the log has not shown yet, or what the last one took. */
  lagMs(): number {
    const oldest = this.#pending[0];
    return oldest === undefined ? this.#lastMs : Math.max(this.#lastMs, performance.now() - oldest.startedAt);
  }

  livenessMs(): number {
    return performance.now() - this.#heardAt;
  }
}
