import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { JobEvent } from "../job/events.ts";
import type { ServerFlavor } from "../lib/server-binary.ts";
import { sleep } from "../lib/wait.ts";
import { openRouter, type Router } from "../router/router.ts";
import { formatCount } from "../ui/format.ts";
import { compareWithPromises, type FoundRows } from "./compare-promises.ts";
import { DemoFolder } from "./demo-folder.ts";
import { type DemoFacts, faultsOf } from "./demo-report.ts";
import { type PublishedMap, readOwnedRows, readPublishedMap } from "./independent-check.ts";
import { type Call, latenciesIn, type Span } from "./latencies.ts";
import { keyspace } from "./order-writes.ts";
import { type ShopFiles, writeShopFiles } from "./shop-config.ts";
import { type Seed, seedOf } from "./shop-schema.ts";
import { loadShop, shardNames, type ShopServers, startShopServers } from "./shop-servers.ts";
import { runSplit, type SplitOutcome } from "./split-process.ts";
import { clock, Traffic } from "./traffic.ts";
import { WriteLedger } from "./write-ledger.ts";

export interface DemoOptions {
  readonly flavor: ServerFlavor;
  readonly rows: number;
  readonly writers: number;
  readonly rate: number;
  readonly seed: number;
}

export interface DemoHost {
  readonly signal: AbortSignal;
  /** One line of the story. */
  readonly tell: (text: string) => void;
  readonly onEvent: (event: JobEvent, job: string) => void;
  /** The split has ended: what comes now is told in lines again. */
  readonly onSplitEnd: () => void;
}

export interface DemoEnd {
  readonly facts: DemoFacts;
  /** Empty when all is well. */
  readonly faults: readonly string[];
  /** Where everything lies when something failed. */
  readonly kept: string | undefined;
}

/** The application writes for this long before the split begins, and after the flip. */
const warmUpMs = 2_000;
const afterFlipMs = 5_000;

/**
 * Two real servers, a shop on the first, writers and readers through the router, `shardlift split` as a process of
 * its own, and then the question whether every acknowledged write is there. Ends the servers in any case, removes
 * its folder unless something failed.
 */
export async function runDemo(options: DemoOptions, host: DemoHost): Promise<DemoEnd> {
  await using folder = await DemoFolder.make();
  try {
    const facts = await play(options, host, folder);
    const faults = faultsOf(facts);
    if (faults.length > 0) {
      folder.keep();
      const all = [...faults, "", ...facts.check.details, "", ...facts.writers.failures];
      await writeFile(join(folder.path, "faults.txt"), `${all.join("\n")}\n`);
    }
    return { facts, faults, kept: folder.isKept ? folder.path : undefined };
  } catch (error) {
    if (!host.signal.aborted) {
      folder.keep();
      host.tell(`data and logs are kept in ${folder.path}`);
    }
    throw error;
  }
}

async function play(options: DemoOptions, host: DemoHost, folder: DemoFolder): Promise<DemoFacts> {
  const { signal, tell } = host;
  const startedAt = clock();
  const seed = seedOf(options.rows, options.seed);
  await using servers = await openShop(options, host, folder, seed);
  const files = await writeShopFiles(servers, folder.path, signal);
  const before = await look(servers, files, signal);

  const ledger = new WriteLedger(join(folder.path, "writes.ndjson"));
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => ledger.close());
  const router = await openShopRouter(servers, files, options.writers);
  stack.use(router);
  const { writers, rate } = options;
  tell(
    `writing with ${writers} writers, ${formatCount(rate)} transactions/s, and reading, through the router`,
  );
  const traffic = new Traffic({ router, ledger, seed, writers, rate, salt: options.seed });
  const writingSince = clock();
  stack.defer(async () => traffic.stop());
  await sleep(warmUpMs, signal);

  const split = await splitShop(host, folder, files, traffic, ledger);
  const seconds = (clock() - writingSince) / 1_000;
  await stack.disposeAsync();

  tell("checking every acknowledged write by plain reads of both servers");
  const after = await look(servers, files, signal);
  const figures = { count: writers, calls: ledger.calls, acknowledged: ledger.acknowledged, rate, seconds };
  return {
    flavor: options.flavor,
    version: servers.version,
    rows: options.rows,
    rowsMoved: countMoved(before.found, after.found),
    split,
    before: before.map,
    after: after.map,
    writers: { ...figures, failures: ledger.failures },
    pause: pauseOf(traffic.calls, split, after.map),
    check: compareWithPromises(before.found, after.found, ledger),
    seconds: (clock() - startedAt) / 1_000,
  };
}

