import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JobClaim } from "../../src/control/job-claim.ts";
import { createJob } from "../../src/control/job-records.ts";
import { thisRunner } from "../../src/control/runner.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import type { ControlStore } from "../../src/control/store.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { Range, RoutingMap } from "../../src/model/routing-map.ts";
import { RoutingStore, type RoutingView } from "../../src/routing/routing-store.ts";
import { withFaults, type Fault } from "../support/faulty-store.ts";

let folder: string;
let file: string;
let store: ControlStore;
let routing: RoutingStore;
let claims: JobClaim[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "shardlift-routing-"));
  file = join(folder, "control.db");
  store = await openSqliteStore(file);
  routing = new RoutingStore(store);
  claims = [];
});
afterEach(async () => {
  for (const claim of claims) await claim.release();
  await store.close();
  await rm(folder, { recursive: true });
});

const first = mapOf(1, [{ from: MIN, to: MAX, shard: "s0" }]);
/** s0 keeps what is below the key. */
const splitAt = (key: string, epoch = 2): RoutingMap =>
  mapOf(epoch, [
    { from: MIN, to: boundAt(key), shard: "s0" },
    { from: boundAt(key), to: MAX, shard: "s1" },
  ]);
/** s2 gets [2000, 3000). */
const carved = mapOf(2, [
  { from: MIN, to: boundAt("2000"), shard: "s0" },
  { from: boundAt("2000"), to: boundAt("3000"), shard: "s2" },
  { from: boundAt("3000"), to: MAX, shard: "s0" },
]);

async function job(id: string): Promise<JobClaim> {
  await createJob(store, {
    id,
    kind: "split",
    state: "planned",
    planHash: "x",
    createdAt: new Date().toISOString(),
  });
  const claim = await JobClaim.take(store, id, { runner: thisRunner() });
  claims.push(claim);
  return claim;
}

const flipTo = (
  claim: JobClaim,
  next: RoutingMap,
  more: { deadlineMs?: number; expectEpoch?: number } = {},
) => ({
  claim: claim.claim,
  expectEpoch: more.expectEpoch ?? next.epoch - 1,
  next,
  deadlineMs: more.deadlineMs ?? 5000,
});

describe("the first map", () => {
  test("is written once and stays what it was", async () => {
    expect(await routing.currentMap()).toBeUndefined();
    expect(await routing.initialise(first)).toEqual(first);
    const rev = await store.revision();
    expect(await routing.initialise(first)).toEqual(first);
    expect(await store.revision()).toBe(rev);
  });

  test("is one, whoever of several is the quickest", async () => {
    const others = await Promise.all([openSqliteStore(file), openSqliteStore(file)]);
    const maps = await Promise.all(
      [store, ...others].map(async (one) => new RoutingStore(one).initialise(first)),
    );
    expect(maps).toEqual([first, first, first]);
    expect(await routing.history()).toHaveLength(1);
    for (const other of others) await other.close();
  });

  test("can not be replaced by another one, but is still recognised after a flip", async () => {
    await routing.initialise(first);
    await expect(routing.initialise(splitAt("5", 1))).rejects.toMatchObject({
      code: "E_MAP_DIFFERS",
      exit: 2,
    });
    const claim = await job("j");
    await routing.flip(flipTo(claim, splitAt("5")));
    expect((await routing.initialise(first)).epoch).toBe(2);
  });

  test("with a gap, an overlap or a key that is not canonical is refused", async () => {
    const bad = mapOf(1, [
      { from: MIN, to: boundAt("5"), shard: "s0" },
      { from: boundAt("6"), to: MAX, shard: "s1" },
    ]);
    await expect(routing.initialise(bad)).rejects.toThrow("gap");
    await expect(routing.initialise(splitAt("05", 1))).rejects.toThrow("canonical");
    expect(await routing.currentMap()).toBeUndefined();
  });
});

