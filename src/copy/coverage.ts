import type { KeyId, KeyInterval } from "../engines/engine.ts";
import { invariant } from "../errors/error.ts";

/** Where a key lies with respect to the copy of its table. */
export type Place = "copied" | "in-flight" | "unmarked";

/**
 * Which part of one table's key space is copied, in flight or not yet marked.
 *
 * Invariant (DESIGN rule 2): the three parts are disjoint, half-open and together always cover (-∞, +∞); an interval
 * is marked in flight with its upper end fixed before it is read. A key in an unmarked part may be forgotten, since
 * that part's read will see it; a key in flight must wait; a key in a copied part must be recopied. If a part were
 * lost here, its rows would be dropped for ever: `assertWhole` checks it at the end.
 *
 * Tables whose keys only the server can order have no `compare`: they are copied strictly from the left, one chunk at
 * a time, and the server is asked on which side of `copiedBelow` a key lies (rule 5).
 */
export class Coverage {
  readonly #compare: ((a: KeyId, b: KeyId) => number) | undefined;
  #copied: KeyInterval[] = [];
  #unmarked: KeyInterval[] = [{ from: undefined, to: undefined }];
  readonly #inFlight = new Set<KeyInterval>();

  constructor(compare: ((a: KeyId, b: KeyId) => number) | undefined) {
    this.#compare = compare;
  }

  /** True when this process can tell by itself where a key lies. */
  get ordered(): boolean {
    return this.#compare !== undefined;
  }

  /** A chunk is in flight. */
  get busy(): boolean {
    return this.#inFlight.size > 0;
  }

  /** Everything is copied. */
  get complete(): boolean {
    return this.#unmarked.length === 0 && !this.busy;
  }

  /** The lower end of the next interval to copy, with the end that it must not pass; undefined when none is left. */
  nextGap(): KeyInterval | undefined {
    return this.#unmarked[0];
  }

  /** Marks `[gap.from, to)` in flight; `to` is the gap's own end or a key inside it. */
  mark(to: KeyId | undefined): KeyInterval {
    const gap = this.#unmarked[0];
    invariant(gap !== undefined, "a chunk was marked although nothing is left to copy");
    invariant(
      this.#compare !== undefined || this.#inFlight.size === 0,
      "two chunks of a server-ordered table at once",
    );
    const interval = { from: gap.from, to };
    if (sameEnd(to, gap.to)) this.#unmarked.shift();
    else {
      invariant(
        to !== undefined && this.#precedes(gap.from, to) && this.#inside(to, gap.to),
        "a chunk end outside its gap",
      );
      this.#unmarked[0] = { from: to, to: gap.to };
    }
    this.#inFlight.add(interval);
    return interval;
  }

  /** A marked interval is loaded at the target, durably, with its progress row. */
  markCopied(interval: KeyInterval): void {
    invariant(this.#inFlight.delete(interval), "a chunk was copied that is not in flight");
    this.#copied = joinIntervals([...this.#copied, interval], this.#compare);
  }

  /** A marked interval was not loaded; it is copied again later, under a new mark. */
  unmark(interval: KeyInterval): void {
    invariant(this.#inFlight.delete(interval), "a chunk was given back that is not in flight");
    this.#unmarked = [interval, ...this.#unmarked];
  }

  /** What an earlier run has loaded. Only before anything is marked. */
  restore(loaded: readonly KeyInterval[]): void {
    invariant(
      this.#inFlight.size === 0 && this.#copied.length === 0,
      "progress restored into a running copy",
    );
    this.#copied = joinIntervals(loaded, this.#compare);
    this.#unmarked = gapsOf(this.#copied);
  }

  place(key: KeyId): Place {
    const compare = this.#compare;
    invariant(compare !== undefined, "a server-ordered key was classified in this process");
    for (const interval of this.#inFlight) if (contains(interval, key, compare)) return "in-flight";
    for (const interval of this.#copied) if (contains(interval, key, compare)) return "copied";
    return "unmarked";
  }

  /**
   * For server-ordered tables: `none`, `all`, or the key below which everything is copied.
   */
  copiedBelow(): { readonly part: "none" | "all" } | { readonly part: "below"; readonly key: KeyId } {
    const first = this.#copied[0];
    if (first === undefined || first.from !== undefined) return { part: "none" };
    return first.to === undefined ? { part: "all" } : { part: "below", key: first.to };
  }

  /** The copied set is (-∞, +∞); anything else at the end of a copy is a bug that would lose rows. */
  assertWhole(): void {
    const [only] = this.#copied;
    invariant(
      this.complete && this.#copied.length === 1 && only?.from === undefined && only?.to === undefined,
      "the copied intervals do not cover the whole key space",
    );
  }

  #precedes(a: KeyId | undefined, b: KeyId): boolean {
    return this.#compare === undefined || a === undefined || this.#compare(a, b) < 0;
  }

  #inside(key: KeyId, end: KeyId | undefined): boolean {
    return this.#compare === undefined || end === undefined || this.#compare(key, end) < 0;
  }
}

function sameEnd(a: KeyId | undefined, b: KeyId | undefined): boolean {
  return a === b;
}

function contains({ from, to }: KeyInterval, key: KeyId, compare: (a: KeyId, b: KeyId) => number): boolean {
  return (from === undefined || compare(key, from) >= 0) && (to === undefined || compare(key, to) < 0);
}

/** Joins intervals that touch. Without an order only equal ends tell that two intervals are neighbours. */
function joinIntervals(
  intervals: readonly KeyInterval[],
  compare: ((a: KeyId, b: KeyId) => number) | undefined,
): KeyInterval[] {
  return compare === undefined ? chain(intervals) : sortAndJoin(intervals, compare);
}

function chain(intervals: readonly KeyInterval[]): KeyInterval[] {
  const byFrom = new Map(intervals.map((interval) => [interval.from, interval]));
  let last = byFrom.get(undefined);
  if (last === undefined) {
    invariant(intervals.length === 0, "a server-ordered table was not copied from its left end");
    return [];
  }
  let used = 1;
  let to = last.to;
  while (to !== undefined) {
    last = byFrom.get(to);
    if (last === undefined) break;
    to = last.to;
    used += 1;
  }
  invariant(used === intervals.length, "a server-ordered table has a gap in its copied chunks");
  return [{ from: undefined, to }];
}

function sortAndJoin(
  intervals: readonly KeyInterval[],
  compare: (a: KeyId, b: KeyId) => number,
): KeyInterval[] {
  const sorted = intervals.toSorted((a, b) => {
    if (a.from === undefined || b.from === undefined)
      return a.from === b.from ? 0 : a.from === undefined ? -1 : 1;
    return compare(a.from, b.from);
  });
  const joined: KeyInterval[] = [];
  for (const next of sorted) {
    const last = joined.at(-1);
    if (last === undefined) {
      joined.push(next);
      continue;
    }
    invariant(
      last.to !== undefined && next.from !== undefined && compare(last.to, next.from) <= 0,
      "two copied chunks overlap",
    );
    if (last.to === next.from) joined[joined.length - 1] = { from: last.from, to: next.to };
    else joined.push(next);
  }
  return joined;
}

function gapsOf(copied: readonly KeyInterval[]): KeyInterval[] {
  const gaps: KeyInterval[] = [];
  let from: KeyId | undefined;
  let open = true;
  for (const interval of copied) {
    if (interval.from !== undefined && interval.from !== from) gaps.push({ from, to: interval.from });
    from = interval.to;
    open = interval.to !== undefined;
  }
  if (open) gaps.push({ from, to: undefined });
  return gaps;
}