async function openShop(
  { flavor, rows }: DemoOptions,
  { signal, tell }: DemoHost,
  folder: DemoFolder,
  seed: Seed,
): Promise<ShopServers> {
  tell(`starting two ${flavor} servers in ${folder.path}`);
  const servers = await startShopServers({ flavor, folder: folder.path, signal });
  folder.removeLast();
  try {
    const { s0, s1 } = servers.servers;
    tell(`s0 is at 127.0.0.1:${s0.port}, s1 at 127.0.0.1:${s1.port} (${servers.version})`);
    tell(
      `loading ${formatCount(rows)} rows into s0: ${formatCount(seed.orders)} orders, ${formatCount(seed.items)} items`,
    );
    await loadShop(servers, seed, signal);
    return servers;
  } catch (error) {
    await servers[Symbol.asyncDispose]();
    throw error;
  }
}

async function openShopRouter(
  { addresses }: ShopServers,
  { control }: ShopFiles,
  writers: number,
): Promise<Router> {
  const shards = [...addresses].map(([name, address]) => [name, { host: "127.0.0.1", ...address }]);
  // A writer has six calls on the way at most; the servers take 151 connections.
  const poolSize = Math.min(100, writers * 6);
  return openRouter({
    control: { type: "sqlite", path: control },
    shards: Object.fromEntries(shards),
    poolSize,
  });
}

/** Splits while the writers write, and lets them write on for a while after the flip. */
async function splitShop(
  { signal, tell, onEvent, onSplitEnd }: DemoHost,
  folder: DemoFolder,
  { config }: ShopFiles,
  traffic: Traffic,
  ledger: WriteLedger,
): Promise<SplitOutcome> {
  tell("shardlift split s0 --into s0,s1 --cutover auto --yes");
  const outcome = await runSplit({
    folder: folder.path,
    config,
    signal,
    onEvent: (event, job) => {
      onEvent(event, job);
      if (isNearFlip(event)) traffic.forbidMovesBack();
      if (event.kind !== "state" || !milestones.has(event.state)) return;
      onEvent({ kind: "note", level: "info", text: `the application: ${progressOf(ledger)}` }, job);
    },
  });
  onSplitEnd();
  signal.throwIfAborted();
  const flippedAt = outcome.states.find(({ state }) => state === "switched")?.at;
  if (flippedAt === undefined) return outcome;
  tell(`writing on for ${afterFlipMs / 1_000} s after the flip`);
  await sleep(Math.max(0, flippedAt + afterFlipMs - clock()), signal);
  return outcome;
}

/** Where it is told how far the application is. */
const milestones: ReadonlySet<string> = new Set(["copying", "cutting-over", "switched"]);

/** The flip may come within a second or two. */
function isNearFlip(event: JobEvent): boolean {
  if (event.kind === "progress") return event.progress.copy.percent > 70;
  return event.kind === "state" && !["planned", "preparing", "copying"].includes(event.state);
}

function progressOf({ acknowledged, failures }: WriteLedger): string {
  return `${formatCount(acknowledged)} row writes acknowledged, ${formatCount(failures.length)} errors`;
}

/** What both servers hold, read through the published map. */
async function look(
  { addresses }: ShopServers,
  { routing }: ShopFiles,
  signal: AbortSignal,
): Promise<{ readonly map: PublishedMap; readonly found: FoundRows }> {
  const map = await readPublishedMap(routing, keyspace);
  const newShards = shardNames.filter((name) => name !== "s0");
  return { map, found: await readOwnedRows(map, addresses, { newShards, signal }) };
}

function countMoved(before: FoundRows, after: FoundRows): number {
  let moved = 0;
  for (const [name, { shard }] of before.rows) {
    const now = after.rows.get(name);
    if (now !== undefined && now.shard !== shard) moved += 1;
  }
  return moved;
}

/** From the first attempt at the cutover until the job said that it was done. */
function pauseOf(calls: readonly Call[], { states }: SplitOutcome, map: PublishedMap): DemoFacts["pause"] {
  const from = states.find(({ state }) => state === "cutting-over")?.at;
  const to = states.find(({ state }) => state === "switched")?.at;
  const none = { calls: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
  if (from === undefined || to === undefined) return { slice: none, otherSlices: none, reads: none };
  const span: Span = { from, to };
  const moved = map.ranges.filter(({ shard }) => shard !== "s0");
  const isMoved = (user: number): boolean =>
    moved.some((range) => user >= Number(range.from ?? -Infinity) && user < Number(range.to ?? Infinity));
  const [slice, others] = [new Array<Call>(), new Array<Call>()];
  for (const call of calls) (call.users.some(isMoved) ? slice : others).push(call);
  const of = (list: readonly Call[], kind: Call["kind"]): Call[] => list.filter((call) => call.kind === kind);
  // Readers of both sides are asked apart, so that answers of one side can not hide a silence of the other.
  const reads = [latenciesIn(of(slice, "read"), span), latenciesIn(of(others, "read"), span)];
  const slowest = reads.toSorted((a, b) => b.maxMs - a.maxMs)[0] ?? none;
  return {
    slice: latenciesIn(of(slice, "write"), span),
    otherSlices: latenciesIn(of(others, "write"), span),
    reads: slowest,
  };
}
