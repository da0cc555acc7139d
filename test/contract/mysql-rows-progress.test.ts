import { setTimeout as delay } from "node:timers/promises";
import type { RowDataPacket } from "mysql2/promise";
import { expect, test } from "vitest";
import { reserveChunk } from "../../src/engines/mysql/claim-guard.ts";
import { execute } from "../../src/engines/mysql/query.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { wholeSlice } from "../../src/model/slice.ts";
import {
  allKeys,
  barrier,
  claim,
  copyTable,
  everything,
  nobody,
  openRowPath,
  type RowPath,
} from "../support/row-path.ts";
import { describeServers, passwords, useServer } from "../support/servers.ts";

const account = { user: "shardlift", password: passwords.shardlift };

describeServers("the progress of a chunk", (flavor) => {
  const source = useServer(flavor);
  const target = useServer(flavor);

  async function open(database: string): Promise<{ path: RowPath; table: MysqlTable }> {
    const path = await openRowPath({ source: source(), target: target() }, database, account);
    await path.both("CREATE TABLE orders (id INT PRIMARY KEY, k INT NOT NULL)");
    await path.source.root.query("INSERT INTO orders VALUES (1, 1), (2, 2), (3, 3)");
    return { path, table: await path.source.describe("orders", "k") };
  }

  async function load(path: RowPath, table: MysqlTable, interval = everything): Promise<void> {
    const rows = path.source.reader.rowsIn(table, wholeSlice, interval, barrier);
    const request = { shape: table, slice: wholeSlice, source: "s0", interval, displaced: nobody };
    await path.target.writer.load(request, rows);
  }

  async function progress(path: RowPath): Promise<string[]> {
    const [rows] = await path.target.root.query<RowDataPacket[]>(
      "SELECT CONCAT_WS(' ', tbl, COALESCE(lo, '-'), COALESCE(hi, '-'), row_count) AS line FROM _shardlift.chunk ORDER BY id",
    );
    return rows.map((row) => String(row["line"]));
  }

  test("is one row a chunk with its number of rows, empty chunks too", async () => {
    const { path, table } = await open("counted");
    await using _path = path;
    await copyTable(path, table, wholeSlice, 2);
    expect(await progress(path)).toEqual(["orders - 3 2", "orders 3 - 1"]);
    await path.target.root.query("DELETE FROM _shardlift.chunk; DELETE FROM orders");
    await path.source.root.query("DELETE FROM orders");
    await load(path, table);
    expect(await progress(path)).toEqual(["orders - - 0"]);
  });

  test("tells a second load of an empty chunk too that it is loaded", async () => {
    const { path, table } = await open("again");
    await using _path = path;
    await path.source.root.query("DELETE FROM orders");
    await load(path, table);
    await expect(load(path, table)).rejects.toMatchObject({ code: "E_COMMIT_UNKNOWN", retryable: true });
    await expect(load(path, table, { from: undefined, to: "2" })).rejects.toMatchObject({
      code: "E_COMMIT_UNKNOWN",
      retryable: false,
    });
    expect(await progress(path)).toEqual(["orders - - 0"]);
  });

  test.each(["COMMIT", "ROLLBACK"] as const)(
    "waits for an earlier load whose outcome is open: %s",
    async (verdict) => {
      const { path, table } = await open(`open_${verdict.toLowerCase()}`);
      await using _path = path;
      const earlier = await path.target.connector.connect("write");
      await execute(earlier, "BEGIN");
      await reserveChunk(earlier, claim, { source: "s0", table: "orders", interval: everything });
      let isOver = false;
      const loaded = load(path, table)
        .then(
          () => "loaded",
          (error: unknown) => error,
        )
        .finally(() => (isOver = true));
      await expect
        .poll(async () => {
          const [rows] = await path.target.root.query<RowDataPacket[]>(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO _shardlift.chunk%'",
          );
          return rows.length;
        })
        .toBe(1);
      await delay(200);
      expect(isOver).toBe(false);
      await execute(earlier, verdict);
      if (verdict === "COMMIT") {
        expect(await loaded).toMatchObject({ code: "E_COMMIT_UNKNOWN", retryable: true });
        // Only the progress was written by the earlier one here; no row came twice.
        expect(await progress(path)).toEqual(["orders - - 0"]);
      } else {
        expect(await loaded).toBe("loaded");
        expect(await progress(path)).toEqual(["orders - - 3"]);
        expect(await allKeys(path.target, table)).toEqual(["1", "2", "3"]);
      }
    },
  );
});
