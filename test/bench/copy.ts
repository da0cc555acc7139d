/**
 * Copy between two real servers: our row path against what mysql2 code usually looks like, and the recopy by key.
 *
 *   node test/bench/copy.ts [--rows 300000] [--engine mariadb|mysql]
 *
 * Runs alternate, so that both see the same load of the machine; compare the ratios and the CPU a row.
 */
import { createConnection } from "mysql2";
import { createConnection as connectPromise } from "mysql2/promise";
import type { KeyId } from "../../src/engines/engine.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { wholeSlice } from "../../src/model/slice.ts";
import {
  benchArguments,
  createOrders,
  fillOrders,
  measure,
  show,
  startBenchServers,
  type BenchServers,
  type Cost,
} from "../support/bench-orders.ts";
import { barrier, openRowPath, type RowPath } from "../support/row-path.ts";

const database = "bench";
const chunkRows = 50_000;
const rounds = 3;
const usually = "mysql2 stream + INSERT of 1,000 rows";
const named = (connections: number): string =>
  `shardlift, ${connections} connection${connections === 1 ? "" : "s"}`;

async function copyChunks(path: RowPath, table: MysqlTable, connections: number): Promise<number> {
  const bounds: (KeyId | undefined)[] = [undefined];
  for (;;) {
    const next = await path.source.reader.boundary(table, wholeSlice, bounds.at(-1), chunkRows);
    bounds.push(next);
    if (next === undefined) break;
  }
  let next = 0;
  let copied = 0;
  const worker = async (): Promise<void> => {
    while (next < bounds.length - 1) {
      const at = next;
      next += 1;
      const interval = { from: bounds[at], to: bounds[at + 1] };
      const rows = path.source.reader.rowsIn(table, wholeSlice, interval, barrier);
      await path.target.writer.load(
        { shape: table, slice: wholeSlice, source: "s0", interval, displaced },
        rows,
      );
      copied += rows.rowCount();
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  return copied;
}

async function displaced(): Promise<void> {}

/** A stream of row objects and INSERTs of 1,000 rows: what one writes with the driver's public interface. */
async function copyIdiomatic({ source, target }: BenchServers): Promise<number> {
  const options = {
    database,
    dateStrings: true,
    jsonStrings: true,
    supportBigNumbers: true,
    bigNumberStrings: true,
  };
  const from = createConnection({ ...source.rootConnection, ...options });
  const to = await connectPromise({ ...target.rootConnection, ...options });
  let copied = 0;
  let batch: unknown[][] = [];
  const flush = async (): Promise<void> => {
    if (batch.length > 0) await to.query("INSERT INTO orders VALUES ?", [batch]);
    copied += batch.length;
    batch = [];
  };
  await to.query("BEGIN");
  const rows = from
    .query({ sql: "SELECT * FROM orders", rowsAsArray: true })
    .stream({ highWaterMark: 2_000 });
  for await (const row of rows) {
    batch.push(row as unknown[]);
    if (batch.length === 1_000) await flush();
    if (copied % chunkRows === 0 && batch.length === 0) await to.query("COMMIT AND CHAIN");
  }
  await flush();
  await to.query("COMMIT");
  await to.end();
  from.destroy();
  return copied;
}

async function recopy(path: RowPath, table: MysqlTable, batchKeys: number): Promise<number> {
  const batches = Math.ceil(20_000 / batchKeys);
  for (let batch = 0; batch < batches; batch += 1) {
    // Spread over the table, as the keys of an application's writes are.
    const keys = Array.from({ length: batchKeys }, (_, index) =>
      String((((batch * batchKeys + index) * 7919) % rows) + 1),
    );
    const read = path.source.reader.rowsAt(table, wholeSlice, keys, barrier);
    await path.target.writer.recopy(
      { shape: table, slice: wholeSlice, keys, mayReplace: true, displaced },
      read,
    );
  }
  return batches * batchKeys;
}

const { rows, flavors } = benchArguments(300_000);
for (const flavor of flavors) {
  await using servers = await startBenchServers(flavor);
  await using path = await openRowPath(servers, database, { user: "root", password: "" });
  await path.both(createOrders);
  await fillOrders(path.source.root, rows);
  const table = await path.source.describe("orders", "user_id");
  const empty = async (): Promise<void> => {
    await path.target.root.query("TRUNCATE orders; DELETE FROM _shardlift.chunk");
  };
  console.log(`\n${flavor} ${servers.source.version}, ${rows.toLocaleString("en")} rows`);
  const best = new Map<string, Cost>();
  const run = async (name: string, body: () => Promise<number>): Promise<void> => {
    await empty();
    const cost = await measure(servers, body);
    show(name, cost);
    const known = best.get(name);
    if (known === undefined || known.rowsPerSecond < cost.rowsPerSecond) best.set(name, cost);
  };
  for (let round = 0; round < rounds; round += 1) {
    await run(named(1), async () => copyChunks(path, table, 1));
    await run(usually, async () => copyIdiomatic(servers));
    await run(named(2), async () => copyChunks(path, table, 2));
  }
  const usual = best.get(usually)?.rowsPerSecond ?? 1;
  for (const connections of [1, 2]) {
    const ours = best.get(named(connections))?.rowsPerSecond ?? 0;
    console.log(`${named(connections)}: ${(ours / usual).toFixed(1)} times ${usually}`);
  }
  // The shard key in the key makes REPLACE safe, and then it is used; else a batch is deleted and loaded.
  const byKey = { ...table, shardKey: "id" };
  for (const batchKeys of [1_000, 20]) {
    for (const [way, shape] of [
      ["REPLACE", byKey],
      ["delete + load", table],
    ] as const) {
      const cost = await measure(servers, async () => recopy(path, shape, batchKeys));
      show(`recopy by ${way}, ${batchKeys} keys a batch`, cost);
      console.log(`  ${((batchKeys / cost.rowsPerSecond) * 1000).toFixed(2)} ms a batch`);
    }
  }
}
