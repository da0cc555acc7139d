import { expect, test } from "vitest";
import type { KeyId } from "../../src/engines/engine.ts";
import { Connector } from "../../src/engines/mysql/connect.ts";
import { MysqlDigests } from "../../src/engines/mysql/digests.ts";
import { quoteIdentifier } from "../../src/engines/mysql/quote.ts";
import { memberNames } from "../../src/engines/mysql/row-columns.ts";
import { copiedColumns, type MysqlColumn, type MysqlTable } from "../../src/engines/mysql/table.ts";
import { boundAt, MAX } from "../../src/model/key.ts";
import { type Slice, wholeSlice } from "../../src/model/slice.ts";
import {
  allKeys,
  copyTable,
  everything,
  openRowPath,
  readFixture,
  type RowPath,
  type Side,
  workingCases,
} from "../support/row-path.ts";
import { describeServers, passwords, useServer } from "../support/servers.ts";

const account = { user: "shardlift", password: passwords.shardlift };

describeServers("digests of MySQL rows", (flavor) => {
  const args = ["--max-allowed-packet=16M"];
  const source = useServer(flavor, { extraArgs: args });
  const target = useServer(flavor, { extraArgs: args });
  const open = async (database: string): Promise<RowPath> =>
    openRowPath({ source: source(), target: target() }, database, account);

  test.each(workingCases(flavor))(
    "$id: the least change of any column is seen and traced to its key",
    async (entry) => {
      await using path = await open(`h_${entry.id}`);
      await path.both(readFixture(`${entry.id}/schema.sql`));
      await path.target.root.query(`DELETE FROM ${quoteIdentifier(entry.table)}`);
      const table = await path.source.describe(entry.table, entry.shardKey);
      await copyTable(path, table, wholeSlice, 1_000);
      const { digests, root } = path.target;
      const whole = await path.source.digests.of(table, wholeSlice, everything);
      expect(await digests.of(table, wholeSlice, everything)).toEqual(whole);
      const keys = await hashes(path.source, table);
      expect(keys.size).toBe(whole.rows);

      await root.query(
        "SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', unique_checks=0, foreign_key_checks=0",
      );
      if (flavor === "mariadb") await root.query("SET SESSION check_constraint_checks=0");
      let seen = 0;
      for (const column of copiedColumns(table)) {
        for (const change of leastChanges(column)) {
          await root.query("BEGIN");
          const changed = await changeOneRow(path.target, table, column, change);
          if (changed) {
            seen += 1;
            // Our digests read what is committed.
            await root.query("COMMIT");
            const now = await digests.of(table, wholeSlice, everything);
            expect(now, `${column.name} := ${change}`).not.toEqual(whole);
            const differing = difference(keys, await hashes(path.target, table));
            expect(differing.length, `${column.name} := ${change}`).toBeGreaterThan(0);
            // A changed key is one row less and another more.
            expect(differing.length).toBeLessThanOrEqual(table.primaryKey.includes(column.name) ? 2 : 1);
            await restore(path, table);
            expect(await digests.of(table, wholeSlice, everything)).toEqual(whole);
          } else {
            await root.query("ROLLBACK");
          }
        }
      }
      expect(seen).toBeGreaterThanOrEqual(copiedColumns(table).length);
    },
  );

  test("changes that cancel out in a CRC do not cancel out", async () => {
    await using path = await open("cancel");
    await path.both("CREATE TABLE x (id INT PRIMARY KEY, v VARCHAR(10))");
    await path.source.root.query("INSERT INTO x VALUES (1,'aaa'),(2,'aaa')");
    await path.target.root.query("INSERT INTO x VALUES (1,'bbb'),(2,'bbb')");
    const crc = "SELECT BIT_XOR(CRC32(CONCAT_WS('#',id,v))) AS crc FROM x";
    expect((await path.source.root.query(crc))[0]).toEqual((await path.target.root.query(crc))[0]);
    await expectDifference(path, await path.source.describe("x", "id"));
  });

  test.each([
    ["a byte moved over the border of two columns", "(1,'a','bc')", "(1,'ab','c')"],
    ["the separator inside values", "(1,'a\x01b','c')", "(1,'a','b\x01c')"],
    ["NULL in another column", "(1,NULL,'')", "(1,'',NULL)"],
    ["NULL against the empty value", "(1,NULL,'x')", "(1,'','x')"],
    ["letter case", "(1,'a','x')", "(1,'A','x')"],
    ["a trailing blank", "(1,'a','x')", "(1,'a ','x')"],
    ["a long value against its own hash", "(1,REPEAT('a',600),'x')", "(1,SHA2(REPEAT('a',600),256),'x')"],
    ["a long value in its last byte", "(1,REPEAT('a',600),'x')", "(1,CONCAT(REPEAT('a',599),'b'),'x')"],
    ["two values exchanged between rows", "(1,'a','x'),(2,'b','x')", "(1,'b','x'),(2,'a','x')"],
    ["a row twice as two rows that both lack", "(1,'a','x'),(2,'a','x')", "(3,'a','x'),(4,'a','x')"],
  ])("%s is seen", async (_, here, there) => {
    await using path = await open("fields");
    await path.both(
      "CREATE TABLE x (id INT PRIMARY KEY, a VARCHAR(2000), b TEXT) COLLATE utf8mb4_general_ci",
    );
    await path.source.root.query(`INSERT INTO x VALUES ${here}`);
    await path.target.root.query(`INSERT INTO x VALUES ${there}`);
    await expectDifference(path, await path.source.describe("x", "id"));
  });

  test("values that together exceed max_allowed_packet are hashed, not lost", async () => {
    await using path = await open("large");
    await path.both("CREATE TABLE x (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB)");
    const insert = "INSERT INTO x VALUES (1,REPEAT('a',12000000),REPEAT('b',12000000)),(2,'a','b')";
    await path.both(insert);
    const table = await path.source.describe("x", "id");
    const digest = await path.source.digests.of(table, wholeSlice, everything);
    expect(await path.target.digests.of(table, wholeSlice, everything)).toEqual(digest);
    await path.target.root.query("UPDATE x SET b=CONCAT(REPEAT('b',11999999),'c') WHERE id=1");
    await expectDifference(path, table);
  });

  test("a hash that comes out as NULL is an error, never one row less", async () => {
    await using path = await open("nulls");
    await path.both(
      "CREATE TABLE x (id INT PRIMARY KEY, a VARCHAR(400) CHARACTER SET latin1, b VARCHAR(400) CHARACTER SET latin1, c VARCHAR(400) CHARACTER SET latin1)",
    );
    await path.source.root.query(
      "INSERT INTO x VALUES (1,REPEAT('a',400),REPEAT('b',400),REPEAT('c',400)),(2,'a','b','c')",
    );
    const table = await path.source.describe("x", "id");
    const [limit] = await path.source.root.query("SELECT @@GLOBAL.max_allowed_packet AS bytes");
    // The least that there is: the long row's text of 1,200 bytes is above it.
    await path.source.root.query("SET GLOBAL max_allowed_packet=1024");
    try {
      const controller = new AbortController();
      const { endpoint } = path.source.connector;
      const connector = await Connector.open(endpoint, { signal: controller.signal });
      const digests = new MysqlDigests(connector);
      const failed = { code: "E_DIGEST_FAILED", message: expect.stringContaining("x at shard s0") };
      await expect(digests.of(table, wholeSlice, everything)).rejects.toMatchObject(failed);
      await expect(digests.buckets(table, wholeSlice, everything, 4)).rejects.toMatchObject(failed);
      await expect(digests.at(table, wholeSlice, ["1"])).rejects.toMatchObject(failed);
      expect((await digests.at(table, wholeSlice, ["2"])).size).toBe(1);
      await connector.closeAll();
      controller.abort();
    } finally {
      await path.source.root.query(
        `SET GLOBAL max_allowed_packet=${(limit as { bytes: string }[])[0]?.bytes}`,
      );
    }
  });

  test("buckets narrow a difference to its key, in the slice and interval alone", async () => {
    await using path = await open("buckets");
    // A column of the name of an alias must not be taken for it.
    await path.both(
      "CREATE TABLE x (bucket INT NOT NULL, tag BINARY(3) NOT NULL, k INT NOT NULL, v INT, PRIMARY KEY (bucket, tag))",
    );
    await path.both(
      "INSERT INTO x WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<400) SELECT n DIV 4, CHAR(n MOD 4, 0, n MOD 3 USING binary), n, n FROM s",
    );
    const table = await path.source.describe("x", "k");
    const slice: Slice = [{ from: boundAt("100"), to: MAX }];
    const interval = { from: "10,0x000000", to: "90,0x000000" };
    await path.target.root.query(
      "UPDATE x SET v=v+1 WHERE k IN (7, 99, 250, 399); DELETE FROM x WHERE k=300",
    );
    const sides = [path.source, path.target] as const;
    const [here, there] = await Promise.all(
      sides.map(async ({ digests }) => digests.buckets(table, slice, interval, 16)),
    );
    const whole = await path.source.digests.of(table, slice, interval);
    expect([...(here ?? [])].reduce((sum, [, { rows }]) => sum + rows, 0)).toBe(whole.rows);
    expect(combined([...(here?.values() ?? [])].map(({ hash }) => hash))).toBe(whole.hash);
    const differing = [...(here?.keys() ?? [])].filter(
      (at) => JSON.stringify(here?.get(at)) !== JSON.stringify(there?.get(at)),
    );
    expect(differing.length).toBeGreaterThan(0);
    expect(differing.length).toBeLessThan(3);
    const [ours, theirs] = await Promise.all(
      sides.map(async ({ digests }) => digests.listed(table, slice, interval, 16, differing)),
    );
    const keys = difference(ours ?? new Map(), theirs ?? new Map());
    expect(keys).toEqual(["62,0x020001", "75,0x000000"]);
    const at = await path.target.digests.at(table, slice, [...keys, "1,0x000000", "500,0x000000"]);
    expect([...at.keys()]).toEqual(["62,0x020001"]);
    expect(at.get("62,0x020001")).toBe(theirs?.get("62,0x020001"));
  });

  test("an empty interval has a digest of its own", async () => {
    await using path = await open("empty");
    await path.both("CREATE TABLE x (id INT PRIMARY KEY)");
    const table = await path.source.describe("x", "id");
    expect(await path.source.digests.of(table, wholeSlice, everything)).toEqual({
      rows: 0,
      hash: "0".repeat(16),
    });
    expect(await path.source.digests.buckets(table, wholeSlice, everything, 8)).toEqual(new Map());
    expect(await path.source.digests.at(table, wholeSlice, [])).toEqual(new Map());
  });
});

// ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Values that lie as close to a column's value as its type allows, each as an expression over the column `c`. */
function leastChanges(column: MysqlColumn): string[] {
  const c = quoteIdentifier(column.name);
  const scale = column.scale ?? 0;
  const fraction = column.fraction ?? 0;
  const nulls = column.nullable ? [`IF(${c} IS NULL, NULL, NULL)`] : [];
  switch (column.dataType) {
    case "tinyint":
    case "smallint":
    case "mediumint":
    case "int":
    case "bigint":
    case "year":
      return [`IF(${c}>1900,${c}-1,${c}+1)`, ...nulls];
    case "decimal":
      return [
        `IF(${c}>0,${c}-1e-${scale},${c}+1e-${scale})`.replaceAll(`1e-${scale}`, leastDecimal(scale)),
        ...nulls,
      ];
    case "float":
      // The neighbour in 24 bits, and the sign of zero.
      return [`IF(${c}=0,1e-38,${c}*1.0000001e0)`, `IF(${c}=0,-0e0,-${c})`, ...nulls];
    case "double":
      return [`IF(${c}=0,5e-324,${c}*1.0000000000000002e0)`, `IF(${c}=0,-0e0,-${c})`, ...nulls];
    case "bit":
      return [`${c}^1`, ...nulls];
    case "enum":
      return [`IF(${c}+0>1,${c}+0-1,${c}+0+1)`, ...nulls];
    case "set":
      return [`(${c}+0)^1`, ...(memberNames(column).length === 64 ? [`(${c}+0)^(1<<63)`] : []), ...nulls];
    case "date":
      return [`DATE_ADD(${c},INTERVAL 1 DAY)`, ...nulls];
    case "time":
      return [`ADDTIME(${c},'${leastTime("00:00:00", fraction)}')`, `SUBTIME('00:00:00',${c})`, ...nulls];
    case "datetime":
    case "timestamp":
      return [`DATE_ADD(${c},INTERVAL ${leastDecimal(fraction)} SECOND)`, ...nulls];
    case "json":
      return [`JSON_ARRAY(${c})`, ...nulls];
    case "geometry":
    case "point":
    case "polygon":
    case "geometrycollection":
    case "geomcollection":
      // Another reference system, and the lowest bit of the last coordinate (where that leaves a legal shape).
      return [
        `ST_GeomFromWKB(ST_AsBinary(${c}),IF(ST_SRID(${c})=0,3857,0))`,
        `ST_GeomFromWKB(INSERT(ST_AsBinary(${c}),LENGTH(ST_AsBinary(${c}))-7,1,CHAR(ASCII(SUBSTRING(ST_AsBinary(${c}),-8,1))^1 USING binary)),ST_SRID(${c}))`,
        ...nulls,
      ];
    case "binary":
    case "varbinary":
    case "tinyblob":
    case "blob":
    case "mediumblob":
    case "longblob":
      return [
        `CONCAT(LEFT(${c},LENGTH(${c})-1),CHAR(ASCII(RIGHT(${c},1))^1 USING binary))`,
        `CONCAT(CHAR(ASCII(LEFT(${c},1))^128 USING binary),SUBSTRING(${c},2))`,
        `CONCAT(${c},X'00')`,
        ...nulls,
      ];
    default:
      // Text in any charset: another last character, another case, one blank more.
      return [
        `CONCAT(LEFT(${c},CHAR_LENGTH(${c})-1),IF(RIGHT(${c},1)='q','w','q'))`,
        `IF(BINARY UPPER(${c})=BINARY ${c},LOWER(${c}),UPPER(${c}))`,
        `CONCAT(${c},' ')`,
        ...nulls,
      ];
  }
}

