import { describe, expect, test } from "vitest";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import { RouteView } from "../../src/router/view.ts";
import type { LiveIntent } from "../../src/routing/intent.ts";

function mapWith(epoch: number, upper: string): RoutingMap {
  return {
    epoch,
    keyspaces: {
      shop: {
        function: "range",
        keyType: "integer",
        tables: { orders: { key: "user_id" } },
        ranges: [
          { from: MIN, to: boundAt("5000"), shard: "s0" },
          { from: boundAt("5000"), to: MAX, shard: upper },
        ],
      },
    },
  };
}

const hold: LiveIntent = {
  id: "i1",
  job: "split-1",
  phase: "hold",
  keyspace: "shop",
  slice: [{ from: boundAt("5000"), to: MAX }],
  fromShard: "s0",
  toShard: "s1",
  afterEpoch: 1,
  deadline: 0,
  stamp: "x",
  letGoAt: 1000,
};

const inSlice = { keyspace: "shop", keys: ["6000"] };
const outside = { keyspace: "shop", keys: ["4999"] };

describe("what a router knows", () => {
  test("an intent holds writes to its slice, and a set of keys when one of them is in it", () => {
    const view = new RouteView(mapWith(1, "s0"), 500);
    view.learn(mapWith(1, "s0"), [hold], 500);
    expect(view.heldBy(inSlice, 0)).toBe(hold);
    expect(view.heldBy(outside, 0)).toBeUndefined();
    expect(view.heldBy({ keyspace: "shop", keys: ["1", "6000"] }, 0)).toBe(hold);
    expect(view.heldBy({ keyspace: "shop", keys: ["1", "2"] }, 0)).toBeUndefined();
  });

  test("it lets go at the deadline, when the intent is gone, and when the map gives the slice away", () => {
    const view = new RouteView(mapWith(1, "s0"), 0);
    view.learn(mapWith(1, "s0"), [hold], 0);
    expect(view.heldBy(inSlice, 999)).toBe(hold);
    expect(view.heldBy(inSlice, 1000)).toBeUndefined();
    view.learn(mapWith(2, "s1"), [hold], 0);
    expect(view.heldBy(inSlice, 0)).toBeUndefined();
    view.learn(mapWith(2, "s1"), [], 0);
    expect(view.heldBy(inSlice, 0)).toBeUndefined();
  });

  test("another job's flip of other slices does not let go", () => {
    const view = new RouteView(mapWith(1, "s0"), 0);
    view.learn(mapWith(2, "s0"), [hold], 0);
    expect(view.heldBy(inSlice, 0)).toBe(hold);
  });

  test("prepare holds nothing", () => {
    const view = new RouteView(mapWith(1, "s0"), 0);
    view.learn(mapWith(1, "s0"), [{ ...hold, phase: "prepare" }], 0);
    expect(view.heldBy(inSlice, 0)).toBeUndefined();
  });

  test("owners come from one map, each once, in one order", () => {
    const view = new RouteView(mapWith(1, "s1"), 0);
    expect(view.owners({ keyspace: "shop", keys: ["6000", "1", "2", "7000"] })).toEqual(["s0", "s1"]);
    expect(view.owners(inSlice)).toEqual(["s1"]);
  });

  test("a map of an older epoch is refused", () => {
    const view = new RouteView(mapWith(2, "s1"), 0);
    expect(() => view.learn(mapWith(1, "s0"), [], 0)).toThrow(
      expect.objectContaining({ code: "E_STORE_WENT_BACK" }),
    );
    expect(view.map.epoch).toBe(2);
  });

  test("trust ends with its time, is not shortened by a slow answer, and is taken away at once", () => {
    const view = new RouteView(mapWith(1, "s0"), 100);
    expect(view.isTrusted(99)).toBe(true);
    expect(view.isTrusted(100)).toBe(false);
    view.learn(mapWith(1, "s0"), [], 300);
    view.learn(mapWith(1, "s0"), [], 200);
    expect(view.trustedForMs(250)).toBe(50);
    view.fail(new Error("no answer"));
    expect(view.isTrusted(250)).toBe(true);
    view.distrust(new Error("another store"));
    expect(view.isTrusted(0)).toBe(false);
    expect(view.leaseError()).toMatchObject({
      code: "E_MAP_LEASE",
      message: expect.stringContaining("another store"),
    });
    view.learn(mapWith(1, "s0"), [], 400);
    expect(view.isTrusted(399)).toBe(true);
    expect(view.trouble).toBeUndefined();
  });
});
