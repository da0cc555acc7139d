import { canonicalJson } from "../control/json.ts";
import { invariant } from "../errors/error.ts";
import { compareBounds, type KeyType } from "../model/key.ts";
import { keyspaceOf, ownedSlice, type Keyspace, type Range, type RoutingMap } from "../model/routing-map.ts";
import { formatSlice, intersectSlices, type Interval, type Slice } from "../model/slice.ts";
import { movesBetween } from "../plan/split-map.ts";

/** What changes hands between two maps. */
export interface OwnerChange {
  readonly keyspace: string;
  readonly slice: Slice;
  readonly from: string;
  readonly to: string;
}

/** Maps that are flipped between differ in owners only: tables and key types are the same on both sides. */
export function differenceOf(before: RoutingMap, after: RoutingMap): readonly OwnerChange[] {
  const names = Object.keys(before.keyspaces);
  invariant(
    canonicalJson(names.toSorted()) === canonicalJson(Object.keys(after.keyspaces).toSorted()),
    "a flip changes which keyspaces there are",
  );
  return names.flatMap((keyspace) => {
    invariant(
      shapeOf(before, keyspace) === shapeOf(after, keyspace),
      `a flip changes more than owners in ${keyspace}`,
    );
    return movesBetween(before, after, keyspace).map(({ slice, from, to }) => ({
      keyspace,
      slice,
      from,
      to,
    }));
  });
}

export type Rebased = { readonly map: RoutingMap } | { readonly conflict: string };

/**
 * The current map with the change made in it, one epoch on. Another job may have moved *other* slices since the plan
 * was made (pitfalls 25); what this change moves must still be owned by the shard that it is moved from.
 */
export function rebase(current: RoutingMap, planned: RoutingMap, changes: readonly OwnerChange[]): Rebased {
  const keyspaces: Record<string, Keyspace> = { ...current.keyspaces };
  for (const { keyspace: name, slice, from, to } of changes) {
    const keyspace = keyspaces[name];
    if (keyspace === undefined || shapeOf(current, name) !== shapeOf(planned, name)) {
      return { conflict: `keyspace ${name} has changed since epoch ${planned.epoch}` };
    }
    const owned = intersectSlices(keyspace.keyType, ownedSlice(keyspace, from), slice);
    if (canonicalJson(owned) !== canonicalJson(slice)) {
      return {
        conflict: `${from} no longer owns all of ${formatSlice(slice)} of ${name}: another job has moved it`,
      };
    }
    keyspaces[name] = { ...keyspace, ranges: reassign(keyspace, slice, to) };
  }
  return { map: { epoch: current.epoch + 1, keyspaces } };
}

function shapeOf(map: RoutingMap, name: string): string {
  const { ranges: _, ...shape } = keyspaceOf(map, name);
  return canonicalJson(shape);
}

function reassign({ keyType, ranges }: Keyspace, slice: Slice, shard: string): Range[] {
  const pieces = ranges.flatMap((range) => [
    ...intersectSlices(keyType, [range], slice).map(({ from, to }) => ({ from, to, shard })),
    ...without(keyType, range, slice).map(({ from, to }) => ({ from, to, shard: range.shard })),
  ]);
  const joined: Range[] = [];
  for (const piece of pieces.toSorted((a, b) => compareBounds(keyType, a.from, b.from))) {
    const last = joined.at(-1);
    if (last?.shard === piece.shard) joined[joined.length - 1] = { ...last, to: piece.to };
    else joined.push(piece);
  }
  return joined;
}

/** The parts of an interval that lie outside a slice. */
function without(keyType: KeyType, whole: Interval, slice: Slice): Interval[] {
  const parts: Interval[] = [];
  let { from } = whole;
  for (const taken of intersectSlices(keyType, [whole], slice)) {
    parts.push({ from, to: taken.from });
    from = taken.to;
  }
  parts.push({ from, to: whole.to });
  return parts.filter((part) => compareBounds(keyType, part.from, part.to) < 0);
}
