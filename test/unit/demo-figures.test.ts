import { describe, expect, test } from "vitest";
import { demoDocument, type DemoFacts, demoText, faultsOf } from "../../src/demo/demo-report.ts";
import { type Call, latenciesIn } from "../../src/demo/latencies.ts";
import { adoptOrders, Users } from "../../src/demo/order-book.ts";
import { between, seededRandom } from "../../src/demo/random.ts";
import { Seed, seedOf } from "../../src/demo/shop-schema.ts";

function call(startedAt: number, endedAt: number, isDone = true): Call {
  return { kind: "write", users: [1], startedAt, endedAt, isDone };
}

describe("latencies in a span", () => {
  const span = { from: 1_000, to: 1_100 };

  test("count the calls that overlap it, in full", () => {
    const calls = [
      call(900, 950),
      call(990, 1_010),
      call(1_020, 1_050),
      call(1_090, 1_390),
      call(1_200, 1_205),
    ];
    expect(latenciesIn(calls, span)).toEqual({ calls: 3, p50Ms: 30, p99Ms: 300, maxMs: 300 });
  });

  test("are at least the longest silence that touches it", () => {
    const calls = [call(940, 950), call(1_060, 1_062), call(1_069, 1_070), call(1_255, 1_260)];
    // Answers at 950, 1062, 1070, 1260: the last silence begins inside the span and is longest.
    expect(latenciesIn(calls, span).maxMs).toBe(190);
  });

  test("take the span's ends where there is no answer before or after", () => {
    expect(latenciesIn([], span)).toEqual({ calls: 0, p50Ms: 0, p99Ms: 0, maxMs: 100 });
    expect(latenciesIn([call(1_039, 1_040)], span).maxMs).toBe(60);
  });

  test("do not take an error for an answer", () => {
    const calls = [call(995, 1_000), call(1_049, 1_050, false), call(1_099, 1_100)];
    expect(latenciesIn(calls, span).maxMs).toBe(100);
  });

  test("ignore a silence outside of it", () => {
    const calls = [
      call(100, 101),
      call(998, 999),
      call(1_050, 1_051),
      call(1_101, 1_102),
      call(5_000, 5_001),
    ];
    expect(latenciesIn(calls, span).maxMs).toBe(52);
  });
});

