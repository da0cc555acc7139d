import { describe, expect, it } from "vitest";
import type { GateSpec, TableShape } from "../../src/engines/engine.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import { makePlan, type PlanInput } from "../../src/plan/make-plan.ts";
import { planText } from "../../src/plan/plan-text.ts";
import { parsePlan, planHash } from "../../src/plan/plan.ts";
import { movesBetween, splitMap } from "../../src/plan/split-map.ts";

const before: RoutingMap = {
  epoch: 41,
  keyspaces: {
    shop: {
      function: "range",
      keyType: "integer",
      tables: { orders: { key: "user_id" } },
      ranges: [{ from: MIN, to: MAX, shard: "s0" }],
    },
  },
};
const orders: TableShape = {
  name: "orders",
  shardKey: "user_id",
  keyType: "integer",
  primaryKey: ["id"],
  keyOrder: "client",
  secondaryUniqueKeys: ["by_email"],
  estimatedRows: 1_000_000,
  estimatedBytes: 250_000_000,
  fingerprint: "f1",
  detail: {},
};

function input(): PlanInput {
  const after = splitMap(before, { keyspace: "shop", shard: "s0", into: ["s0", "s1"], at: ["5000"] }, [
    "s0",
    "s1",
  ]);
  const [move] = movesBetween(before, after, "shop");
  if (move === undefined) throw new Error("a split without a move");
  const spec: GateSpec = {
    role: "gate",
    tables: [orders],
    slice: [{ from: boundAt("5000"), to: MAX }],
    owned: [],
    afterEpoch: 41,
  };
  return {
    keyspace: "shop",
    createdAt: "2026-01-01T00:00:00.000Z",
    before,
    after,
    tables: [orders],
    servers: [
      { shard: "s0", flavor: "mysql", version: "9.7.4", id: "u0", address: "a:1" },
      { shard: "s1", flavor: "mysql", version: "9.7.4", id: "u1", address: "a:2" },
    ],
    moves: [
      {
        move,
        rows: new Map([["orders", { count: 500_000, exact: true }]]),
        missingTables: ["orders"],
        gate: { spec, statements: ["INSERT INTO gate", "CREATE TRIGGER g\n  BEGIN\n  END"] },
        mirror: { spec: { ...spec, role: "mirror" }, statements: ["INSERT INTO mirror", "CREATE TRIGGER m"] },
      },
    ],
    deferIndexes: true,
    maxPauseMs: 500,
  };
}

describe("a plan", () => {
  it("is the same for the same input, and survives a file", () => {
    const plan = makePlan(input());
    expect(planHash(makePlan(input()))).toBe(planHash(plan));
    const read = parsePlan(JSON.stringify(plan), "x.plan.json");
    expect(read).toEqual(plan);
    expect(planHash(read)).toBe(planHash(plan));
  });

  it("has another hash as soon as anything in it differs", () => {
    const hash = planHash(makePlan(input()));
    expect(planHash(makePlan({ ...input(), tables: [{ ...orders, fingerprint: "f2" }] }))).not.toBe(hash);
  });

  it("reads as people need it", () => {
    expect(planText(makePlan(input()), { statements: false }).split("\n").slice(1)).toMatchInlineSnapshot(`
      [
        "",
        "who owns what",
        "  s0  [MIN, MAX)  →  [MIN, 5000)",
        "  s1  nothing  →  [5000, MAX)",
        "",
        "tables",
        "  orders  by user_id, primary key (id), about 1 000 000 rows, 250 MB",
        "",
        "steps",
        "  1. prepare: save the log position of s0 at s1",
        "       create table orders at s1 with the structure that s0 has",
        "  2. prepare: arm the mirror gate at s1: nobody but the tool writes to the slice there until the flip",
        "       INSERT INTO mirror",
        "       CREATE TRIGGER …, 1 of them (--statements shows all)",
        "  3. copy: copy [5000, MAX) of orders from s0 to s1",
        "  4. tail: follow the log of s0, copy changed keys again",
        "  5. copy: build the non-unique indexes of orders",
        "  6. verify: compare s0 and s1 by chunk hashes, then by key",
        "  7. cutover: arm the gate at s0",
        "       INSERT INTO gate",
        "       CREATE TRIGGER …, 1 of them (--statements shows all)",
        "  8. cutover: close the gate, drain, verify the last keys, flip the map to epoch 42, open s1",
        "",
        "moves 500 000 rows (rows counted), about 125 MB",
        "copy takes about 4.0 s to 17 s on a small machine",
        "writes to the slice pause for about 60 ms, at most 500 ms; reads and other slices never wait",
        "",
        "watch out for",
        "  unique key by_email of orders is checked by each shard alone: after the split it is not unique over shards unless it contains user_id",
      ]
    `);
  });

  it("lists every problem of a file that is no plan, with its path in the file", () => {
    expect(() => parsePlan("{", "x.json")).toThrow(/x\.json: not JSON/);
    const plan = { ...makePlan(input()), kind: "merge", extra: 1 };
    expect(() => parsePlan(JSON.stringify(plan), "x.json")).toThrow(/x\.json: kind[\s\S]*extra/);
  });
});
