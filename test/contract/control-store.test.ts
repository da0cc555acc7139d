import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeJson } from "../../src/control/json.ts";
import { hasStamp, settle, type StampedWrite } from "../../src/control/settle.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import {
  Compacted,
  LeaseGone,
  StoreWentBack,
  type Change,
  type ControlStore,
  type Entry,
} from "../../src/control/store.ts";
import { withFaults } from "../support/faulty-store.ts";

/** A place where one store lives; `open` gives one more client of it. */
interface Backend {
  open(options?: { keepRevisions?: number }): Promise<ControlStore>;
  remove(): Promise<void>;
  /** A process of its own that writes `count` keys `data/<name>/<n>`. */
  writer(
    name: string,
    count: number,
  ): { acked: Promise<string[]>; kill: () => void; firstAck: Promise<void> };
}

const backends: readonly { name: string; make: () => Promise<Backend> }[] = [
  { name: "sqlite", make: sqliteBackend },
];

describe.each(backends)("control store: $name", ({ make }) => {
  let backend: Backend;
  let opened: ControlStore[];

  beforeEach(async () => {
    backend = await make();
    opened = [];
  });
  afterEach(async () => {
    for (const store of opened) await store.close();
    await backend.remove();
  });

  const open = async (options?: { keepRevisions?: number }): Promise<ControlStore> => {
    const store = await backend.open(options);
    opened.push(store);
    return store;
  };

  test("has one id for all its clients, made once", async () => {
    const [a, b] = [await open(), await open()];
    expect(a.storeId).toMatch(/^[0-9a-f-]{36}$/);
    expect(b.storeId).toBe(a.storeId);
  });

  test("several clients may make a new store at the same time", async () => {
    const stores = await Promise.all([open(), open(), open(), open()]);
    expect(new Set(stores.map((store) => store.storeId)).size).toBe(1);
  });

  test("numbers all transactions of all clients in one order, each by one", async () => {
    const stores = [await open(), await open(), await open()];
    const results = await Promise.all(
      stores.flatMap((store, client) =>
        Array.from({ length: 20 }, async (_, n) => create(store, `k/${client}/${n}`, "v")),
      ),
    );
    expect(results.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, n) => n + 1));
    const { rev, entries } = await must(stores[0]).list("k/");
    expect(rev).toBe(60);
    expect(entries.map((entry) => entry.rev).toSorted((a, b) => a - b)).toEqual(
      results.toSorted((a, b) => a - b),
    );
    expect(entries.map((entry) => entry.key)).toEqual(entries.map((entry) => entry.key).toSorted());
  });

  test("writes all of a transaction or none, by its guards, and shows what stood in the way", async () => {
    const store = await open();
    const rev = await create(store, "a", "1");
    const refused = await store.txn(
      [
        { key: "a", rev },
        { key: "b", rev: 5 },
      ],
      [
        { put: "a", value: bytes("2") },
        { put: "b", value: bytes("2") },
      ],
    );
    expect(refused).toMatchObject({ ok: false, rev, current: [{ key: "a", rev }, undefined] });
    expect(text(await store.get("a"))).toBe("1");
    expect(await store.get("b")).toBeUndefined();
    const done = await store.txn(
      [
        { key: "a", rev },
        { key: "b", rev: 0 },
      ],
      [{ del: "a" }, { put: "b", value: bytes("2") }],
    );
    expect(done).toEqual({ ok: true, rev: rev + 1 });
    expect(await store.get("a")).toBeUndefined();
    expect(text(await store.get("b"))).toBe("2");
    expect(await store.revision()).toBe(rev + 1);
  });

  test("lets exactly one of many guarded writes through", async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, async () => open()));
    const results = await Promise.all(
      stores.map(async (store, n) =>
        store.txn([{ key: "one", rev: 0 }], [{ put: "one", value: bytes(String(n)) }]),
      ),
    );
    expect(results.filter((result) => result.ok)).toHaveLength(1);
  });

  test("refuses what not every backend could carry, before it is sent", async () => {
    const store = await open();
    const put = (key: string, value: Uint8Array = bytes("v")): Promise<unknown> =>
      store.txn([{ key, rev: 0 }], [{ put: key, value }]);
    await expect(put("k".repeat(513))).rejects.toMatchObject({ code: "E_BUG" });
    await expect(put("ü")).rejects.toMatchObject({ code: "E_BUG" });
    await expect(put("k", Buffer.alloc(256 * 1024 + 1))).rejects.toMatchObject({ code: "E_BUG" });
    await expect(store.txn([], [{ put: "k", value: bytes("v") }])).rejects.toThrow("without a guard");
    const twice = { put: "k", value: bytes("v") };
    await expect(store.txn([{ key: "k", rev: 0 }], [twice, twice])).rejects.toThrow("twice");
    const many = Array.from({ length: 65 }, (_, n) => `k${n}`);
    await expect(
      store.txn(
        many.map((key) => ({ key, rev: 0 })),
        many.map((key) => ({ put: key, value: bytes("v") })),
      ),
    ).rejects.toThrow("65 operations");
    expect(await store.revision()).toBe(0);
    await put("k".repeat(512), Buffer.alloc(256 * 1024, 7));
    expect((await store.get("k".repeat(512)))?.value).toEqual(new Uint8Array(256 * 1024).fill(7));
  });

  describe("leases", () => {
    test("keep their keys while they are kept alive, and take them along when they run out", async () => {
      const [store, other] = [await open(), await open()];
      const lease = await store.grant(600);
      await store.txn([{ key: "l", rev: 0 }], [{ put: "l", value: bytes("v"), lease: lease.id }]);
      const until = performance.now() + 1200;
      while (performance.now() < until) {
        expect(await store.keepAlive(lease.id)).toBe(600);
        expect((await other.get("l"))?.lease).toBe(lease.id);
        await delay(100);
      }
      await eventually(async () => (await other.get("l")) === undefined);
      expect((await other.list("l")).entries).toEqual([]);
      await expect(store.keepAlive(lease.id)).rejects.toThrow(LeaseGone);
      // The key counts as absent for guards too.
      await create(other, "l", "again");
    });

    test("tell a watcher that they ran out although nobody writes", async () => {
      const store = await open();
      const lease = await store.grant(500);
      await store.txn([{ key: "l", rev: 0 }], [{ put: "l", value: bytes("v"), lease: lease.id }]);
      const change = await nextChange(await open(), "l", 1);
      expect(change).toEqual({ rev: 2, events: [{ kind: "del", key: "l" }] });
    });

    test("end at once when they are revoked, twice over", async () => {
      const store = await open();
      const lease = await store.grant(60_000);
      await store.txn([{ key: "l", rev: 0 }], [{ put: "l", value: bytes("v"), lease: lease.id }]);
      await store.revoke(lease.id);
      await store.revoke(lease.id);
      expect(await store.get("l")).toBeUndefined();
    });

    test("can not be written under once they are gone, and then nothing of the transaction is", async () => {
      const store = await open();
      const lease = await store.grant(60_000);
      await store.revoke(lease.id);
      const guards = [
        { key: "a", rev: 0 },
        { key: "b", rev: 0 },
      ];
      const ops = [
        { put: "a", value: bytes("v") },
        { put: "b", value: bytes("v"), lease: lease.id },
      ];
      await expect(store.txn(guards, ops)).rejects.toThrow(LeaseGone);
      expect(await store.get("a")).toBeUndefined();
      expect(await store.revision()).toBe(0);
    });
  });

  describe("watch", () => {
    test("delivers every transaction once, whole and in order: own writes and those of another process", async () => {
      const store = await open();
      const writer = backend.writer("child", 60);
      const own = (async () => {
        for (let n = 1; n <= 60; n++) {
          const [a, b] = [`data/own/${n}`, `data/own2/${n}`];
          await store.txn(
            [
              { key: a, rev: 0 },
              { key: b, rev: 0 },
              { key: `other/${n}`, rev: 0 },
            ],
            [a, b, `other/${n}`].map((put) => ({ put, value: bytes("v") })),
          );
          await delay(1);
        }
      })();
      const seen = await collect(
        store,
        ["data/"],
        0,
        (all) => all.flatMap(({ events }) => events).length === 180,
      );
      await own;
      const acked = await writer.acked;
      expect(acked).toHaveLength(60);
      expect(seen.map((change) => change.rev)).toEqual(Array.from({ length: 120 }, (_, n) => n + 1));
      for (const { events } of seen) {
        const keys = events.map((event) => event.key);
        expect(keys.length === 2 ? keys[1]?.replace("own2", "own") : "data/child").toBe(
          keys.length === 2 ? keys[0] : "data/child",
        );
      }
    }, 60_000);

    test("from the revision of a list has no gap", async () => {
      const [store, other] = [await open(), await open()];
      const stop = new AbortController();
      const writing = (async () => {
        for (let n = 0; !stop.signal.aborted; n++) {
          await create(other, `w/${String(n).padStart(5, "0")}`, "v");
          await delay(1);
        }
      })();
      for (let round = 0; round < 10; round++) {
        await delay(5);
        const { rev, entries } = await store.list("w/");
        const [next] = await collect(store, ["w/"], rev, (all) => all.length > 0);
        expect(next?.rev).toBe(rev + 1);
        expect(next?.events[0]?.key).toBe(`w/${String(entries.length).padStart(5, "0")}`);
      }
      stop.abort();
      await writing;
    });

    test("ends with its signal and with the store", async () => {
      const store = await open();
      const stop = new AbortController();
      const byHand = collect(store, ["x"], 0, () => false, stop.signal);
      const byClose = collect(store, ["x"], 0, () => false);
      await create(store, "x", "v");
      stop.abort();
      expect(await byHand).toHaveLength(1);
      await store.close();
      expect((await byClose).length).toBeLessThanOrEqual(1);
    });

    test("says when events from its start on are no longer kept", async () => {
      const store = await open({ keepRevisions: 16 });
      for (let n = 0; n < 50; n++) await create(store, `x/${n}`, "v");
      await expect(nextChange(store, "x/", 3)).rejects.toThrow(Compacted);
      const kept = await collect(store, ["x/"], 40, (all) => all.length === 10);
      expect(kept.map((change) => change.rev)).toEqual([41, 42, 43, 44, 45, 46, 47, 48, 49, 50]);
    });

    test("from a revision that the store does not have yet says that the store went back", async () => {
      const store = await open();
      await expect(nextChange(store, "x", 7)).rejects.toThrow(StoreWentBack);
    });
  });

  describe("settling a write", () => {
    const write = (stamp: string, key = "s", rev = 0): StampedWrite => ({
      guards: [{ key, rev }],
      ops: [{ put: key, value: encodeJson({ stamp }) }],
      witness: key,
      isMine: hasStamp(stamp),
    });

    test("finds that it was applied when only the answer was lost", async () => {
      const store = await open();
      const faulty = withFaults(store, ["drop-after"]);
      expect(await settle(faulty, write("mine"), 2000)).toEqual({ kind: "applied", rev: 1 });
      expect(faulty.sent).toBe(2);
      expect(await store.revision()).toBe(1);
    });

    test("applies it when the request was lost", async () => {
      const store = await open();
      expect(await settle(withFaults(store, ["drop-before", "drop-before"]), write("mine"), 2000)).toEqual({
        kind: "applied",
        rev: 1,
      });
    });

    test("makes a request that arrives after it harmless", async () => {
      const store = await open();
      const faulty = withFaults(store, ["delay"]);
      expect(await settle(faulty, write("mine"), 2000)).toEqual({ kind: "applied", rev: 1 });
      expect(await faulty.deliver()).toMatchObject([{ ok: false }]);
      expect(await store.revision()).toBe(1);
    });

    test("says lost when another write was first, and a late copy of it does not land either", async () => {
      const store = await open();
      const faulty = withFaults(store, ["delay"]);
      const other = create(store, "s", JSON.stringify({ stamp: "other" }));
      await other;
      expect(await settle(faulty, write("mine"), 2000)).toMatchObject({
        kind: "lost",
        current: [{ key: "s", rev: 1 }],
      });
      expect(await faulty.deliver()).toMatchObject([{ ok: false }]);
    });

    test("says unknown when there is no answer by the deadline", async () => {
      const store = await open();
      const faulty = withFaults(
        store,
        Array.from({ length: 100 }, () => "delay" as const),
      );
      const started = performance.now();
      expect(await settle(faulty, write("mine"), 300)).toMatchObject({
        kind: "unknown",
        cause: { code: "E_WRITE_UNKNOWN" },
      });
      expect(performance.now() - started).toBeLessThan(2000);
      // It was right to say so: the write may still land.
      expect((await faulty.deliver())[0]).toMatchObject({ ok: true });
    });
  });

  describe("acknowledgements", () => {
    test("are seen by others, of this intent only, and cost no revision", async () => {
      const [tool, router] = [await open(), await open()];
      const lease = await router.grant(60_000);
      const seen = acksUntil(tool, "i1", (acked) => acked.has("r1") && acked.has("r2"));
      await router.ack("i0", "r0", lease.id);
      await router.ack("i1", "r1", lease.id);
      await router.ack("i1", "r2", lease.id);
      expect(await seen).toEqual(new Set(["r1", "r2"]));
      expect(await tool.revision()).toBe(0);
    });

    test("need a lease that is alive, and end with it", async () => {
      const store = await open();
      const lease = await store.grant(60_000);
      await store.ack("i", "r", lease.id);
      await acksUntil(store, "i", (acked) => acked.has("r"));
      const gone = acksUntil(store, "i", (acked) => acked.size === 0);
      await store.revoke(lease.id);
      await expect(store.ack("i", "r", lease.id)).rejects.toThrow(LeaseGone);
      expect((await gone).size).toBe(0);
    });
  });

  test("loses no acknowledged write when its writers are killed", async () => {
    const acked: string[] = [];
    for (let round = 0; round < 3; round++) {
      const writers = ["a", "b", "c"].map((name) => backend.writer(`${name}${round}`, 100_000));
      await Promise.all(writers.map(async (writer) => writer.firstAck));
      await delay(100 + 50 * round);
      for (const writer of writers) writer.kill();
      for (const writer of writers) acked.push(...(await writer.acked));
    }
    const store = await open();
    const { rev, entries } = await store.list("data/");
    const found = new Set(entries.map((entry) => `${entry.key} ${entry.rev}`));
    expect(acked.length).toBeGreaterThan(9);
    expect(acked.filter((line) => !found.has(line))).toEqual([]);
    // At most the write in flight of each writer is there without having been acknowledged; no revision is missing.
    expect(found.size - acked.length).toBeLessThanOrEqual(9);
    expect(rev).toBe(entries.length);
  }, 60_000);
});

