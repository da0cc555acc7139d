import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { boundAt, compareKeys, isKeyValue, keyValueOf, MAX, MIN } from "../../src/model/key.ts";
import {
  keyspaceOf,
  ownerOf,
  rangeProblems,
  type Keyspace,
  type RoutingMap,
} from "../../src/model/routing-map.ts";
import { formatSlice, intersectSlices, normalizeSlice, sliceContains } from "../../src/model/slice.ts";
import { movesBetween, splitMap, splitProblems } from "../../src/plan/split-map.ts";

function mapOf(ranges: Keyspace["ranges"]): RoutingMap {
  return {
    epoch: 41,
    keyspaces: {
      shop: { function: "range", keyType: "integer", tables: { orders: { key: "user_id" } }, ranges },
    },
  };
}
const whole = mapOf([{ from: MIN, to: MAX, shard: "s0" }]);
const request = { keyspace: "shop", shard: "s0", into: ["s0", "s1"], at: ["5000"] };

describe("splitting a routing map", () => {
  it("gives the upper part to the new shard and counts the epoch up by one", () => {
    const after = splitMap(whole, request, ["s0", "s1"]);
    expect(after.epoch).toBe(42);
    expect(keyspaceOf(after, "shop").ranges).toEqual([
      { from: MIN, to: boundAt("5000"), shard: "s0" },
      { from: boundAt("5000"), to: MAX, shard: "s1" },
    ]);
    const moves = movesBetween(whole, after, "shop");
    expect(moves.map(({ from, to, slice }) => [from, to, formatSlice(slice)])).toEqual([
      ["s0", "s1", "[5000, MAX)"],
    ]);
  });

  it("splits a shard that owns several ranges, and leaves the others alone", () => {
    const before = mapOf([
      { from: MIN, to: boundAt("100"), shard: "s0" },
      { from: boundAt("100"), to: boundAt("200"), shard: "s9" },
      { from: boundAt("200"), to: MAX, shard: "s0" },
    ]);
    const after = splitMap(before, { ...request, into: ["s0", "s1", "s2"], at: ["50", "300"] }, [
      "s0",
      "s1",
      "s2",
      "s9",
    ]);
    expect(rangeProblems("integer", keyspaceOf(after, "shop").ranges)).toEqual([]);
    const owner = (key: string): string => ownerOf(keyspaceOf(after, "shop"), key);
    expect(["-7", "49", "50", "99", "100", "199", "200", "299", "300"].map(owner)).toEqual([
      "s0",
      "s0",
      "s1",
      "s1",
      "s9",
      "s9",
      "s1",
      "s1",
      "s2",
    ]);
  });

  it("lists every problem of a bad request at once", () => {
    const found = splitProblems(
      whole,
      { keyspace: "shop", shard: "s7", into: ["s0", "s0", "sx"], at: ["9", "x", "3"] },
      ["s0", "s1"],
    );
    expect(found.map(({ where }) => where)).toEqual(["SHARD", "--into", "--into", "--at", "--at"]);
  });

  it("moves exactly the keys whose owner changes, whatever the cuts", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 4 }),
        (cuts) => {
          const at = cuts.toSorted((a, b) => a - b).map(String);
          const into = ["s0", ...at.map((_, index) => `t${index}`)];
          const after = splitMap(whole, { ...request, into, at }, ["s0", ...into]);
          const moves = movesBetween(whole, after, "shop");
          for (let key = -60; key <= 60; key += 1) {
            const from = ownerOf(keyspaceOf(whole, "shop"), String(key));
            const to = ownerOf(keyspaceOf(after, "shop"), String(key));
            const moving = moves.filter((move) => sliceContains("integer", move.slice, String(key)));
            expect(moving.map((move) => [move.from, move.to])).toEqual(from === to ? [] : [[from, to]]);
          }
        },
      ),
    );
  });
});

describe("keys and slices", () => {
  it("orders decimals by value and integers beyond 2^64 exactly", () => {
    expect(compareKeys("decimal", "-1.50", "-1.5")).toBe(0);
    expect(compareKeys("decimal", "10.1", "9.99")).toBeGreaterThan(0);
    expect(compareKeys("decimal", "-0.2", "-0.1")).toBeLessThan(0);
    expect(compareKeys("integer", "18446744073709551616", "18446744073709551615")).toBeGreaterThan(0);
  });

  it("takes only exact application values as keys", () => {
    expect(keyValueOf("integer", 5n)).toBe("5");
    expect(() => keyValueOf("integer", 2 ** 60)).toThrow(/exact/);
    expect(() => keyValueOf("integer", "05")).toThrow(/not a shard key/);
    expect(keyValueOf("binary", Buffer.from([0, 255]))).toBe("0x00ff");
    expect(isKeyValue("temporal", "2024-05-01 10:00:00.123456")).toBe(true);
  });

  it("joins touching intervals and intersects like sets", () => {
    const point = fc.integer({ min: 0, max: 12 });
    const slice = fc.array(fc.tuple(point, point), { maxLength: 4 }).map((pairs) =>
      pairs.map(([a, b]) => ({
        from: boundAt(String(Math.min(a, b))),
        to: boundAt(String(Math.max(a, b))),
      })),
    );
    fc.assert(
      fc.property(slice, slice, (a, b) => {
        const both = intersectSlices("integer", a, b);
        for (let key = -1; key <= 13; key += 1) {
          const text = String(key);
          const inside = (s: typeof a): boolean => sliceContains("integer", s, text);
          expect(inside([...normalizeSlice("integer", a)])).toBe(inside(a));
          expect(sliceContains("integer", both, text)).toBe(inside(a) && inside(b));
        }
      }),
    );
  });
});
