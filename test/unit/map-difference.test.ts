import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import {
  ownerOf,
  rangeProblems,
  type Keyspace,
  type Range,
  type RoutingMap,
} from "../../src/model/routing-map.ts";
import { differenceOf, rebase } from "../../src/routing/map-difference.ts";

/** Any map of keyspace `shop` over the keys 0..40, and one key of it to ask about. */
const cuts = fc.uniqueArray(fc.integer({ min: 0, max: 40 }), { maxLength: 6 });
const shards = fc.array(fc.constantFrom("s0", "s1", "s2"), { minLength: 7, maxLength: 7 });
const anyMap = (epoch: number): fc.Arbitrary<RoutingMap> =>
  fc.tuple(cuts, shards).map(([at, owners]) =>
    mapOf(
      epoch,
      at.toSorted((a, b) => a - b),
      owners,
    ),
  );

describe("a difference of two maps", () => {
  test("made in the map that it was planned from, gives the planned owners, one epoch on", () => {
    fc.assert(
      fc.property(anyMap(1), anyMap(2), (before, after) => {
        const result = rebase(before, before, differenceOf(before, after));
        if (!("map" in result)) throw new Error(result.conflict);
        expect(result.map.epoch).toBe(2);
        expect(rangeProblems("integer", shop(result.map).ranges)).toEqual([]);
        expect(owners(result.map)).toEqual(owners(after));
      }),
    );
  });

  test("made in a later map, changes exactly its own keys, or is refused when one of them has moved", () => {
    fc.assert(
      fc.property(anyMap(1), anyMap(2), anyMap(5), (before, after, today) => {
        const changes = differenceOf(before, after);
        const result = rebase(today, before, changes);
        const [was, planned, now] = [owners(before), owners(after), owners(today)];
        const moved = was.map((owner, key) => owner !== planned[key]);
        const conflict = moved.some((isMoved, key) => isMoved && was[key] !== now[key]);
        expect("conflict" in result).toBe(conflict);
        if ("conflict" in result) return;
        expect(result.map.epoch).toBe(6);
        expect(rangeProblems("integer", shop(result.map).ranges)).toEqual([]);
        expect(owners(result.map)).toEqual(
          now.map((owner, key) => (moved[key] === true ? planned[key] : owner)),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("between a map and itself is empty", () => {
    fc.assert(
      fc.property(anyMap(1), (map) => {
        expect(differenceOf(map, map)).toEqual([]);
      }),
    );
  });

  test("that is more than owners is a bug", () => {
    const map = mapOf(1, [5], ["s0", "s1"]);
    const other: RoutingMap = {
      epoch: 2,
      keyspaces: { shop: { ...shop(map), tables: { orders: { key: "other" } } } },
    };
    expect(() => differenceOf(map, other)).toThrow("more than owners");
    expect(() => differenceOf(map, { epoch: 2, keyspaces: { ...map.keyspaces, more: shop(map) } })).toThrow(
      "keyspaces",
    );
  });

  test("of a keyspace whose tables have changed meanwhile is refused", () => {
    const [before, after] = [mapOf(1, [5], ["s0", "s0"]), mapOf(2, [5], ["s0", "s1"])];
    const today: RoutingMap = { epoch: 4, keyspaces: { shop: { ...shop(before), tables: {} } } };
    expect(rebase(today, before, differenceOf(before, after))).toEqual({
      conflict: "keyspace shop has changed since epoch 1",
    });
  });
});

function mapOf(epoch: number, at: readonly number[], owners: readonly string[]): RoutingMap {
  const bounds = [MIN, ...at.map((key) => boundAt(String(key))), MAX];
  const ranges: Range[] = bounds.slice(0, -1).map((from, index) => ({
    from,
    to: bounds[index + 1] ?? MAX,
    shard: owners[index] ?? "s0",
  }));
  return {
    epoch,
    keyspaces: { shop: { function: "range", keyType: "integer", tables: { orders: { key: "id" } }, ranges } },
  };
}

function shop(map: RoutingMap): Keyspace {
  const keyspace = map.keyspaces["shop"];
  if (keyspace === undefined) throw new Error("no keyspace shop");
  return keyspace;
}

function owners(map: RoutingMap): string[] {
  return Array.from({ length: 43 }, (_, n) => ownerOf(shop(map), String(n - 1)));
}
