/**
 * How long the gate makes writers wait.
 *
 *   node test/bench/gate-pause.ts [--engine mariadb|mysql] [--writers 16] [--statements 1] [--closings 25]
 *
 * Half of the writers write to the slice, all with a think time of 0 to 4 ms. The gate is closed and opened again and
 * again. `until X` is from the first try to the held gate, retries and the connections of each try included; `held`
 * is the check of the triggers and the commit. Pauses are the longest latencies that overlap a closing.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createConnection, type Connection } from "mysql2/promise";
import { createLedgerTable, ledgerDatabase } from "../../src/engines/mysql/ledger-schema.ts";
import { startLocalServer, type LocalServer } from "../../src/lib/local-server.ts";
import { database, gateSpec, joinJob } from "../support/gate-spec.ts";

const { values } = parseArgs({
  options: {
    engine: { type: "string", default: "mariadb" },
    writers: { type: "string", default: "16" },
    statements: { type: "string", default: "1" },
    closings: { type: "string", default: "25" },
  },
});
const writerCount = Number(values.writers);
const statements = Number(values.statements);
const closings = Number(values.closings);
const rowsEach = 1000;

interface Latency {
  readonly at: number;
  readonly ms: number;
}

async function prepare(server: LocalServer): Promise<void> {
  await using root = await createConnection(server.rootConnection);
  await root.query(`CREATE DATABASE ${database}`);
  await root.query(`CREATE DATABASE ${ledgerDatabase}`);
  for (const table of ["lease", "gate"]) await root.query(createLedgerTable(table));
  await root.query(`INSERT INTO ${ledgerDatabase}.lease (job, store_id, token) VALUES ('bench', 'store', 1)`);
  await root.query("CREATE USER shardlift@'%' IDENTIFIED BY 'x'");
  await root.query("GRANT ALL ON *.* TO shardlift@'%'");
  for (const [table, key] of [
    ["orders", "user_id"],
    ["items", "buyer_id"],
  ]) {
    await root.query(
      `CREATE TABLE ${database}.${table} (id BIGINT PRIMARY KEY, ${key} BIGINT NOT NULL, v BIGINT NOT NULL)`,
    );
  }
  const rows = Array.from({ length: rowsEach * 2 }, (_, id) => [id, id < rowsEach ? 1 : 100, 0]);
  await root.query(`INSERT INTO ${database}.orders VALUES ?`, [rows]);
}

/** Rows below `rowsEach` lie outside the slice, the others inside. */
async function write(
  connection: Connection,
  inSlice: boolean,
  seen: Latency[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const started = performance.now();
    try {
      if (statements > 1) await connection.query("BEGIN");
      for (let n = 0; n < statements; n += 1) {
        const id = Math.floor(Math.random() * rowsEach) + (inSlice ? rowsEach : 0);
        await connection.query(`UPDATE orders SET v = v + 1 WHERE id = ${id}`);
      }
      if (statements > 1) await connection.query("COMMIT");
    } catch (error) {
      // Refused, or met another writer.
      if (![1644, 1213, 1205].includes((error as { errno?: number }).errno ?? 0)) throw error;
      await connection.query("ROLLBACK");
    }
    seen.push({ at: started, ms: performance.now() - started });
    await pause(Math.random() * 4);
  }
}

async function read(connection: Connection, seen: Latency[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const started = performance.now();
    await connection.query("SELECT COUNT(*), SUM(v) FROM orders WHERE id >= 1900");
    seen.push({ at: started, ms: performance.now() - started });
    await pause(3);
  }
}

async function run(server: LocalServer): Promise<void> {
  await prepare(server);
  await using runner = await joinJob(
    { host: server.host, port: server.port, password: "x" },
    { storeId: "store", job: "bench", token: 1 },
  );
  const armStarted = performance.now();
  await runner.gates.arm(gateSpec);
  const armMs = performance.now() - armStarted;

  const over = new AbortController();
  const latencies = { slice: [] as Latency[], other: [] as Latency[], reads: [] as Latency[] };
  const connections = await Promise.all(
    Array.from({ length: writerCount + 2 }, () => createConnection({ ...server.rootConnection, database })),
  );
  const clients = connections.map((connection, n) => {
    if (n >= writerCount) return read(connection, latencies.reads, over.signal);
    const inSlice = n % 2 === 0;
    return write(connection, inSlice, inSlice ? latencies.slice : latencies.other, over.signal);
  });

  await pause(500);
  const untilX: number[] = [];
  const held: number[] = [];
  const spans: { from: number; to: number }[] = [];
  let attempts = 0;
  for (let n = 0; n < closings; n += 1) {
    await pause(100 + Math.random() * 100);
    const from = performance.now();
    for (;;) {
      attempts += 1;
      const attempt = await runner.gates.tryClose(gateSpec, 100);
      if ("blockers" in attempt) continue;
      await using gate = attempt;
      untilX.push(performance.now() - from);
      const problem = await gate.whyNotTight();
      if (problem !== undefined) throw new Error(problem);
      await gate.commit();
      break;
    }
    const to = performance.now();
    held.push(to - from - (untilX.at(-1) ?? 0));
    spans.push({ from, to });
    await runner.gates.open("bench");
  }
  over.abort();
  await Promise.all(clients);
  for (const connection of connections) connection.destroy();

  const during = (seen: readonly Latency[]): number[] =>
    seen.filter(({ at, ms }) => spans.some(({ from, to }) => at < to && at + ms > from)).map(({ ms }) => ms);
  const say = (what: string, ms: readonly number[]): void => {
    process.stdout.write(`${what.padEnd(28)} p50 ${at(ms, 0.5)}  p95 ${at(ms, 0.95)}  max ${at(ms, 1)} ms\n`);
  };
  process.stdout.write(
    `${server.flavor} ${server.version}: ${writerCount} writers × ${statements} statements, ${closings} closings in ${attempts} tries, armed in ${armMs.toFixed(0)} ms\n`,
  );
  say("until X", untilX);
  say("held: check and commit", held);
  say("slice writers, overlapping", during(latencies.slice));
  say("other writers, overlapping", during(latencies.other));
  say("reads, overlapping", during(latencies.reads));
  say(
    "slice writers, all",
    latencies.slice.map(({ ms }) => ms),
  );
}

function at(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return (value?.toFixed(1) ?? "-").padStart(7);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

const directory = await mkdtemp(join(tmpdir(), "shardlift-bench-gate-"));
try {
  await using server = await startLocalServer({
    flavor: values.engine === "mysql" ? "mysql" : "mariadb",
    directory,
  });
  await run(server);
} finally {
  await rm(directory, { recursive: true, force: true });
}
