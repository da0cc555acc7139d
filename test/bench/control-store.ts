/**
 * Measures the SQLite control store on this machine: compare-and-swap, watch, and the time from an intent to the
 * acknowledgements of all routers (figures to reach: facts/control.md 7). Run: `node test/bench/control-store.ts`.
 * It only prints; machines differ too much for a limit.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JobClaim } from "../../src/control/job-claim.ts";
import { createJob } from "../../src/control/job-records.ts";
import { thisRunner } from "../../src/control/runner.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import { MAX, MIN } from "../../src/model/key.ts";
import { RoutingStore } from "../../src/routing/routing-store.ts";

const processes = 4;
const rounds = 20;

if (process.send === undefined) await measure();
else await routers(process.argv[2] ?? "", Number(process.argv[3]));

async function measure(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "shardlift-bench-"));
  const file = join(folder, "control.db");
  try {
    await measureWrites(file);
    for (const count of [1, 8, 64]) await measureAcks(file, count);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** One writer, and a watcher on a connection of its own; latencies from the send of the write. */
async function measureWrites(file: string): Promise<void> {
  const [store, other] = [await openSqliteStore(file), await openSqliteStore(file)];
  const sentAt = new Map<number, number>();
  const [writes, watches]: [number[], number[]] = [[], []];
  const stop = new AbortController();
  const watching = (async () => {
    for await (const { rev } of other.watch(["k"], 0, { signal: stop.signal, pollMs: () => 2 })) {
      watches.push(performance.now() - (sentAt.get(rev) ?? performance.now()));
      if (watches.length === 500) return;
    }
  })();
  let rev = 0;
  for (let n = 0; n < 500; n++) {
    const started = performance.now();
    sentAt.set(rev + 1, started);
    const result = await store.txn([{ key: "k", rev }], [{ put: "k", value: Buffer.from(String(n)) }]);
    writes.push(performance.now() - started);
    rev = result.rev;
    // The watcher lives in this process: let its timer run, or its latency would be ours.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await watching;
  stop.abort();
  print("compare-and-swap", writes);
  print("watch, 2 ms poll", watches);
  await store.close();
  await other.close();
}

async function measureAcks(file: string, count: number): Promise<void> {
  const store = await openSqliteStore(file);
  const routing = new RoutingStore(store);
  const ranges = [{ from: MIN, to: MAX, shard: "s0" }];
  await routing.initialise({
    epoch: 1,
    keyspaces: { shop: { function: "range", keyType: "integer", tables: { orders: { key: "id" } }, ranges } },
  });
  const job = `bench-${count}`;
  await createJob(store, {
    id: job,
    kind: "bench",
    state: "ready",
    planHash: "-",
    createdAt: new Date().toISOString(),
  });
  const claim = await JobClaim.take(store, job, { runner: thisRunner() });
  const children = Array.from({ length: Math.min(processes, count) }, () =>
    fork(import.meta.filename, [file, String(Math.ceil(count / Math.min(processes, count)))]),
  );
  await Promise.all(children.map(async (child) => once(child, "message")));
  const times: number[] = [];
  const signal = AbortSignal.timeout(120_000);
  const move = { keyspace: "shop", slice: [{ from: MIN, to: MAX }], fromShard: "s0", toShard: "s1" };
  // The routers poll fast once an intent stands.
  await routing.announce(claim.claim, { phase: "prepare", moves: [move], forMs: 120_000 });
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    const intents = await routing.announce(claim.claim, { phase: "hold", moves: [move], forMs: 120_000 });
    const { missing } = await routing.waitForAcks(intents, { boundMs: 10_000, signal });
    times.push(performance.now() - started);
    if (missing.length > 0) console.log(`round ${round}: ${missing.length} silent`);
  }
  print(`intent to ${count} acknowledgements`, times);
  await Promise.all(children.map(stopChild));
  await claim.release();
  await store.close();
}

/** The routers of one child process, each with a connection of its own. */
async function routers(file: string, count: number): Promise<void> {
  const stop = new AbortController();
  const running: Promise<void>[] = [];
  for (let n = 0; n < count; n++) {
    const store = await openSqliteStore(file);
    const routing = new RoutingStore(store);
    const registration = await routing.register({ ttlMs: 10_000, supports: ["hold"] });
    running.push(
      (async () => {
        const acked = new Set<string>();
        for await (const { intents } of routing.follow({ signal: stop.signal })) {
          for (const intent of intents) {
            if (!acked.has(intent.id)) await registration.ack(intent);
            acked.add(intent.id);
          }
        }
        await registration.close();
        await store.close();
      })(),
    );
  }
  process.send?.("ready");
  await once(process, "message");
  stop.abort();
  await Promise.all(running);
  process.disconnect();
}

async function stopChild(child: ChildProcess): Promise<void> {
  const closed = once(child, "close");
  child.send("stop");
  await closed;
}

function print(what: string, times: readonly number[]): void {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number): string =>
    (sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN).toFixed(2);
  console.log(
    `${what.padEnd(32)} p50 ${at(0.5)} ms   p95 ${at(0.95)} ms   p99 ${at(0.99)} ms   (${sorted.length})`,
  );
}
