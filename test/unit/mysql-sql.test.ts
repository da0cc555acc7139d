import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { markText } from "../../src/engines/mysql/barriers.ts";
import { isGranted, parseGrants } from "../../src/engines/mysql/checks/granted.ts";
import {
  formatCreateTable,
  fingerprintOf,
  parseCreateTable,
  withoutKeys,
} from "../../src/engines/mysql/create-table.ts";
import { keyToNumber, numberToKey } from "../../src/engines/mysql/key-arithmetic.ts";
import { quoteIdentifier, quoteString } from "../../src/engines/mysql/quote.ts";
import { sliceWhere } from "../../src/engines/mysql/slice-sql.ts";
import { cutCells } from "../../src/engines/mysql/split-points.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { compareKeys, boundAt, MAX, MIN, type KeyType } from "../../src/model/key.ts";

function tableWith(keyType: KeyType, dataType = "bigint"): MysqlTable {
  const column = { name: "user`id", dataType, columnType: dataType, unsigned: false, nullable: false };
  return { name: "t", shardKey: "user`id", keyType, detail: { columns: [column] } } as unknown as MysqlTable;
}

describe("quoting", () => {
  test("names exactly the object, whatever it is called", () => {
    expect(quoteIdentifier("a.b")).toBe("`a.b`");
    expect(quoteIdentifier("we`ird")).toBe("`we``ird`");
    expect(quoteString("it's a \\ and a `")).toBe("'it''s a \\\\ and a `'");
  });
});

describe("the slice predicate", () => {
  test("is half-open, leaves MIN and MAX out and stands in parentheses", () => {
    const table = tableWith("integer");
    const where = sliceWhere(table, [
      { from: boundAt("10"), to: boundAt("20") },
      { from: boundAt("30"), to: MAX },
    ]);
    expect(where).toBe("((`user``id` >= 10 AND `user``id` < 20) OR (`user``id` >= 30))");
  });

  test("is FALSE for nothing and TRUE for everything", () => {
    const table = tableWith("integer");
    expect(sliceWhere(table, [])).toBe("FALSE");
    expect(sliceWhere(table, [{ from: boundAt("5"), to: boundAt("5") }])).toBe("FALSE");
    const halves = [
      { from: MIN, to: boundAt("5") },
      { from: boundAt("5"), to: MAX },
    ];
    expect(sliceWhere(table, halves)).toBe("TRUE");
  });

  test("writes exact literals for each type of key", () => {
    expect(sliceWhere(tableWith("decimal"), [{ from: boundAt("-1.50"), to: MAX }])).toBe(
      "((`user``id` >= -1.50))",
    );
    expect(sliceWhere(tableWith("binary"), [{ from: boundAt("0x00ff"), to: MAX }])).toBe(
      "((`user``id` >= x'00ff'))",
    );
    expect(sliceWhere(tableWith("temporal"), [{ from: boundAt("2024-05-01"), to: MAX }])).toBe(
      "((`user``id` >= '2024-05-01'))",
    );
  });

  test("does not depend on the time zone of the application inside a trigger", () => {
    const slice = [{ from: boundAt("2024-05-01 10:00:00.250000"), to: boundAt("2024-06-01") }];
    expect(sliceWhere(tableWith("temporal", "timestamp"), slice, "NEW")).toBe(
      "((COALESCE(UNIX_TIMESTAMP(NEW.`user``id`), 0) >= 1714557600.250000 AND COALESCE(UNIX_TIMESTAMP(NEW.`user``id`), 0) < 1717200000))",
    );
    expect(sliceWhere(tableWith("temporal", "datetime"), slice, "OLD")).toContain(
      "OLD.`user``id` >= '2024-05-01 10:00:00.250000'",
    );
  });

  test("refuses a bound that is not in canonical form", () => {
    expect(() => sliceWhere(tableWith("integer"), [{ from: boundAt("1 OR 1=1"), to: MAX }])).toThrow(
      /not a shard key/,
    );
  });
});

const create = [
  "CREATE TABLE `we``ird, (name` (",
  "  `id` bigint unsigned NOT NULL AUTO_INCREMENT,",
  "  `a,b` varchar(10) DEFAULT 'x, KEY `no` (\\'(',",
  "  `e` enum('it''s','a,b','(','AUTO_INCREMENT=7') DEFAULT NULL COMMENT 'line\\nbreak, with ) and ` in it',",
  "  `g` int GENERATED ALWAYS AS ((`id` + char_length(_utf8mb4')'))) VIRTUAL,",
  "  PRIMARY KEY (`id`),",
  "  UNIQUE KEY `u` (`a,b`),",
  "  KEY `k``1` (`e`,`a,b`(3)),",
  "  KEY `f` ((cast(json_unquote(`g`) as char(3) charset utf8mb4))) /*!80000 INVISIBLE */,",
  "  FULLTEXT KEY `ft` (`a,b`),",
  "  CONSTRAINT `fk``1` FOREIGN KEY (`g`) REFERENCES `o` (`id`) ON DELETE CASCADE,",
  "  CONSTRAINT `c` CHECK ((`id` > 0))",
  ") ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COMMENT='not AUTO_INCREMENT=5'",
  "/*!50100 PARTITION BY RANGE (`id`) (PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB) */",
].join("\n");

