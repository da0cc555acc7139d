/**
 * Digests of a chunk at the server, against the (blind) CRC32 that other tools use and against a plain scan.
 *
 *   node test/bench/verify.ts [--rows 300000] [--engine mariadb|mysql]
 *
 * Runs alternate, so that all see the same load of the machine; compare the ratios and the CPU a row.
 */
import { wholeSlice } from "../../src/model/slice.ts";
import {
  benchArguments,
  createOrders,
  fillOrders,
  measure,
  show,
  startBenchServers,
} from "../support/bench-orders.ts";
import { everything, openRowPath } from "../support/row-path.ts";

const columns = ["id", "user_id", "status", "sku", "amount", "created_at", "updated_at", "note", "attrs"];
const crc = `SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('#',${columns.join(",")},CONCAT(ISNULL(updated_at),ISNULL(note))))) FROM orders`;
const scan = "SELECT COUNT(*), SUM(LENGTH(note)) FROM orders";
const rounds = 3;

const { rows, flavors } = benchArguments(300_000);
for (const flavor of flavors) {
  await using servers = await startBenchServers(flavor);
  await using path = await openRowPath(servers, "bench", { user: "root", password: "" });
  await path.both(createOrders);
  await fillOrders(path.source.root, rows);
  const table = await path.source.describe("orders", "user_id");
  const { digests, root } = path.source;
  const keys = Array.from({ length: 1_000 }, (_, index) => String(((index * 7919) % rows) + 1));
  console.log(`\n${flavor} ${servers.source.version}, ${rows.toLocaleString("en")} rows`);
  const runs: [string, () => Promise<number>][] = [
    ["scan alone", async () => (await root.query(scan), rows)],
    ["BIT_XOR(CRC32)", async () => (await root.query(crc), rows)],
    ["digest of a chunk", async () => (await digests.of(table, wholeSlice, everything)).rows],
    [
      "digest in 256 buckets",
      async () => {
        const buckets = await digests.buckets(table, wholeSlice, everything, 256);
        return [...buckets.values()].reduce((sum, { rows }) => sum + rows, 0);
      },
    ],
    ["hashes of 1,000 keys", async () => (await digests.at(table, wholeSlice, keys)).size],
  ];
  const best = new Map<string, number>();
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, body] of runs) {
      const cost = await measure(servers, body);
      show(name, cost);
      best.set(name, Math.max(best.get(name) ?? 0, cost.rowsPerSecond));
    }
  }
  const ratio = (best.get("digest of a chunk") ?? 0) / (best.get("BIT_XOR(CRC32)") ?? 1);
  console.log(`digest of a chunk: ${ratio.toFixed(2)} of the speed of CRC32`);
}
