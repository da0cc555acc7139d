import type { Position } from "../engines/engine.ts";
import { invariant } from "../errors/error.ts";

interface Reached {
  /** Number of the log batch that ends at the position. */
  readonly batch: number;
  readonly position: Position;
}

/** Positions kept between the saved one and the newest; beyond it every second one goes, which only costs re-reading. */
const maxKept = 256;

/**
 * Which log position may be saved. Positions can be long (GTID sets), so only some are kept: a key remembers the
 * number of its batch, and the newest kept position below the oldest unresolved batch is safe (facts/pitfalls, 13c).
 *
 * Invariant: batches and saved positions only go forward.
 */
export class Checkpoints {
  #saved: Reached;
  #savedAt: number | undefined;
  /** Evenly spaced, `#stride` batches apart at least, ascending. */
  #kept: Reached[] = [];
  #stride = 1;
  #newest: Reached | undefined;

  constructor(from: Position) {
    this.#saved = { batch: 0, position: from };
  }

  get saved(): Reached {
    return this.#saved;
  }

  reached(batch: number, position: Position): void {
    invariant(this.#newest === undefined || batch > this.#newest.batch, "the log went back");
    this.#newest = { batch, position };
    if (batch < (this.#kept.at(-1)?.batch ?? 0) + this.#stride) return;
    this.#kept.push(this.#newest);
    if (this.#kept.length <= maxKept) return;
    this.#stride *= 2;
    this.#kept = this.#kept.filter((_, index) => index % 2 === 0);
  }

  /** The newest known position below the oldest unresolved batch, if it is newer than the saved one. */
  nextToSave(oldestUnresolved: number | undefined): Reached | undefined {
    const safe = (reached: Reached): boolean =>
      oldestUnresolved === undefined || reached.batch < oldestUnresolved;
    const next = this.#newest !== undefined && safe(this.#newest) ? this.#newest : this.#kept.findLast(safe);
    return next !== undefined && next.batch > this.#saved.batch ? next : undefined;
  }

  markSaved(reached: Reached): void {
    invariant(reached.batch > this.#saved.batch, "a checkpoint went back");
    this.#saved = reached;
    this.#savedAt = performance.now();
    this.#kept = this.#kept.filter(({ batch }) => batch > reached.batch);
    if (this.#kept.length < maxKept / 4) this.#stride = 1;
  }

  ageMs(): number | undefined {
    return this.#savedAt === undefined ? undefined : performance.now() - this.#savedAt;
  }
}
