/** A chunk in flight holds its dirty keys and pins the checkpoint, so it is bounded in rows as well as in time. */
const minRows = 500;
const maxRows = 200_000;
const firstRows = 5_000;

/**
 * How many rows the next chunk asks for, so that one takes about the target time. Grows and shrinks by at most a
 * factor of two, so that one slow chunk does not spoil the next ones.
 */
export class ChunkSize {
  readonly #targetMs: number;
  #rows = firstRows;

  constructor(targetMs: number) {
    this.#targetMs = targetMs;
  }

  get rows(): number {
    return Math.round(this.#rows);
  }

  took(rows: number, ms: number): void {
    if (rows === 0) return;
    const wanted = (rows * this.#targetMs) / Math.max(ms, 1);
    this.#rows = Math.min(
      maxRows,
      Math.max(minRows, Math.min(this.#rows * 2, Math.max(this.#rows / 2, wanted))),
    );
  }
}
