import { describe, expect, test } from "vitest";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import { failureOf, isCommitInDoubt } from "../../src/router/failure.ts";
import { refuseSessionStatement } from "../../src/router/lane.ts";
import { changeImage, insertSql } from "../../src/router/row-image.ts";
import { statementsFor } from "../../src/router/scatter.ts";
import { formatRefusal } from "../../src/routing/refusal.ts";

function serverError(errno: number, message = "", extra: object = {}): Error {
  return Object.assign(new Error(message), { errno, ...extra });
}

describe("what a failed statement means", () => {
  test("a gate's refusal is told from an application's own signal by its words", () => {
    const refusal = { kind: "moved", job: "split-1", afterEpoch: 41 } as const;
    expect(failureOf(serverError(1644, formatRefusal(refusal)))).toEqual({ kind: "refused", refusal });
    expect(failureOf(serverError(1644, "no negative ids"))).toEqual({ kind: "other" });
    expect(failureOf(serverError(1062, formatRefusal(refusal)))).toEqual({ kind: "other" });
  });

  test.each([1020, 1205, 1213])("%i is a conflict", (errno) => {
    expect(failureOf(serverError(errno)).kind).toBe("conflict");
  });

  test("a lost connection is known by number, by name and by being fatal", () => {
    for (const error of [
      serverError(1180),
      serverError(1927),
      serverError(4031),
      Object.assign(new Error("gone"), { code: "PROTOCOL_CONNECTION_LOST" }),
      Object.assign(new Error("closed"), { fatal: true }),
    ]) {
      expect(failureOf(error).kind).toBe("lost");
    }
  });

  test("a kill leaves a commit open, but not a statement", () => {
    expect(failureOf(serverError(1317)).kind).toBe("other");
    expect(isCommitInDoubt(serverError(1317))).toBe(true);
    expect(isCommitInDoubt(serverError(1213))).toBe(false);
  });

  test("what is no server error is the application's", () => {
    for (const error of [new Error("no stock"), "text", undefined, null])
      expect(failureOf(error).kind).toBe("other");
  });
});

describe("statements that the router does not run", () => {
  test.each([
    "COMMIT",
    "  begin",
    "/* a */ -- b\n # c\n start transaction",
    "SET @a = 1",
    "USE other",
    "xa start 'x'",
  ])("%s", (sql) => {
    expect(() => refuseSessionStatement(sql)).toThrow(expect.objectContaining({ code: "E_USAGE" }));
  });

  test.each([
    "SELECT 1",
    "(SELECT 1)",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "UPDATE settings SET a = 1",
    "INSERT INTO commit_log VALUES (1)",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "rollback to savepoint a",
    "",
  ])("but it runs: %s", (sql) => {
    expect(() => refuseSessionStatement(sql)).not.toThrow();
  });
});

describe("a scatter", () => {
  const map: RoutingMap = {
    epoch: 3,
    keyspaces: {
      shop: {
        function: "range",
        keyType: "integer",
        tables: { orders: { key: "user_id" }, "odd`name": { key: "a?b" } },
        ranges: [
          { from: MIN, to: boundAt("10"), shard: "s1" },
          { from: boundAt("10"), to: boundAt("20"), shard: "s0" },
          { from: boundAt("20"), to: MAX, shard: "s1" },
        ],
      },
      logs: {
        function: "range",
        keyType: "binary",
        tables: { log: { key: "k" } },
        ranges: [
          { from: MIN, to: boundAt("0x00ff"), shard: "s0" },
          { from: boundAt("0x00ff"), to: MAX, shard: "s1" },
        ],
      },
    },
  };

  test("asks each owner for its own rows only", () => {
    const statements = statementsFor(
      map,
      "shop",
      (owned) => `SELECT 1 FROM orders o WHERE ${owned("orders", "o")}`,
    );
    expect(Object.fromEntries(statements)).toEqual({
      s0: "SELECT 1 FROM orders o WHERE ((`o`.`user_id` >= 10 AND `o`.`user_id` < 20))",
      s1: "SELECT 1 FROM orders o WHERE ((`o`.`user_id` < 10) OR (`o`.`user_id` >= 20))",
    });
    expect(statementsFor(map, "logs", (owned) => owned("log")).get("s1")).toBe("((`log`.`k` >= x'00ff'))");
    expect(statementsFor(map, "shop", (owned) => owned("odd`name")).get("s0")).toContain(
      "`odd``name`.`a?b` >= 10",
    );
  });

  test("without the owner's predicate, or with an unknown table, is refused", () => {
    for (const build of [() => "SELECT 1", (owned: (table: string) => string) => owned("nope")]) {
      expect(() => statementsFor(map, "shop", build)).toThrow(expect.objectContaining({ code: "E_USAGE" }));
    }
  });
});

describe("a row as literals", () => {
  const image = {
    table: "t`x",
    columns: [
      ["id", "5"],
      ["a", "x'00'"],
    ],
  } as const;

  test("becomes one INSERT with quoted names", () => {
    expect(insertSql(image)).toBe("INSERT INTO `t``x` (`id`, `a`) VALUES (5, x'00')");
  });

  test("changes only columns that it has", () => {
    expect(changeImage(image, new Map([["a", "'b'"]])).columns).toEqual([
      ["id", "5"],
      ["a", "'b'"],
    ]);
    expect(() => changeImage(image, new Map([["nope", "1"]]))).toThrow("nope");
  });
});