async function sqliteBackend(): Promise<Backend> {
  const folder = await mkdtemp(join(tmpdir(), "shardlift-control-"));
  const file = join(folder, "store", "control.db");
  return {
    open: async (options) => openSqliteStore(file, options),
    remove: async () => rm(folder, { recursive: true }),
    writer: (name, count) => {
      const script = fileURLToPath(new URL("../support/control-child.ts", import.meta.url));
      const child = spawn(process.execPath, [script, "write", file, name, String(count)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const lines: string[] = [];
      const first = Promise.withResolvers<void>();
      createInterface(child.stdout).on("line", (line) => {
        lines.push(line);
        first.resolve();
      });
      const acked = new Promise<string[]>((resolve) => {
        child.once("close", () => {
          first.resolve();
          resolve(lines);
        });
      });
      return { acked, kill: () => child.kill("SIGKILL"), firstAck: first.promise };
    },
  };
}

async function create(store: ControlStore, key: string, value: string): Promise<number> {
  const result = await store.txn([{ key, rev: 0 }], [{ put: key, value: bytes(value) }]);
  expect(result.ok).toBe(true);
  return result.rev;
}

async function collect(
  store: ControlStore,
  prefixes: string[],
  after: number,
  enough: (all: readonly Change[]) => boolean,
  signal: AbortSignal = AbortSignal.timeout(30_000),
): Promise<Change[]> {
  const all: Change[] = [];
  for await (const change of store.watch(prefixes, after, { signal })) {
    all.push(change);
    if (enough(all)) break;
  }
  return all;
}

async function nextChange(store: ControlStore, prefix: string, after: number): Promise<Change | undefined> {
  return (await collect(store, [prefix], after, () => true))[0];
}

async function acksUntil(
  store: ControlStore,
  intent: string,
  enough: (acked: ReadonlySet<string>) => boolean,
): Promise<ReadonlySet<string>> {
  for await (const acked of store.acks(intent, { signal: AbortSignal.timeout(10_000) }))
    if (enough(acked)) return acked;
  throw new Error("the acknowledgements did not come");
}

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error("the condition did not come true");
    await delay(20);
  }
}

function bytes(value: string): Uint8Array {
  return Buffer.from(value);
}

function text(entry: Entry | undefined): string | undefined {
  return entry === undefined ? undefined : Buffer.from(entry.value).toString();
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("missing");
  return value;
}
