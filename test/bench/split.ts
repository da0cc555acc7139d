/**
 * A whole split, from plan to flip with verification, as an operator runs it, beside the copy alone that a plain
 * script makes (mysql2: stream, INSERT of 1,000 rows; no verification, no log, no flip).
 *
 *   npm run build && node test/bench/split.ts [--rows 1000000] [--engine mariadb|mysql]
 *
 * One run after the other on the same two servers; compare the ratios, the machine may be shared.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createConnection as connectPlain } from "mysql2";
import { createConnection } from "mysql2/promise";
import {
  benchArguments,
  createOrders,
  fillOrders,
  startBenchServers,
  type BenchServers,
} from "../support/bench-orders.ts";

const database = "bench";
const entry = fileURLToPath(new URL("../../bin/run.js", import.meta.url));

interface SplitData {
  readonly copy: { readonly rows: number; readonly seconds: number; readonly rowsPerSecond: number };
  readonly verify: { readonly rows: number; readonly mismatches: number };
  readonly pause: { readonly untilCommittedMs: number; readonly untilOpenMs: number };
  readonly memory: { readonly maxRssMiB: number };
}

async function prepare({ source, target }: BenchServers, rows: number): Promise<void> {
  for (const server of [source, target]) {
    await using root = await createConnection(server.rootConnection);
    await root.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
    await root.query("CREATE USER shardlift@'%' IDENTIFIED BY 'bench'");
    await root.query("GRANT ALL ON *.* TO shardlift@'%'");
    await root.query(`USE ${database}`);
    if (server !== source) continue;
    await root.query(createOrders);
    await fillOrders(root, rows);
    await root.query("ALTER TABLE orders ADD KEY by_user (user_id)");
  }
}

async function splitAll({ source, target }: BenchServers): Promise<{ seconds: number; data: SplitData }> {
  const folder = await mkdtemp(join(tmpdir(), "shardlift-bench-split-"));
  try {
    const config = join(folder, "shardlift.yaml");
    const shard = (port: number): string =>
      `{engine: mysql, hosts: ["127.0.0.1:${port}"], user: shardlift, passwordFile: password, database: ${database}}`;
    await writeFile(join(folder, "password"), "bench\n", { mode: 0o600 });
    await writeFile(
      config,
      `version: 1\nshards:\n  s0: ${shard(source.port)}\n  s1: ${shard(target.port)}\nkeyspaces:\n  bench: {function: range, key: user_id, tables: {orders: {}}, map: [{from: MIN, to: MAX, shard: s0}]}\n`,
      { mode: 0o600 },
    );
    const startedAt = performance.now();
    const args = [
      entry,
      "split",
      "s0",
      "--into",
      "s0,s1",
      "--at",
      "1",
      "--cutover",
      "auto",
      "--yes",
      "--json",
      "-c",
      config,
    ];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
    let stdout = "";
    child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
    const code = await new Promise((resolve) => child.once("close", resolve));
    if (code !== 0) throw new Error(`the split ended with ${String(code)}: ${stdout}`);
    return {
      seconds: (performance.now() - startedAt) / 1_000,
      data: (JSON.parse(stdout) as { data: SplitData }).data,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function copyPlainly({ source, target }: BenchServers): Promise<{ rows: number; seconds: number }> {
  await using root = await createConnection({ ...target.rootConnection, database });
  await root.query("CREATE TABLE plain LIKE orders");
  const from = connectPlain({ ...source.rootConnection, database });
  const startedAt = performance.now();
  let rows = 0;
  let batch: unknown[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    await root.query("INSERT INTO plain VALUES ?", [batch]);
    rows += batch.length;
    batch = [];
  };
  const stream = from
    .query({ sql: "SELECT * FROM orders", rowsAsArray: true })
    .stream({ highWaterMark: 1_000 });
  for await (const row of stream as AsyncIterable<unknown[]>) {
    batch.push(
      row.map((value) =>
        value !== null && typeof value === "object" && !(value instanceof Date)
          ? JSON.stringify(value)
          : value,
      ),
    );
    if (batch.length === 1_000) await flush();
  }
  await flush();
  from.destroy();
  return { rows, seconds: (performance.now() - startedAt) / 1_000 };
}

const { rows, flavors } = benchArguments(1_000_000);
const perSecond = (count: number, seconds: number): string =>
  Math.round(count / seconds)
    .toLocaleString("en")
    .padStart(9);
for (const flavor of flavors) {
  await using servers = await startBenchServers(flavor);
  await prepare(servers, rows);
  const split = await splitAll(servers);
  const plain = await copyPlainly(servers);
  const { copy, verify, pause, memory } = split.data;
  console.log(`${flavor}, ${rows.toLocaleString("en")} rows`);
  console.log(
    `  split, plan to flip, verified   ${perSecond(copy.rows, split.seconds)} rows/s  (${split.seconds.toFixed(1)} s)`,
  );
  console.log(
    `  its copy, index build included  ${perSecond(copy.rows, copy.seconds)} rows/s; ${verify.rows} rows compared, ${verify.mismatches} differ`,
  );
  console.log(
    `  plain mysql2 copy, unverified   ${perSecond(plain.rows, plain.seconds)} rows/s  (${plain.seconds.toFixed(1)} s)`,
  );
  console.log(
    `  ratio ${(plain.seconds / split.seconds).toFixed(2)}; pause ${Math.round(pause.untilCommittedMs + pause.untilOpenMs)} ms; ${memory.maxRssMiB} MiB`,
  );
}
