import { expect, test } from "vitest";
import type { KeyId } from "../../src/engines/engine.ts";
import { isLostDecimal } from "../../src/engines/mysql/json-decimals.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { boundAt, MAX } from "../../src/model/key.ts";
import { type Slice, wholeSlice } from "../../src/model/slice.ts";
import {
  allKeys,
  barrier,
  canonical,
  copyTable,
  everything,
  type HardCase,
  openRowPath,
  readFixture,
  recopyKeys,
  type RowPath,
  workingCases,
} from "../support/row-path.ts";
import { describeServers, passwords, useServer } from "../support/servers.ts";

const account = { user: "shardlift", password: passwords.shardlift };

describeServers("the row path copies byte for byte", (flavor) => {
  const args = ["--max-allowed-packet=64M"];
  const source = useServer(flavor, { extraArgs: args });
  const target = useServer(flavor, { extraArgs: args });
  const open = async (database: string): Promise<RowPath> =>
    openRowPath({ source: source(), target: target() }, database, account);

  test.each(workingCases(flavor))(
    "$id: a copied slice, and what its workload leaves after a recopy",
    async (entry) => {
      await using path = await open(`h_${entry.id}`);
      const table = await loadCase(path, entry);
      const slice: Slice = [{ from: boundAt(entry.from), to: MAX }];

      const { rows, chunks } = await copyTable(path, table, slice, 40);
      expect(rows).toBeGreaterThan(20);
      expect(chunks.length).toBeGreaterThan(2);
      await expectEqualSlice(path, entry, table, slice);

      await path.source.root.query(readFixture(`${entry.id}/workload.sql`));
      // Every key that either side knows: rows that were changed, left or entered the slice, or are gone.
      const keys = new Set([...(await allKeys(path.source, table)), ...(await allKeys(path.target, table))]);
      const mayReplace = table.secondaryUniqueKeys.length === 0;
      await recopyUntilSettled(path, table, slice, [...keys], mayReplace);
      await expectEqualSlice(path, entry, table, slice);
    },
  );

  test.each([
    [
      "FLOAT",
      "f FLOAT",
      "f*1e0",
      "(1,16777216),(2,999999.875),(3,-0e0),(4,1.17549435e-38),(5,3.4028234e38),(6,0.1)",
    ],
    [
      "DOUBLE",
      "f DOUBLE",
      "f",
      "(1,9.153846153846153),(2,-0e0),(3,5e-324),(4,1.7976931348623157e308),(5,0.1e0+0.2e0)",
    ],
    ["FLOAT(M,D)", "f FLOAT(10,8)", "f*1e0", "(1,1.33333333),(2,-99.12345678),(3,0.1)"],
    ["DOUBLE(M,D)", "f DOUBLE(20,9)", "f*1e0", "(1,4/3e0),(2,-123456.789012345),(3,0.1)"],
    [
      "BIT",
      "b BIT(64), c BIT(1) NULL",
      "b+0,c+0",
      "(1,0x3031,b'1'),(2,0,b'0'),(3,0xffffffffffffffff,NULL),(4,0x5c6e090a0d00,1)",
    ],
    [
      "ENUM with members of digits and error values",
      "e ENUM('a','') , g ENUM('2','1','00003','x') CHARACTER SET utf16",
      "e+0,g+0",
      "(1,'zzz','x'),(2,'a','2'),(3,NULL,NULL),(4,'','1'),(5,0,0),(6,2,3)",
    ],
    [
      "SET with members of digits",
      "s SET('5','','07','x')",
      "s+0",
      "(1,'5'),(2,''),(3,'07,5'),(4,15),(5,0),(6,NULL),(7,'x')",
    ],
  ])("%s", async (_, columns, shown, values) => {
    await using path = await open("types");
    await path.both(`CREATE TABLE x (id INT PRIMARY KEY, ${columns})`);
    await path.source.root.query(
      `SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO'; INSERT INTO x VALUES ${values}`,
    );
    await expectExactCopy(path, await path.source.describe("x", "id"), shown);
  });

  test("text that looks like the format of LOAD DATA", async () => {
    await using path = await open("text");
    await path.both("CREATE TABLE x (id VARBINARY(20) PRIMARY KEY, k INT NOT NULL, t TEXT)");
    const texts = [
      "",
      "\\N",
      "N",
      "NULL",
      "\\",
      "\\\\",
      "\t",
      "\n",
      "\r\n",
      "\0",
      "\u001A",
      "a\tb\nc\\d\0e",
      "'",
      '"',
      "ÿ",
      "😀",
    ];
    for (const [index, text] of texts.entries()) {
      await path.source.root.query("INSERT INTO x VALUES (?, ?, ?)", [Buffer.from(text), index, text]);
    }
    await expectExactCopy(path, await path.source.describe("x", "k"), "HEX(id),k,HEX(t)");
  });

  test("a table of one column, with the empty value as a row", async () => {
    await using path = await open("single");
    await path.both("CREATE TABLE x (id VARBINARY(20) PRIMARY KEY); ");
    await path.source.root.query("INSERT INTO x VALUES (''),('a'),('\\n')");
    await expectExactCopy(path, await path.source.describe("x", "id"), "HEX(id)");
  });

  test("a value above 16 MiB, which takes several packets", async () => {
    await using path = await open("large");
    await path.both("CREATE TABLE x (id INT PRIMARY KEY, b LONGBLOB)");
    await path.source.root.query(
      "INSERT INTO x VALUES (1,REPEAT(X'005C0AFF',4250000)),(2,NULL),(3,REPEAT('y',16777215)),(4,REPEAT('z',16777216))",
    );
    await expectExactCopy(path, await path.source.describe("x", "id"), "LENGTH(b),SHA2(b,256)");
  });

  test("memory stays bounded while the target is slow", async () => {
    await using path = await open("slow");
    await path.both("CREATE TABLE x (id INT PRIMARY KEY, b LONGBLOB)");
    await path.source.root.query("INSERT INTO x VALUES (1,REPEAT('a',1000000))");
    for (let doubled = 1; doubled < 64; doubled *= 2) {
      await path.source.root.query(`INSERT INTO x SELECT id+${doubled}, b FROM x`);
    }
    const rows = path.source.reader.rowsIn(
      await path.source.describe("x", "id"),
      wholeSlice,
      everything,
      barrier,
    );
    let taken = 0;
    let most = 0;
    for await (const block of rows.blocks) {
      taken += block.length;
      // Whatever the socket holds by now may be read; the stream must still not run ahead.
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, rows.byteCount() - taken);
    }
    expect(rows.rowCount()).toBe(64);
    expect(most).toBeLessThan(4 << 20);
  });

  const dialect: readonly [string, string, string, string][] =
    flavor === "mysql"
      ? [
          [
            "VECTOR and GEOMETRY with a spatial reference",
            "v VECTOR(3), p POINT SRID 4326 NOT NULL",
            "HEX(v),HEX(p)",
            "(1,TO_VECTOR('[0.1,-0.0,1e30]'),ST_GeomFromText('POINT(-0.0 5)',4326)),(2,NULL,ST_GeomFromText('POINT(1 2)',4326))",
          ],
        ]
      : [
          [
            "UUID, INET and compressed columns",
            "u UUID, a INET6, b INET4, t TEXT COMPRESSED, v VARBINARY(500) COMPRESSED",
            "u,a,b,t,HEX(v)",
            "(1,UUID(),'::1','92.92.10.9',REPEAT('ab\\n',999),REPEAT('\\0',400)),(2,NULL,NULL,NULL,NULL,NULL),(3,'5c5c5c5c-0a0a-0909-0d0d-000000000000','ffff::5c5c','0.0.0.0','','')",
          ],
        ];
  test.each(dialect)("%s", async (_, columns, shown, values) => {
    await using path = await open("dialect");
    await path.both(`CREATE TABLE x (id INT PRIMARY KEY, ${columns})`);
    await path.source.root.query(`INSERT INTO x VALUES ${values}`);
    await expectExactCopy(path, await path.source.describe("x", "id"), shown);
  });

  // MariaDB's JSON is text, and s04 is enough for it.
  const typedJson = flavor === "mysql" ? [["MySQL"]] : [];
  test.each(typedJson)("JSON of %s keeps the text of every number", async () => {
    await using path = await open("json");
    await path.both(
      "CREATE TABLE x (id INT PRIMARY KEY, j JSON, touched TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))",
    );
    await path.source.root.query(`INSERT INTO x (id, j) VALUES
      (1, JSON_OBJECT('price', 2.50, 'a"b\\\\.[0]', JSON_ARRAY(1.0, 7.00, JSON_OBJECT('', 0.10)))),
      (2, CAST(1.50 AS JSON)), (3, JSON_ARRAY(12345678901234567890.12, 1e21, 0.1e0+0.2e0, -0e0)),
      (4, NULL), (5, CAST('null' AS JSON)), (6, '{"a": 1.0, "b": 1, "c": 1e-7, "d": "2.50"}')`);
    await path.source.root.query(
      "INSERT INTO x (id, j) WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<300) SELECT 100+n, JSON_OBJECT('price', n/4, 'n', n) FROM s",
    );
    const table = await path.source.describe("x", "id");
    await expectExactCopy(path, table, "j,touched");
    await path.source.root.query("UPDATE x SET j=JSON_SET(j,'$.price',9.90) WHERE id BETWEEN 100 AND 130");
    await recopyKeys(path, table, wholeSlice, await allKeys(path.source, table));
    await expectSameRows(path, "j,touched");
  });

  test.each(typedJson)("what is said of a JSON number of %s is what the server does", async () => {
    await using path = await open("numbers");
    const random = (digits: number): string =>
      Array.from({ length: digits }, () => Math.floor(Math.random() * 10)).join("");
    const decimals = Array.from(
      { length: 1_500 },
      (_, index) => `${BigInt(random((index % 25) + 1))}.${random((index % 12) + 1)}`,
    );
    const integers = Array.from({ length: 200 }, (_, index) => BigInt(random((index % 30) + 1)).toString());
    const doubles = Array.from({ length: 1_500 }, (_, index) =>
      `${Math.random() * 10 ** ((index % 60) - 30)}`.replace(/^([^e]*)$/, "$1e0"),
    );
    const wrong: string[] = [];
    for (const number of [...decimals, ...integers, ...doubles]) {
      const [rows] = await path.source.root.query(
        `SELECT CAST(j AS CHAR) AS told, CAST(CAST(CAST(j AS CHAR) AS JSON) AS CHAR) AS parsed FROM (SELECT CAST(${number} AS JSON) AS j) AS d`,
      );
      const [{ told, parsed } = { told: "", parsed: "" }] = rows as { told: string; parsed: string }[];
      const lost = isLostDecimal(told);
      if (told !== parsed && !lost) wrong.push(`${told} becomes ${parsed}`);
      // It would be written as a DECIMAL.
      if (number.includes("e") && lost) wrong.push(`${told} is a DOUBLE`);
    }
    expect(wrong).toEqual([]);
  });

  test("chunks cut the whole key space, and keep to the slice where the key begins with the shard key", async () => {
    await using path = await open("chunks");
    await path.both("CREATE TABLE x (tenant INT NOT NULL, n INT NOT NULL, v INT, PRIMARY KEY (tenant, n))");
    await path.source.root.query(
      "INSERT INTO x WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM s WHERE n<499) SELECT n DIV 50 - 5, n MOD 50 - 25, n FROM s",
    );
    const table = await path.source.describe("x", "tenant");
    const { reader } = path.source;
    expect(await reader.boundary(table, wholeSlice, undefined, 500)).toBeUndefined();
    expect(await reader.boundary(table, wholeSlice, undefined, 499)).toBe("4,24");
    expect(await reader.boundary(table, wholeSlice, "-5,24", 1)).toBe("-4,-25");
    const slice: Slice = [{ from: boundAt("2"), to: MAX }];
    expect(await reader.boundary(table, slice, undefined, 1)).toBe("2,-24");
    const { rows, chunks } = await copyTable(path, table, slice, 33);
    expect(rows).toBe(150);
    expect([chunks[0]?.from, chunks.at(-1)?.to]).toEqual([undefined, undefined]);
    expect(await path.target.digests.of(table, slice, everything)).toEqual(
      await path.source.digests.of(table, slice, everything),
    );
    expect(await reader.extent(table)).toEqual({ first: "-5,-25", last: "4,24" });
  });

  test("the server says which of its collated keys lie below a boundary", async () => {
    await using path = await open("below");
    await path.both(
      "CREATE TABLE x (code VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, day TIME NOT NULL, k INT NOT NULL, PRIMARY KEY (code, day))",
    );
    await path.source.root.query(
      "INSERT INTO x VALUES ('a','10:00:00',1),('B','-100:00:00',1),('b','09:00:00',1),('É','00:00:00',1),('e ','01:00:00',1),('f','100:00:00',1),('Z','00:00:00',1)",
    );
    const table = await path.source.describe("x", "k");
    const ordered = await keysInOrder(path, table);
    expect(ordered).toHaveLength(7);
    for (const [at, boundary] of ordered.entries()) {
      const below = await path.source.reader.below(table, ordered, boundary);
      expect(below).toEqual(ordered.map((_, index) => index < at));
    }
  });
});

// ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function loadCase(path: RowPath, { id, table, shardKey }: HardCase): Promise<MysqlTable> {
  await path.both(readFixture(`${id}/schema.sql`));
  await path.target.root.query(`DELETE FROM \`${table.replaceAll("`", "``")}\``);
  return await path.source.describe(table, shardKey);
}

/** Compares the slice at the source with all that the target holds, by the fixtures' own query and by our digests. */
async function expectEqualSlice(
  path: RowPath,
  entry: HardCase,
  table: MysqlTable,
  slice: Slice,
): Promise<void> {
  const name = `\`${entry.table.replaceAll("`", "``")}\``;
  const shardKey = `\`${entry.shardKey}\``;
  await path.source.root.query("BEGIN");
  await path.source.root.query(`DELETE FROM ${name} WHERE ${shardKey} < ${entry.from}`);
  const expected = await canonical(path.source.root, entry);
  await path.source.root.query("ROLLBACK");
  expect(expected.length).toBeGreaterThan(0);
  expect(await canonical(path.target.root, entry)).toEqual(expected);
  const digest = await path.target.digests.of(table, wholeSlice, everything);
  expect(digest).toEqual(await path.source.digests.of(table, slice, everything));
  expect(digest.rows).toBe(expected.length);
}

/** Rows that had to make room for a unique key are dirty again, as the tail keeps them. */
async function recopyUntilSettled(
  path: RowPath,
  table: MysqlTable,
  slice: Slice,
  keys: readonly KeyId[],
  mayReplace: boolean,
): Promise<void> {
  const dirty = new Set(keys);
  for (let batch = 0; dirty.size > 0; batch += 1) {
    expect(batch).toBeLessThan(100);
    const taken = [...dirty].slice(0, 60);
    for (const key of taken) dirty.delete(key);
    const displaced = async (found: readonly KeyId[]): Promise<void> => {
      for (const key of found) dirty.add(key);
    };
    await recopyKeys(path, table, slice, taken, { mayReplace, displaced });
  }
}

async function expectExactCopy(path: RowPath, table: MysqlTable, shown: string): Promise<void> {
  await copyTable(path, table, wholeSlice, 1_000);
  await expectSameRows(path, shown);
  expect(await path.target.digests.of(table, wholeSlice, everything)).toEqual(
    await path.source.digests.of(table, wholeSlice, everything),
  );
  // The other way of writing: every row once more, over the first.
  await recopyKeys(path, table, wholeSlice, await allKeys(path.source, table), { mayReplace: true });
  await expectSameRows(path, shown);
}

async function expectSameRows(path: RowPath, shown: string): Promise<void> {
  const sql = { sql: `SELECT id, ${shown} FROM x ORDER BY id`, rowsAsArray: true, typeCast: false };
  const [expected] = await path.source.root.query(sql);
  const [found] = await path.target.root.query(sql);
  expect(expected).not.toEqual([]);
  expect(found).toEqual(expected);
}

async function keysInOrder(path: RowPath, table: MysqlTable): Promise<KeyId[]> {
  const keys: KeyId[] = [];
  let next = (await path.source.reader.extent(table))?.first;
  while (next !== undefined) {
    keys.push(next);
    next = await path.source.reader.boundary(table, wholeSlice, next, 1);
  }
  return keys;
}
