import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  compareKeyIds,
  formatKey,
  keyComparator,
  keyOrderOf,
  keyToLiterals,
  whereInterval,
  whereKeys,
  whyNotKeyColumn,
} from "../../src/engines/mysql/key-codec.ts";
import { column, tableOf } from "../support/mysql-shapes.ts";

const integer = tableOf([column("id", "bigint")], ["id"]);
const text = column("s", "varchar(20)", { charset: "utf8mb4" });

describe("the order of keys", () => {
  test("is that of numbers for integers of any size", () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.bigInt(), (a, b) => {
        const order = compareKeyIds(integer, a.toString(), b.toString());
        expect(Math.sign(order)).toBe(a < b ? -1 : a > b ? 1 : 0);
      }),
    );
  });

  test("is that of numbers for decimals of one scale", () => {
    const table = tableOf([column("d", "decimal(12,2)")], ["d"]);
    const plain = (cents: number): string => {
      const digits = String(Math.abs(cents)).padStart(3, "0");
      return `${cents < 0 ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
    };
    const cents = fc.integer({ min: -1_000_000_000, max: 1_000_000_000 });
    fc.assert(
      fc.property(cents, cents, (a, b) => {
        expect(Math.sign(compareKeyIds(table, plain(a), plain(b)))).toBe(Math.sign(a - b));
        expect(compareKeyIds(table, plain(a), plain(a))).toBe(0);
      }),
    );
  });

  test("is that of the clock for times with any number of hours", () => {
    const table = tableOf([column("t", "time(1)")], ["t"]);
    const sorted = [
      "-838:59:59.0",
      "-100:00:00.0",
      "-99:59:59.9",
      "-00:00:00.1",
      "00:00:00.0",
      "99:00:00.0",
      "100:00:00.0",
    ];
    expect(sorted.toReversed().toSorted(keyComparator(table))).toEqual(sorted);
  });

  test("is that of bytes for binary keys, a prefix first", () => {
    const table = tableOf([column("b", "varbinary(9)")], ["b"]);
    const sorted = ["0x", "0x00", "0x0001", "0x01", "0x7f", "0xff"];
    expect(sorted.toReversed().toSorted(keyComparator(table))).toEqual(sorted);
  });

  test("goes part by part", () => {
    const table = tableOf([column("a", "int"), column("b", "int")], ["b", "a"]);
    expect(["2,1", "-1,9", "10,-5", "2,-1"].toSorted(keyComparator(table))).toEqual([
      "-1,9",
      "2,-1",
      "2,1",
      "10,-5",
    ]);
  });

  test("belongs to the server as soon as one part is text", () => {
    expect(keyOrderOf(tableOf([column("a", "int"), text], ["a", "s"]))).toBe("server");
    expect(keyOrderOf(tableOf([column("a", "int"), text], ["a"]))).toBe("client");
  });
});

describe("keys in SQL", () => {
  test("are literals that keep every byte, an empty text included", () => {
    const table = tableOf(
      [
        text,
        column("b", "binary(2)"),
        column("d", "datetime(2)", { fraction: 2 }),
        column("e", "enum('x','y')"),
      ],
      ["s", "b", "d", "e"],
    );
    expect(keyToLiterals(table, "0x,0x0001,2024-01-01 00:00:00.50,2")).toEqual([
      "_utf8mb4 X''",
      "X'0001'",
      "'2024-01-01 00:00:00.50'",
      "2",
    ]);
  });

  test("are refused when they are not in canonical form, since they come back from journals", () => {
    const table = tableOf([column("a", "int"), text], ["a", "s"]);
    for (const key of ["1", "1 OR 1=1,0x", "1,0xZZ", "1,0x61' OR '1", "1,0x6", "1e5,0x", ",0x"]) {
      expect(() => keyToLiterals(table, key), key).toThrow("invariant");
    }
  });

  test("become lists that share their leading parts", () => {
    const table = tableOf([column("a", "int"), column("b", "int")], ["a", "b"]);
    expect(whereKeys(table, ["1,2", "1,3", "2,2"], "t")).toBe(
      "((`t`.`a`=1 AND `t`.`b` IN (2,3)) OR (`t`.`a`=2 AND `t`.`b`=2))",
    );
  });

  test("stay below the length at which MariaDB makes a join of a list", () => {
    const keys = Array.from({ length: 2500 }, (_, n) => String(n));
    const lists = [...whereKeys(integer, keys).matchAll(/IN \(([^)]*)\)/g)].map(
      (match) => match[1]?.split(",").length ?? 0,
    );
    expect(Math.max(...lists)).toBeLessThan(1000);
    expect(lists.reduce((sum, length) => sum + length, 0)).toBe(2500);
  });

  test("bound an interval with expanded comparisons and never with row constructors", () => {
    const table = tableOf([column("a", "int"), column("b", "int")], ["a", "b"]);
    expect(whereInterval(table, { from: "1,2", to: "3,4" })).toBe(
      "(`a`>=1 AND (`a`>1 OR (`a`=1 AND `b`>=2)) AND `a`<=3 AND (`a`<3 OR (`a`=3 AND `b`<4)))",
    );
    expect(whereInterval(table, { from: undefined, to: undefined })).toBe("TRUE");
  });

  test("compare an ENUM by lists of numbers, which are index ranges", () => {
    const table = tableOf([column("e", "enum('a','b''c','d')")], ["e"]);
    expect(whereInterval(table, { from: "2", to: "3" })).toBe("(`e` IN (2,3) AND `e` IN (0,1,2))");
  });
});

test("key columns without an exact text are named for preflight", () => {
  const members = Array.from({ length: 53 }, (_, n) => `'m${n}'`).join(",");
  for (const type of [
    "double",
    "float",
    "json",
    "uuid",
    `set(${members})`,
    "datetime(3) /* mariadb-5.3 */",
  ]) {
    expect(whyNotKeyColumn(column("c", type)), type).toBeDefined();
  }
  for (const type of ["int unsigned", "decimal(10,2)", "set('a','b')", "year", "varchar(9)"]) {
    expect(whyNotKeyColumn(column("c", type)), type).toBeUndefined();
  }
});

test("keys are shown to people as text only where it can not mislead", () => {
  const table = tableOf([column("a", "int"), text], ["a", "s"]);
  const shown = (value: string): string => formatKey(table, `5,0x${Buffer.from(value).toString("hex")}`);
  expect(shown("Žluť 'x'")).toBe("a=5, s='Žluť 'x''");
  expect(shown("\u001b[31m")).toBe("a=5, s=0x1b5b33316d");
});
