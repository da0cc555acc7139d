import ZongJi, { type AnyBinlogEvent } from "@vlasky/zongji";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { KeyId } from "../../src/engines/engine.ts";
import {
  keyComparator,
  keyFromParts,
  keyOrderOf,
  keySelectList,
  whereInterval,
  whereKeys,
} from "../../src/engines/mysql/key-codec.ts";
import { queryArrays, type MysqlConnection } from "../../src/engines/mysql/query.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { openLogLab, type LogLab } from "../support/log-lab.ts";
import { randomTable, type RandomChange, type RandomTable } from "../support/random-tables.ts";
import { describeServers, useServer } from "../support/servers.ts";

/**
 * The log reader's keys against two oracles, over random tables and changes: zongji's decoded rows of the same log,
 * and what the server itself prints for the same keys.
 */
describeServers("keys out of the log", (flavor) => {
  const server = useServer(flavor, {
    extraArgs: ["--binlog-row-metadata=FULL", "--max-allowed-packet=64M", "--innodb-strict-mode=0"],
  });
  let lab: LogLab;
  let control: MysqlConnection;
  let oracle: Oracle;
  let number = 0;

  beforeAll(async () => {
    lab = await openLogLab(server(), "random");
    control = await lab.connector.connect("control");
    oracle = await startOracle(server().rootConnection);
  });
  afterAll(async () => {
    await oracle.stop();
    await lab[Symbol.asyncDispose]();
  });

  test("are those of zongji and of the server itself, in every type, and select exactly their rows", async () => {
    await fc.assert(
      fc.asyncProperty(randomTable(), async (random) => {
        number += 1;
        const name = `t${number}`;
        await lab.root.query(createTable(name, random));
        const table = await lab.describe(name, "shard");
        const follower = await lab.follow([table]);
        const printed = new Set<KeyId>();
        await lab.root.query(
          `SET SESSION binlog_row_image=${random.image}, sql_mode='NO_AUTO_VALUE_ON_ZERO'`,
        );
        for (const change of random.changes) {
          await lab.root.query(changeSql(name, change));
          for (const key of await keysOfServer(control, table)) printed.add(key);
        }
        await lab.barrier(number);
        await follower.reached(number);
        await follower.stop();
        expect(new Set(follower.keys(name))).toEqual(printed);
        if (oracleKnows(flavor, random)) {
          await oracle.reached(number);
          expect(withoutRepeats(follower.keys(name))).toEqual(withoutRepeats(oracle.keys(name, random)));
        }
        await checkSql(control, table);
        await lab.root.query(`DELETE FROM ${name}`);
      }),
      { numRuns: 60 },
    );
  });
});

function createTable(name: string, { columns, primaryKey }: RandomTable): string {
  const list = columns.map(
    (column, index) => `c${index} ${column.sql}${primaryKey.includes(index) ? " NOT NULL" : " NULL"}`,
  );
  return `CREATE TABLE ${name} (${list.join(", ")}, shard INT NOT NULL DEFAULT 0, PRIMARY KEY (${primaryKey.map((index) => `c${index}`).join(", ")}))`;
}

function changeSql(name: string, change: RandomChange): string {
  switch (change.kind) {
    case "insert":
      return `INSERT IGNORE INTO ${name} VALUES ${change.rows.map((row) => `(${row.join(",")},0)`).join(",")}`;
    case "update":
      return `UPDATE IGNORE ${name} SET c${change.column}=${change.literal} LIMIT ${change.limit}`;
    case "delete":
      return `DELETE FROM ${name} LIMIT ${change.limit}`;
  }
}

async function select(control: MysqlConnection, table: MysqlTable, rest: string): Promise<KeyId[]> {
  const list = keySelectList(table).map((part, index) => `${part} AS k${index}`);
  const rows = await queryArrays(control, `SELECT ${list.join(", ")} FROM random.${table.name} ${rest}`);
  return rows.map((row) => keyFromParts(row.map(String)));
}

async function keysOfServer(control: MysqlConnection, table: MysqlTable): Promise<KeyId[]> {
  return select(control, table, `ORDER BY ${table.primaryKey.join(", ")}`);
}

