import { invariant, ShardliftError } from "../errors/error.ts";
import { compareBounds, compareKeys, type Bound, type KeyType, type KeyValue } from "./key.ts";
import { normalizeSlice, type Slice } from "./slice.ts";

/** One owned range: `[from, to)` of the keyspace lives on `shard`. */
export interface Range {
  readonly from: Bound;
  readonly to: Bound;
  readonly shard: string;
}

/** Tables sharded together by one shard key and one function. */
export interface Keyspace {
  readonly function: "range";
  readonly keyType: KeyType;
  /** Table name → the column that holds the shard key. */
  readonly tables: Readonly<Record<string, { readonly key: string }>>;
  /** Ascending ranges that cover (MIN, MAX) without gap or overlap. */
  readonly ranges: readonly Range[];
}

/** An immutable version of who owns what. The epoch only ever grows by one. */
export interface RoutingMap {
  readonly epoch: number;
  readonly keyspaces: Readonly<Record<string, Keyspace>>;
}

export function keyspaceOf(map: RoutingMap, name: string): Keyspace {
  const keyspace = map.keyspaces[name];
  if (keyspace === undefined) {
    throw new ShardliftError("E_USAGE", `no keyspace "${name}" in the routing map of epoch ${map.epoch}`, {
      next: `use one of: ${Object.keys(map.keyspaces).join(", ")}`,
    });
  }
  return keyspace;
}

/** The shard that owns a key. Binary search: the router asks this for every statement. */
export function ownerOf(keyspace: Keyspace, key: KeyValue): string {
  let low = 0;
  let high = keyspace.ranges.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    const to = keyspace.ranges[middle]?.to;
    if (to !== undefined && to.at === "KEY" && compareKeys(keyspace.keyType, key, to.key) >= 0)
      low = middle + 1;
    else high = middle;
  }
  const range = keyspace.ranges[low];
  invariant(range !== undefined, "a keyspace has no ranges");
  return range.shard;
}

/** All that one shard owns in a keyspace. */
export function ownedSlice(keyspace: Keyspace, shard: string): Slice {
  return normalizeSlice(
    keyspace.keyType,
    keyspace.ranges.filter((range) => range.shard === shard).map(({ from, to }) => ({ from, to })),
  );
}

/** Checks that the ranges cover (MIN, MAX) exactly; returns what is wrong, in the map's own words. */
export function rangeProblems(type: KeyType, ranges: readonly Range[]): string[] {
  const problems: string[] = [];
  if (ranges[0]?.from.at !== "MIN") problems.push("the first range must start at MIN");
  if (ranges.at(-1)?.to.at !== "MAX") problems.push("the last range must end at MAX");
  for (const [index, range] of ranges.entries()) {
    if (compareBounds(type, range.from, range.to) >= 0)
      problems.push(`range ${index + 1} is empty or reversed`);
    const next = ranges[index + 1];
    if (next === undefined) continue;
    const order = compareBounds(type, range.to, next.from);
    if (order < 0) problems.push(`gap between range ${index + 1} and range ${index + 2}`);
    if (order > 0) problems.push(`range ${index + 1} overlaps range ${index + 2}`);
  }
  return problems;
}
