import { InputError, type Problem } from "../errors/error.ts";
import { boundAt, compareKeys, isKeyValue, type Bound, type KeyType, type KeyValue } from "../model/key.ts";
import { keyspaceOf, ownedSlice, type Range, type RoutingMap } from "../model/routing-map.ts";
import { intersectSlices, normalizeSlice, sliceContains, type Interval } from "../model/slice.ts";
import type { Move } from "./plan.ts";

export interface SplitRequest {
  readonly keyspace: string;
  readonly shard: string;
  /** The shards that own the parts afterwards, in key order; `shard` itself may be one of them. */
  readonly into: readonly string[];
  /** `into.length - 1` ascending keys; a key belongs to the part on its right. */
  readonly at: readonly KeyValue[];
}

/** Every reason why the request can not be a split of this map; flags are named as the command has them. */
export function splitProblems(map: RoutingMap, request: SplitRequest, shards: readonly string[]): Problem[] {
  const { keyType } = keyspaceOf(map, request.keyspace);
  const owned = ownedSlice(keyspaceOf(map, request.keyspace), request.shard);
  const problems: Problem[] = [];
  if (owned.length === 0) {
    const owners = new Set(keyspaceOf(map, request.keyspace).ranges.map((range) => range.shard));
    problems.push({
      where: "SHARD",
      found: `${request.shard} owns nothing in keyspace ${request.keyspace}`,
      accepted: `one of ${[...owners].join(", ")}`,
    });
  }
  for (const name of request.into) {
    if (!shards.includes(name)) {
      problems.push({
        where: "--into",
        found: name,
        accepted: `a shard of the configuration: ${shards.join(", ")}`,
      });
    }
  }
  if (request.into.length < 2) {
    problems.push({
      where: "--into",
      found: request.into.join(","),
      accepted: "at least two shards, in key order",
    });
  }
  for (const name of new Set(request.into.filter((n, i) => request.into.indexOf(n) !== i))) {
    problems.push({ where: "--into", found: `${name} twice`, accepted: "each shard once" });
  }
  return [...problems, ...splitKeyProblems(keyType, owned, request)];
}

function splitKeyProblems(keyType: KeyType, owned: readonly Interval[], request: SplitRequest): Problem[] {
  const problems: Problem[] = [];
  if (request.at.length !== request.into.length - 1) {
    problems.push({
      where: "--at",
      found: `${request.at.length} split keys for ${request.into.length} parts`,
      accepted: `${request.into.length - 1}, or auto`,
    });
  }
  for (const [index, key] of request.at.entries()) {
    if (!isKeyValue(keyType, key)) {
      problems.push({ where: "--at", found: key, accepted: `a key of type ${keyType} in canonical text` });
      continue;
    }
    if (owned.length > 0 && !sliceContains(keyType, owned, key)) {
      problems.push({ where: "--at", found: key, accepted: `a key that ${request.shard} owns` });
    }
    if (owned.some(({ from }) => from.at === "KEY" && from.key === key)) {
      problems.push({
        where: "--at",
        found: key,
        accepted: "a key above the lower end of the shard's range",
      });
    }
    const previous = request.at[index - 1];
    if (previous !== undefined && isKeyValue(keyType, previous) && compareKeys(keyType, previous, key) >= 0) {
      problems.push({ where: "--at", found: `${previous} before ${key}`, accepted: "ascending keys" });
    }
  }
  return problems;
}

/** The map after the split: epoch + 1, the shard's ranges cut at the keys and given to `into` in order. */
export function splitMap(map: RoutingMap, request: SplitRequest, shards: readonly string[]): RoutingMap {
  const problems = splitProblems(map, request, shards);
  if (problems.length > 0) throw new InputError("E_USAGE", problems);
  const keyspace = keyspaceOf(map, request.keyspace);
  const ranges = keyspace.ranges.flatMap((range) =>
    range.shard === request.shard ? cutRange(keyspace.keyType, range, request) : [range],
  );
  return {
    epoch: map.epoch + 1,
    keyspaces: { ...map.keyspaces, [request.keyspace]: { ...keyspace, ranges: joinRanges(ranges) } },
  };
}

function cutRange(keyType: KeyType, range: Range, request: SplitRequest): Range[] {
  const inside = (key: KeyValue): boolean =>
    sliceContains(keyType, [{ from: range.from, to: range.to }], key);
  const cuts = request.at.filter(inside);
  const bounds: Bound[] = [range.from, ...cuts.map(boundAt), range.to];
  // The part that a piece belongs to: as many cut keys as lie at or below its lower end.
  const partOf = (from: Bound): number =>
    from.at === "KEY" ? request.at.filter((key) => compareKeys(keyType, key, from.key) <= 0).length : 0;
  return bounds.slice(0, -1).map((from, index) => ({
    from,
    to: bounds[index + 1] ?? range.to,
    shard: request.into[partOf(from)] ?? range.shard,
  }));
}

function joinRanges(ranges: readonly Range[]): Range[] {
  const joined: Range[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    if (last !== undefined && last.shard === range.shard)
      joined[joined.length - 1] = { ...last, to: range.to };
    else joined.push(range);
  }
  return joined;
}

/** The moves that lead from one map to the other: every (from, to) pair once, with all the keys that change hands. */
export function movesBetween(before: RoutingMap, after: RoutingMap, keyspaceName: string): Move[] {
  const { keyType } = keyspaceOf(before, keyspaceName);
  const intervals = new Map<string, { from: string; to: string; parts: Interval[] }>();
  for (const old of keyspaceOf(before, keyspaceName).ranges) {
    for (const next of keyspaceOf(after, keyspaceName).ranges) {
      if (old.shard === next.shard) continue;
      const [part] = normalizeSlice(keyType, intersect(keyType, old, next));
      if (part === undefined) continue;
      const key = `${old.shard}\0${next.shard}`;
      const entry = intervals.get(key) ?? { from: old.shard, to: next.shard, parts: [] };
      entry.parts.push(part);
      intervals.set(key, entry);
    }
  }
  return [...intervals.values()].map(({ from, to, parts }) => ({
    id: `${from}-${to}`,
    slice: [...normalizeSlice(keyType, parts)],
    from,
    to,
  }));
}

function intersect(keyType: KeyType, a: Interval, b: Interval): Interval[] {
  return [...intersectSlices(keyType, [{ from: a.from, to: a.to }], [{ from: b.from, to: b.to }])];
}