describe("SHOW CREATE TABLE", () => {
  test("is taken apart at its definitions and put together unchanged", () => {
    const table = parseCreateTable(create);
    expect(table.definitions).toHaveLength(11);
    expect(table.definitions[2]).toContain("line\\nbreak, with ) and ` in it");
    expect(formatCreateTable(table)).toBe(create);
  });

  test("loses its foreign keys, its counter and the named indexes, and nothing else", () => {
    const lines = withoutKeys(create, new Set(["k`1"])).split("\n");
    const before = create.split("\n");
    expect(before.filter((line) => !lines.includes(line))).toEqual([
      "  KEY `k``1` (`e`,`a,b`(3)),",
      "  CONSTRAINT `fk``1` FOREIGN KEY (`g`) REFERENCES `o` (`id`) ON DELETE CASCADE,",
      ") ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COMMENT='not AUTO_INCREMENT=5'",
    ]);
    expect(lines).toContain(") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='not AUTO_INCREMENT=5'");
  });

  test("has a fingerprint that moves with the structure and not with the counter", () => {
    const later = create.replace("AUTO_INCREMENT=42", "AUTO_INCREMENT=43");
    expect(fingerprintOf(later)).toBe(fingerprintOf(create));
    expect(fingerprintOf(create.replace("AUTO_INCREMENT=5'", "AUTO_INCREMENT=6'"))).not.toBe(
      fingerprintOf(create),
    );
    expect(fingerprintOf(create.replace("varchar(10)", "varchar(11)"))).not.toBe(fingerprintOf(create));
  });
});

describe("shard keys as numbers", () => {
  test("keep their order", () => {
    const digits = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n });
    fc.assert(
      fc.property(digits, digits, (a, b) => {
        for (const [type, scale] of [
          ["integer", 0],
          ["decimal", 4],
        ] as const) {
          const [x, y] = [numberToKey(type, scale, false, a), numberToKey(type, scale, false, b)];
          expect(keyToNumber(type, scale, x)).toBe(a);
          expect(Math.sign(compareKeys(type, x, y))).toBe(a < b ? -1 : a > b ? 1 : 0);
        }
      }),
    );
  });

  test("turn bytes and moments into numbers and back", () => {
    expect(numberToKey("binary", 0, false, keyToNumber("binary", 0, "0x00ff"))).toBe("0x00ff");
    expect(numberToKey("temporal", 0, false, keyToNumber("temporal", 0, "2024-02-29 23:59:59"))).toBe(
      "2024-02-29 23:59:59",
    );
    expect(numberToKey("temporal", 0, true, keyToNumber("temporal", 0, "1969-12-31"))).toBe("1969-12-31");
    expect(numberToKey("decimal", 2, false, -5n)).toBe("-0.05");
  });
});

test("cuts cells of estimated rows where equal parts end", () => {
  const cells = [
    { from: 0n, to: 100n, rows: 10 },
    { from: 100n, to: 200n, rows: 80 },
    { from: 200n, to: 300n, rows: 10 },
  ];
  expect(cutCells(cells, 1)).toEqual([150n]);
  expect(cutCells(cells, 3)).toEqual([118n, 150n, 181n]);
});

describe("a barrier's mark", () => {
  const mark = (table: string, length: number): Parameters<typeof markText>[0][number] => ({
    table,
    interval: { from: "1".repeat(length), to: undefined },
  });

  test("names every interval that is about to be read", () => {
    expect(JSON.parse(markText([mark("a", 2), mark("b", 1)]) ?? "")).toEqual([
      { table: "a", from: "11" },
      { table: "b", from: "1" },
    ]);
    expect(markText([])).toBeNull();
  });

  test("names whole tables, or all of them, when the keys are too long for the column", () => {
    expect(JSON.parse(markText([mark("a", 2000), mark("a", 1)]) ?? "")).toEqual([{ table: "a" }]);
    const many = Array.from({ length: 200 }, (_, index) => mark(`table ${index}`, 1));
    expect(markText(many)).toBe("[]");
  });
});

describe("SHOW GRANTS", () => {
  const grants = parseGrants([
    "GRANT PROCESS, REPLICATION SLAVE ON *.* TO `u`@`%`",
    "GRANT SELECT, INSERT (`a`, `b`), TRIGGER ON `sh_p`.* TO `u`@`%` WITH GRANT OPTION",
    "GRANT ALL PRIVILEGES ON `\\_shardlift`.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'",
    "GRANT SELECT ON `other`.`t` TO `u`@`%`",
    "GRANT `r1`@`%` TO `u`@`%`",
  ]);

  test("answers for levels, patterns and columns", () => {
    expect(isGranted(grants, "PROCESS")).toBe(true);
    expect(isGranted(grants, "SELECT", "shop")).toBe(true);
    expect(isGranted(grants, "SELECT", "sh_p")).toBe(true);
    expect(isGranted(grants, "INSERT", "shop")).toBe(false);
    expect(isGranted(grants, "DROP", "_shardlift")).toBe(true);
    expect(isGranted(grants, "DROP", "xshardlift")).toBe(false);
    expect(isGranted(grants, "SELECT", "other")).toBe(false);
    expect(isGranted(grants, "SELECT")).toBe(false);
  });

  test("counts the most specific grant for a database alone, as the servers do", () => {
    const both = parseGrants([
      "GRANT SELECT ON `shop_1`.* TO `u`@`%`",
      "GRANT INSERT ON `shop\\_1`.* TO `u`@`%`",
      "GRANT DROP ON `shop%`.* TO `u`@`%`",
    ]);
    expect(["SELECT", "INSERT", "DROP"].map((right) => isGranted(both, right, "shop_1"))).toEqual([
      false,
      true,
      false,
    ]);
    expect(["SELECT", "INSERT", "DROP"].map((right) => isGranted(both, right, "shop22"))).toEqual([
      false,
      false,
      true,
    ]);
    expect(["SELECT", "INSERT", "DROP"].map((right) => isGranted(both, right, "shopx1"))).toEqual([
      true,
      false,
      false,
    ]);
  });
});
