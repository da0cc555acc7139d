import { compareBounds, compareKeys, MAX, MIN, type Bound, type KeyType, type KeyValue } from "./key.ts";

/** A half-open interval `[from, to)` of shard-key values. */
export interface Interval {
  readonly from: Bound;
  readonly to: Bound;
}

/** A set of disjoint, ascending, half-open intervals of the key space of one keyspace. */
export type Slice = readonly Interval[];

export const wholeSlice: Slice = [{ from: MIN, to: MAX }];

export function sliceContains(type: KeyType, slice: Slice, key: KeyValue): boolean {
  return slice.some(
    ({ from, to }) =>
      (from.at !== "KEY" || compareKeys(type, key, from.key) >= 0) &&
      from.at !== "MAX" &&
      (to.at !== "KEY" || compareKeys(type, key, to.key) < 0) &&
      to.at !== "MIN",
  );
}

/** Sorts, drops empty intervals and joins neighbours, so that equal sets have one form. */
export function normalizeSlice(type: KeyType, slice: Slice): Slice {
  const sorted = slice
    .filter(({ from, to }) => compareBounds(type, from, to) < 0)
    .toSorted((a, b) => compareBounds(type, a.from, b.from));
  const joined: Interval[] = [];
  for (const next of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && compareBounds(type, next.from, last.to) <= 0) {
      joined[joined.length - 1] = {
        from: last.from,
        to: compareBounds(type, next.to, last.to) > 0 ? next.to : last.to,
      };
    } else {
      joined.push(next);
    }
  }
  return joined;
}

/** The keys in both slices. */
export function intersectSlices(type: KeyType, a: Slice, b: Slice): Slice {
  const parts: Interval[] = [];
  for (const x of a) {
    for (const y of b) {
      parts.push({
        from: compareBounds(type, x.from, y.from) >= 0 ? x.from : y.from,
        to: compareBounds(type, x.to, y.to) <= 0 ? x.to : y.to,
      });
    }
  }
  return normalizeSlice(type, parts);
}

export function slicesOverlap(type: KeyType, a: Slice, b: Slice): boolean {
  return intersectSlices(type, a, b).length > 0;
}

/** `[5000, MAX)`, for people. */
export function formatSlice(slice: Slice): string {
  return slice.map(({ from, to }) => `[${formatBound(from)}, ${formatBound(to)})`).join(" ∪ ");
}

export function formatBound(bound: Bound): string {
  return bound.at === "KEY" ? bound.key : bound.at;
}