/** Keys in SQL: each selects its own row, and an interval holds what lies in it in the server's order. */
async function checkSql(control: MysqlConnection, table: MysqlTable): Promise<void> {
  const keys = await keysOfServer(control, table);
  if (keys.length === 0) return;
  for (const key of keys.slice(0, 5))
    expect(await select(control, table, `WHERE ${whereKeys(table, [key])}`)).toEqual([key]);
  expect(new Set(await select(control, table, `WHERE ${whereKeys(table, keys)}`))).toEqual(new Set(keys));
  const [from, to] = [keys[Math.floor(keys.length / 3)], keys[Math.floor((keys.length * 2) / 3)]];
  const order = `ORDER BY ${table.primaryKey.join(", ")}`;
  const inside = await select(control, table, `WHERE ${whereInterval(table, { from, to })} ${order}`);
  expect(inside).toEqual(keys.slice(Math.floor(keys.length / 3), Math.floor((keys.length * 2) / 3)));
  const below = await select(
    control,
    table,
    `WHERE ${whereInterval(table, { from: undefined, to: from })} ${order}`,
  );
  expect(below).toEqual(keys.slice(0, Math.floor(keys.length / 3)));
  if (keyOrderOf(table) === "client") expect(keys.toSorted(keyComparator(table))).toEqual(keys);
}

function withoutRepeats(keys: readonly KeyId[]): KeyId[] {
  return keys.filter((key, index) => key !== keys[index - 1]);
}

/**
 * zongji takes a column that the image leaves out for NULL, and on MariaDB a geometry column shifts the character sets
 * of the columns behind it (measured: `a` in ucs2 became "\\0a").
 */
function oracleKnows(flavor: string, { image, columns, primaryKey }: RandomTable): boolean {
  const keysKnown = primaryKey.every((index) => columns[index]?.unknownToZongji === undefined);
  return image === "FULL" && keysKnown && (flavor === "mysql" || columns.every(({ sql }) => sql !== "POINT"));
}

// ── zongji ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Oracle {
  keys(table: string, random: RandomTable): KeyId[];
  reached(barrier: number): Promise<void>;
  stop(): Promise<void>;
}

type Row = Readonly<Record<string, unknown>>;

async function startOracle(connection: { readonly host: string; readonly port: number }): Promise<Oracle> {
  const changes = new Map<string, Row[]>();
  let barrier = 0;
  let failure: unknown;
  const zongji = new ZongJi({
    ...connection,
    user: "root",
    dateStrings: true,
    timezone: "Z",
    supportBigNumbers: true,
    bigNumberStrings: true,
  });
  zongji.on("error", (error: unknown) => {
    failure ??= error;
  });
  zongji.on("binlog", (event: AnyBinlogEvent) => {
    if (!("rows" in event)) return;
    const map = event.tableMap[event.tableId];
    const rows = event.rows.flatMap((row): Row[] =>
      event.getTypeName() === "UpdateRows"
        ? [(row as { before: Row }).before, (row as { after: Row }).after]
        : [row as Row],
    );
    if (map?.tableName === "barrier") barrier = Math.max(barrier, ...rows.map((row) => Number(row["n"])));
    else changes.set(map?.tableName ?? "", [...(changes.get(map?.tableName ?? "") ?? []), ...rows]);
  });
  await new Promise<void>((resolve) => {
    zongji.on("ready", () => resolve());
    zongji.start({
      startAtEnd: true,
      serverId: 77,
      includeEvents: ["tablemap", "writerows", "updaterows", "deleterows"],
      includeSchema: { random: true, _shardlift: ["barrier"] },
    });
  });
  return {
    keys: (table, random) =>
      (changes.get(table) ?? []).map((row) =>
        keyFromParts(
          random.primaryKey.map((index) => random.columns[index]?.canonical?.(row[`c${index}`]) ?? ""),
        ),
      ),
    reached: async (n) => {
      await expect.poll(() => failure ?? barrier >= n, { timeout: 60_000, interval: 5 }).toBe(true);
    },
    stop: async () => {
      zongji.removeAllListeners("error");
      zongji.on("error", () => {});
      zongji.stop();
    },
  };
}