describe("the shop", () => {
  test.each([100, 101, 3_000, 60_000])("has %i rows in all, a third of them items", (rows) => {
    const seed = seedOf(rows, 1);
    expect(seed.orders + seed.items).toBe(rows);
    expect(seed.items).toBe(Math.floor(rows / 3));
    expect(seed.hasItem(seed.items)).toBe(true);
    expect(seed.hasItem(seed.items + 1)).toBe(false);
  });

  test("spreads its orders over all users, also where the usual step divides their number", () => {
    for (const orders of [300, 7_919 * 15]) {
      const seed = new Seed({ orders, items: 0 }, 1);
      const users = new Set(Array.from({ length: orders }, (_, index) => seed.userOf(index + 1)));
      expect(users.size).toBe(seed.users);
      expect(Math.min(...users)).toBe(1);
      expect(Math.max(...users)).toBe(seed.users);
    }
  });

  test("gives no order to two writers, leaves most untouched, and many are near the border", () => {
    const seed = seedOf(30_000, 1);
    const users = new Users(seed.users);
    const books = adoptOrders(seed, users, 6, 1);
    const ids: number[] = [];
    let near = 0;
    for (const book of books) {
      const random = seededRandom(1);
      for (
        let order = book.pick(random, () => true);
        order !== undefined;
        order = book.pick(random, () => true)
      ) {
        ids.push(order.id);
        near += users.isNearMiddle(order.user) ? 1 : 0;
        book.drop(order);
      }
    }
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBe(900);
    expect(near).toBe(450);
  });

  test("picks users of the wanted half", () => {
    const users = new Users(21);
    const random = seededRandom(3);
    for (let turn = 0; turn < 500; turn += 1) {
      for (const half of ["lower", "upper"] as const) {
        const user = users.pick(random, half);
        expect(users.halfOf(user)).toBe(half);
        expect(user).toBeGreaterThanOrEqual(1);
        expect(user).toBeLessThanOrEqual(21);
      }
    }
  });

  test("repeats its choices for the same seed", () => {
    const draw = (seed: number): number[] => {
      const random = seededRandom(seed);
      return Array.from({ length: 20 }, () => between(random, 1, 6));
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
    expect(draw(5).every((number) => number >= 1 && number <= 6)).toBe(true);
  });
});

const facts: DemoFacts = {
  flavor: "mariadb",
  version: "10.11.18-MariaDB-0+deb12u1",
  rows: 3_000,
  rowsMoved: 1_500,
  split: {
    exit: 0,
    error: undefined,
    states: [],
    maxRssMiB: 142,
    result: {
      state: "switched",
      epoch: { before: 1, after: 2 },
      at: ["67"],
      copy: { rows: 1_722, seconds: 2, rowsPerSecond: 861 },
      verify: { rows: 1_735, mismatches: 0 },
      pause: { untilCommittedMs: 20, untilOpenMs: 10 },
      memory: { maxRssMiB: 140 },
    },
  },
  before: { epoch: 1, ranges: [{ from: undefined, to: undefined, shard: "s0" }] },
  after: {
    epoch: 2,
    ranges: [
      { from: undefined, to: "67", shard: "s0" },
      { from: "67", to: undefined, shard: "s1" },
    ],
  },
  writers: { count: 8, calls: 1_500, acknowledged: 3_456, failures: [], rate: 150, seconds: 10 },
  pause: {
    slice: { calls: 90, p50Ms: 11, p99Ms: 40, maxMs: 45.5 },
    otherSlices: { calls: 80, p50Ms: 3, p99Ms: 9, maxMs: 12 },
    reads: { calls: 70, p50Ms: 1, p99Ms: 2, maxMs: 9 },
  },
  check: { rows: 3_864, lost: 0, duplicated: 0, changed: 0, details: [] },
  seconds: 13.94,
};

describe("the report", () => {
  test("is exactly the documented JSON", () => {
    expect(demoDocument(facts)).toEqual({
      schema: "shardlift.demo/v1",
      engine: "mariadb",
      rows: 3_000,
      rowsMoved: 1_500,
      copy: { seconds: 2, rowsPerSecond: 861 },
      writes: { acknowledged: 3_456, failed: 0, lost: 0, duplicated: 0 },
      pause: {
        slice: { p50Ms: 11, p99Ms: 40, maxMs: 45.5 },
        otherSlices: { maxMs: 12 },
        reads: { maxMs: 9 },
      },
      verify: { rows: 1_735, mismatches: 0 },
      epoch: { before: 1, after: 2 },
      memory: { maxRssMiB: 142 },
      seconds: 13.9,
    });
  });

  test("says what was moved and that nothing is lost", () => {
    const text = demoText(facts);
    expect(text).toContain("MariaDB 10.11.18: split of s0");
    expect(text).toContain("1 500 of 3 000 rows, users [67, MAX), from s0 to s1; epoch 1 → 2");
    expect(text).toContain("0 writes lost, 0 duplicated");
    expect(faultsOf(facts)).toEqual([]);
  });

  const check = facts.check;
  test.each<[string, Partial<DemoFacts>, RegExp]>([
    ["a lost write", { check: { ...check, lost: 1 } }, /lost/],
    ["a repeated write", { check: { ...check, duplicated: 1 } }, /twice/],
    ["a changed row", { check: { ...check, changed: 1 } }, /changed/],
    [
      "an error that the application saw",
      { writers: { ...facts.writers, failures: ["gone"] } },
      /1 errors.*gone/,
    ],
    ["a failed split", { split: { ...facts.split, error: "E_CONNECT: no" } }, /split failed: E_CONNECT/],
    ["a split without a result", { split: { ...facts.split, result: undefined } }, /ended as nothing/],
    ["a map that was not published", { after: { ...facts.after, epoch: 1 } }, /epoch 1/],
  ])("counts %s as a fault", (_, change, fault) => {
    expect(faultsOf({ ...facts, ...change })).toEqual([expect.stringMatching(fault)]);
  });

  test("can be made when the split came to nothing", () => {
    const split = { ...facts.split, exit: 1, result: undefined, error: "E_PREFLIGHT: blocked" };
    const failed = { ...facts, split, after: facts.before };
    expect(demoDocument(failed)).toMatchObject({ copy: null, verify: null, epoch: { before: 1, after: 1 } });
    expect(demoText(failed)).toContain("nothing: s0 still serves all 3 000 rows");
  });
});