function leastDecimal(scale: number): string {
  return scale === 0 ? "1" : `0.${"0".repeat(scale - 1)}1`;
}

function leastTime(zero: string, fraction: number): string {
  return fraction === 0 ? "00:00:01" : `${zero}.${"0".repeat(fraction - 1)}1`;
}

/** Changes the first row whose stored bytes really become others; false when there is none. */
async function changeOneRow(
  side: Side,
  table: MysqlTable,
  column: MysqlColumn,
  change: string,
): Promise<boolean> {
  const name = quoteIdentifier(column.name);
  const text = await shown(side, table, column);
  for (const skip of [0, 1, 2, 3, 5, 8, 13, 21, 34, 55]) {
    const key = [...(await hashes(side, table)).keys()].toSorted()[skip];
    if (key === undefined) continue;
    await side.root
      .query(
        `UPDATE ${quoteIdentifier(table.name)} SET ${keepTimes(table, column)}${name}=${change} WHERE ${whereKey(table, key)}`,
      )
      // A duplicate, or a value that the column does not take: another row may do.
      .catch(() => undefined);
    if ((await shown(side, table, column)) !== text) return true;
  }
  return false;
}

/** A digest by the fixtures' own means: the sorted column as the server's hex, without our expressions. */
async function shown(side: Side, table: MysqlTable, column: MysqlColumn): Promise<string> {
  const name = quoteIdentifier(column.name);
  const exact = ["float", "double"].includes(column.dataType)
    ? `CONCAT(${name}*1e0)`
    : ["enum", "set", "bit"].includes(column.dataType)
      ? `CONCAT(${name}+0)`
      : `HEX(${name})`;
  const order = table.primaryKey.map(quoteIdentifier).join(",");
  const sql = `SELECT IFNULL(${exact},'~') AS v FROM ${quoteIdentifier(table.name)} ORDER BY ${order}`;
  const [rows] = await side.root.query(sql);
  return (rows as { v: Buffer | string }[]).map(({ v }) => String(v)).join("|");
}