describe("a flip", () => {
  beforeEach(async () => {
    await routing.initialise(first);
  });

  test("makes exactly the next epoch, and the one before it stays readable", async () => {
    const claim = await job("j");
    expect(await routing.flip(flipTo(claim, splitAt("5000")))).toEqual({ kind: "flipped", epoch: 2 });
    expect(await routing.currentMap()).toEqual(splitAt("5000"));
    expect(await routing.mapAt(1)).toEqual(first);
    expect(await routing.mapAt(3)).toBeUndefined();
    const history = await routing.history();
    expect(history.map(({ map, flip }) => [map.epoch, flip?.job])).toEqual([
      [1, undefined],
      [2, "j"],
    ]);
  });

  test("under a token that is not the newest one is refused and changes nothing", async () => {
    const claim = await job("j");
    const stale = flipTo(claim, splitAt("5000"));
    await claim.retake();
    expect(await routing.flip(stale)).toMatchObject({ kind: "not-flipped", cause: { code: "E_JOB_HELD" } });
    expect(await routing.currentMap()).toEqual(first);
  });

  test("under a token that is lost between the look and the swap is refused too", async () => {
    const claim = await job("j");
    const racing: ControlStore = new Proxy(store, {
      get(target, name) {
        if (name === "txn") {
          return async (...args: Parameters<ControlStore["txn"]>) => {
            await claim.retake();
            return target.txn(...args);
          };
        }
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    expect(await new RoutingStore(racing).flip(flipTo(claim, splitAt("5000")))).toMatchObject({
      kind: "not-flipped",
      cause: { code: "E_JOB_HELD" },
    });
    expect(await routing.currentMap()).toEqual(first);
  });

  test("asked for twice by the same job happens once", async () => {
    const claim = await job("j");
    await routing.flip(flipTo(claim, splitAt("5000")));
    await claim.retake();
    expect(await routing.flip(flipTo(claim, splitAt("5000")))).toEqual({ kind: "flipped", epoch: 2 });
    expect(await routing.history()).toHaveLength(2);
  });

  test("of slices that another job has moved since the plan is refused as stale", async () => {
    const [one, two] = [await job("one"), await job("two")];
    await routing.flip(flipTo(one, carved));
    expect(await routing.flip(flipTo(two, splitAt("2500")))).toMatchObject({
      kind: "not-flipped",
      cause: { code: "E_STALE_PLAN", exit: 9 },
    });
    expect(await routing.currentMap()).toEqual(carved);
  });

  test("after another job's flip of other slices is made in the map of today", async () => {
    const [one, two] = [await job("one"), await job("two")];
    await routing.flip(flipTo(one, carved));
    expect(await routing.flip(flipTo(two, splitAt("5000")))).toEqual({ kind: "flipped", epoch: 3 });
    expect(await routing.currentMap()).toEqual(
      mapOf(3, [
        { from: MIN, to: boundAt("2000"), shard: "s0" },
        { from: boundAt("2000"), to: boundAt("3000"), shard: "s2" },
        { from: boundAt("3000"), to: boundAt("5000"), shard: "s0" },
        { from: boundAt("5000"), to: MAX, shard: "s1" },
      ]),
    );
  });

  test("of two jobs at the same moment happens for both, one epoch each", async () => {
    const [one, two] = [await job("one"), await job("two")];
    const other = await openSqliteStore(file);
    const outcomes = await Promise.all([
      routing.flip(flipTo(one, carved)),
      new RoutingStore(other).flip(flipTo(two, splitAt("5000"))),
    ]);
    expect(
      new Set(outcomes.map((outcome) => (outcome.kind === "flipped" ? outcome.epoch : outcome))),
    ).toEqual(new Set([2, 3]));
    expect((await routing.currentMap())?.keyspaces["shop"]?.ranges.map((range) => range.shard)).toEqual([
      "s0",
      "s2",
      "s0",
      "s1",
    ]);
    await other.close();
  });

  test.each<[string, Fault[]]>([
    ["the answer is lost after the swap", ["drop-after"]],
    ["the request is lost", ["drop-before"]],
    ["both are, several times", ["drop-before", "drop-after", "drop-after", "drop-before"]],
  ])("is done exactly once when %s", async (_, faults) => {
    const claim = await job("j");
    expect(await new RoutingStore(withFaults(store, faults)).flip(flipTo(claim, splitAt("5000")))).toEqual({
      kind: "flipped",
      epoch: 2,
    });
    expect((await routing.history()).map(({ map }) => map.epoch)).toEqual([1, 2]);
  });

  test("whose request arrives late, after a second one was answered, is not done again", async () => {
    const claim = await job("j");
    const faulty = withFaults(store, ["delay"]);
    expect(await new RoutingStore(faulty).flip(flipTo(claim, splitAt("5000")))).toEqual({
      kind: "flipped",
      epoch: 2,
    });
    expect(await faulty.deliver()).toMatchObject([{ ok: false }]);
    expect(await routing.currentMap()).toEqual(splitAt("5000"));
  });

  test("without an answer by its deadline is unknown; after a new token it can not land any more", async () => {
    const claim = await job("j");
    const faulty = withFaults(
      store,
      Array.from({ length: 100 }, () => "delay" as const),
    );
    expect(
      await new RoutingStore(faulty).flip(flipTo(claim, splitAt("5000"), { deadlineMs: 200 })),
    ).toMatchObject({
      kind: "unknown",
      cause: { code: "E_OWNERSHIP_UNKNOWN", exit: 5 },
    });
    await claim.retake();
    expect(await routing.currentMap()).toEqual(first);
    for (const result of await faulty.deliver()) expect(result.ok).toBe(false);
    expect(await routing.currentMap()).toEqual(first);
    expect(await routing.flip(flipTo(claim, splitAt("5000")))).toEqual({ kind: "flipped", epoch: 2 });
  });

  test("of another store's job is refused", async () => {
    const claim = await job("j");
    const request = { ...flipTo(claim, splitAt("5000")), claim: { ...claim.claim, storeId: "another" } };
    expect(await routing.flip(request)).toMatchObject({ kind: "not-flipped", cause: { code: "E_JOB_HELD" } });
  });

  test("with a deadline that has passed is not tried", async () => {
    const claim = await job("j");
    expect(await routing.flip(flipTo(claim, splitAt("5000"), { deadlineMs: -1 }))).toMatchObject({
      kind: "not-flipped",
      cause: { code: "E_TIMEOUT" },
    });
    expect(await routing.currentMap()).toEqual(first);
  });
});

describe("intents and routers", () => {
  const move = {
    keyspace: "shop",
    slice: [{ from: boundAt("5000"), to: MAX }],
    fromShard: "s0",
    toShard: "s1",
  };
  const hold = { phase: "hold" as const, moves: [move], forMs: 60_000 };
  const signal = AbortSignal.timeout(60_000);

  beforeEach(async () => {
    await routing.initialise(first);
  });

  test("an intent is seen with a deadline of the reader's own clock, and is gone when it is withdrawn", async () => {
    const claim = await job("j");
    const [intent] = await routing.announce(claim.claim, hold);
    const seen = await routing.view();
    expect(seen.intents).toEqual([{ ...intent, letGoAt: expect.any(Number) as number }]);
    expect(intent).toMatchObject({ job: "j", phase: "hold", afterEpoch: 1, ...move });
    const left = (seen.intents[0]?.letGoAt ?? 0) - performance.now();
    expect(left).toBeGreaterThan(50_000);
    expect(left).toBeLessThanOrEqual(60_000);
    await routing.withdraw(claim.claim);
    await routing.withdraw(claim.claim);
    expect((await routing.view()).intents).toEqual([]);
  });

  test("announcing again replaces all that the job had announced, under new ids", async () => {
    const claim = await job("j");
    const lower = { ...move, slice: [{ from: MIN, to: boundAt("10") }], toShard: "s2" };
    const before = await routing.announce(claim.claim, { ...hold, phase: "prepare", moves: [move, lower] });
    const after = await routing.announce(claim.claim, hold);
    const seen = (await routing.view()).intents;
    expect(seen.map((intent) => intent.id)).toEqual(after.map((intent) => intent.id));
    expect(before.map((intent) => intent.id)).not.toContain(after[0]?.id);
  });

  test("an intent ends by itself at its deadline, and with the flip that it announced", async () => {
    const claim = await job("j");
    await routing.announce(claim.claim, { ...hold, forMs: 100 });
    await expect.poll(async () => (await routing.view()).intents, { timeout: 10_000 }).toEqual([]);
    await routing.announce(claim.claim, hold);
    await routing.flip(flipTo(claim, splitAt("5000")));
    const view = await routing.view();
    expect(view.map.epoch).toBe(2);
    expect(view.intents).toEqual([]);
  });

  test("only the newest token announces and withdraws", async () => {
    const claim = await job("j");
    await routing.announce(claim.claim, hold);
    const old = claim.claim;
    await claim.retake();
    await expect(routing.announce(old, hold)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    await expect(routing.withdraw(old)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    expect((await routing.view()).intents).toHaveLength(1);
  });

  test("the tool waits for every router that is alive, and no longer than for all of them", async () => {
    const other = await openSqliteStore(file);
    const routers = await Promise.all(
      [routing, new RoutingStore(other), routing].map(async (one) =>
        one.register({ ttlMs: 5000, supports: ["hold"] }),
      ),
    );
    const claim = await job("j");
    const intents = await routing.announce(claim.claim, hold);
    const waiting = routing.waitForAcks(intents, { boundMs: 30_000, signal });
    for (const router of routers) for (const intent of intents) await router.ack(intent);
    const { acked, missing } = await waiting;
    expect(acked.toSorted()).toEqual(routers.map((router) => router.id).toSorted());
    expect(missing).toEqual([]);
    for (const router of routers) await router.close();
    expect(await routing.routers()).toEqual([]);
    await other.close();
  });

  test("a silent router is named at the bound, one that is gone is not, an old answer does not count", async () => {
    const [silent, gone, good] = await Promise.all(
      ["silent", "gone", "good"].map(async (id) => routing.register({ ttlMs: 5000, supports: ["hold"], id })),
    );
    const claim = await job("j");
    const [before] = await routing.announce(claim.claim, hold);
    if (before !== undefined) await silent?.ack(before);
    const intents = await routing.announce(claim.claim, hold);
    const waiting = routing.waitForAcks(intents, { boundMs: 400, signal });
    for (const intent of intents) await good?.ack(intent);
    await gone?.close();
    const { acked, missing } = await waiting;
    expect(acked).toEqual(["good"]);
    expect(missing.map((router) => router.id)).toEqual(["silent"]);
    expect(missing[0]).toMatchObject({ pid: process.pid, supports: ["hold"] });
    await silent?.close();
    await good?.close();
  });

  test("without a router nothing is waited for", async () => {
    const claim = await job("j");
    const intents = await routing.announce(claim.claim, hold);
    const started = performance.now();
    expect(await routing.waitForAcks(intents, { boundMs: 30_000, signal })).toEqual({
      acked: [],
      missing: [],
    });
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("a follower sees prepare, hold and the flip in order, and confirmations in between", async () => {
    const claim = await job("j");
    const other = await openSqliteStore(file);
    const seen: RoutingView[] = [];
    const stop = new AbortController();
    const following = (async () => {
      for await (const view of new RoutingStore(other).follow({ signal: stop.signal, confirmMs: 50 }))
        seen.push(view);
    })();
    const until = async (condition: (view: RoutingView | undefined) => boolean): Promise<void> =>
      expect.poll(() => condition(seen.at(-1)), { timeout: 10_000, interval: 5 }).toBe(true);
    await until((view) => view?.intents.length === 0);
    await routing.announce(claim.claim, { ...hold, phase: "prepare" });
    await until((view) => view?.intents[0]?.phase === "prepare");
    await routing.announce(claim.claim, hold);
    await until((view) => view?.intents[0]?.phase === "hold");
    await routing.flip(flipTo(claim, splitAt("5000")));
    await until((view) => view?.map.epoch === 2 && view.intents.length === 0);
    await routing.withdraw(claim.claim);
    const count = seen.length;
    const last = seen.at(-1)?.confirmedAt ?? 0;
    await expect.poll(() => seen.length, { timeout: 10_000 }).toBeGreaterThan(count + 3);
    expect(seen.at(-1)?.confirmedAt).toBeGreaterThan(last);
    stop.abort();
    await following;
    // At no moment did the slice seem free at the old shard between the hold and the flip.
    const holds = seen.map((view) => (view.map.epoch === 2 ? "new" : (view.intents[0]?.phase ?? "free")));
    expect(holds.filter((state, index) => state !== holds[index - 1])).toEqual([
      "free",
      "prepare",
      "hold",
      "new",
    ]);
    await other.close();
  });

  test("a follower fails when its store is closed under it or has no map", async () => {
    const other = await openSqliteStore(join(folder, "empty.db"));
    const views = new RoutingStore(other).follow({ signal });
    await expect(views.next()).rejects.toMatchObject({ code: "E_CONTROL_STORE" });
    await other.close();
  });
});

function mapOf(epoch: number, ranges: readonly Range[]): RoutingMap {
  return {
    epoch,
    keyspaces: {
      shop: { function: "range", keyType: "integer", tables: { orders: { key: "user_id" } }, ranges },
    },
  };
}
