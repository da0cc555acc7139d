/**
 * How fast the log reader finds the keys of row changes.
 *
 *   node test/bench/log-scan.ts [--rows 300000] [--transactions 30000] [--engine mariadb|mysql] [--rounds 3]
 *
 * `bulk` are statements of many rows (inserts, updates and deletes of ~240-byte rows), `oltp` are transactions of one
 * updated row. Each is read with all changes of interest, with half of them outside the slice, and with none of the
 * tables moved. Compare the CPU a change; the rate also holds the server's work on a shared machine.
 */
import { parseArgs } from "node:util";
import type { Position } from "../../src/engines/engine.ts";
import { MysqlChangeLog } from "../../src/engines/mysql/log/change-log.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { startLocalServer } from "../../src/lib/local-server.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import { wholeSlice, type Slice } from "../../src/model/slice.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOrders, fillOrders } from "../support/bench-orders.ts";
import { job, openLogLab, type LogLab } from "../support/log-lab.ts";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "300000" },
    transactions: { type: "string", default: "30000" },
    engine: { type: "string", default: "mariadb" },
    rounds: { type: "string", default: "3" },
  },
});
const rows = Number(values.rows);
const transactions = Number(values.transactions);
const flavor = values.engine === "mysql" ? "mysql" : "mariadb";

interface Span {
  readonly name: string;
  readonly from: Position;
  /** Stands behind the last change. */
  readonly barrier: number;
  readonly changes: number;
}

async function writeLog(lab: LogLab): Promise<Span[]> {
  const log = lab.changeLog();
  await lab.root.query(createOrders);
  const start = await log.head();
  await fillOrders(lab.root, rows);
  await lab.root.query("UPDATE orders SET status='paid', amount=amount+1 WHERE id % 3 = 0");
  await lab.root.query("DELETE FROM orders WHERE id % 20 = 0");
  await lab.barrier(1);
  await lab.root.query(
    `CREATE PROCEDURE work(IN turns INT) BEGIN DECLARE i INT DEFAULT 0; WHILE i < turns DO
       UPDATE orders SET amount = amount + 1 WHERE id = 1 + (i * 7919) % ${rows}; SET i = i + 1; END WHILE; END`,
  );
  const before = await log.head();
  await lab.root.query(`CALL work(${transactions})`);
  await lab.barrier(2);
  return [
    { name: "bulk", from: start, barrier: 1, changes: rows + rows / 3 + rows / 20 },
    { name: "oltp", from: before, barrier: 2, changes: transactions },
  ];
}

async function scan(lab: LogLab, span: Span, tables: readonly MysqlTable[], slice: Slice): Promise<void> {
  const aborter = new AbortController();
  const log = new MysqlChangeLog(lab.connector);
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  let keys = 0;
  let scanned = 0;
  let batches = 0;
  for await (const batch of log.since(span.from, { job, tables, slice }, aborter.signal)) {
    batches += 1;
    scanned += batch.scanned;
    for (const change of batch.changes) keys += change.keys.length;
    if ((batch.barrier ?? 0) >= span.barrier) break;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const changes = Math.round(span.changes);
  console.log(
    `${span.name.padEnd(5)} ${`${Math.round(changes / seconds)} changes/s`.padEnd(20)}` +
      `${((user + system) / changes).toFixed(3)} µs CPU a change  ${keys} keys of ${scanned} scanned, ${batches} batches, ` +
      `${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB resident`,
  );
}

const directory = await mkdtemp(join(tmpdir(), "shardlift-log-scan-"));
try {
  await using server = await startLocalServer({
    flavor,
    directory: join(directory, "server"),
    bufferPoolMiB: 256,
    redoLogMiB: 512,
    // MariaDB deletes the temporary files of its fellows in a shared folder when it starts.
    extraArgs: ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", `--tmpdir=${directory}`],
  });
  await using lab = await openLogLab(server, "bench");
  const spans = await writeLog(lab);
  const orders = await lab.describe("orders", "user_id");
  const lower: Slice = [{ from: MIN, to: boundAt("100000") }];
  const upper: Slice = [{ from: boundAt("100000"), to: MAX }];
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const span of spans) {
      await scan(lab, span, [orders], wholeSlice);
      await scan(lab, span, [orders], round % 2 === 0 ? upper : lower);
      await scan(lab, span, [], wholeSlice);
    }
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