function keepTimes(table: MysqlTable, changed: MysqlColumn): string {
  return copiedColumns(table)
    .filter((column) => ["timestamp", "datetime"].includes(column.dataType) && column !== changed)
    .map(({ name }) => `${quoteIdentifier(name)}=${quoteIdentifier(name)}, `)
    .join("");
}

function whereKey(table: MysqlTable, key: KeyId): string {
  const parts = key.split(",");
  return table.primaryKey
    .map((name, index) => {
      const part = parts[index] ?? "";
      if (!part.startsWith("0x"))
        return `${quoteIdentifier(name)}=${/^-?\d+$/.test(part) ? part : `'${part}'`}`;
      return `HEX(${quoteIdentifier(name)})='${part.slice(2).toUpperCase()}'`;
    })
    .join(" AND ");
}

async function restore(path: RowPath, table: MysqlTable): Promise<void> {
  await path.target.root.query(`DELETE FROM ${quoteIdentifier(table.name)}; DELETE FROM _shardlift.chunk`);
  await copyTable(path, table, wholeSlice, 1_000);
}

async function hashes(side: Side, table: MysqlTable): Promise<Map<KeyId, string>> {
  return await side.digests.at(table, wholeSlice, await allKeys(side, table));
}

function difference(a: ReadonlyMap<KeyId, string>, b: ReadonlyMap<KeyId, string>): KeyId[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key)).toSorted();
}

async function expectDifference(path: RowPath, table: MysqlTable): Promise<void> {
  const [here, there] = [path.source.digests, path.target.digests];
  expect(await here.of(table, wholeSlice, everything)).not.toEqual(
    await there.of(table, wholeSlice, everything),
  );
}

function combined(digests: readonly string[]): string {
  const all = digests.reduce((sum, hash) => sum ^ BigInt(`0x${hash}`), 0n);
  return all.toString(16).padStart(16, "0");
}
