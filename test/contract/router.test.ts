import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/gate-lab.ts";
import { type Lab, openLab } from "../support/router-lab.ts";
import { startLoad } from "../support/router-load.ts";
import { describeServers, useServer } from "../support/servers.ts";

const insert = "INSERT INTO orders (id, user_id, v) VALUES (?, ?, 0)";
const bump = "UPDATE orders SET v = v + 1 WHERE id = ?";

describeServers("the router", (flavor) => {
  const server = useServer(flavor, { databases: ["s0", "s1"] });
  let lab: Lab;

  beforeEach(async () => {
    lab = await openLab(server());
  });
  afterEach(async () => lab[Symbol.asyncDispose]());

  /** Gate, copy, flip, mirror: without a word to the routers. */
  async function moveSliceSilently(): Promise<void> {
    const held = await lab.hold();
    await held.copy();
    await held.commit();
    await lab.flip();
    await lab.openMirror();
  }

  async function acked(phase: "prepare" | "hold", boundMs = 5000): Promise<number> {
    const intents = await lab.announce(phase, 5000);
    const { acked, missing } = await lab.routing.waitForAcks(intents, {
      boundMs,
      signal: new AbortController().signal,
    });
    expect(missing).toEqual([]);
    return acked.length;
  }

  test("runs a statement at the key's owner and gives exact values", async () => {
    const router = await lab.router();
    const written = await router.query("shop", 7, insert, [9007199254740993n, 7]);
    expect(written).toMatchObject({ affectedRows: 1, shard: "s0", rows: [] });
    const read = await router.read(
      "shop",
      "7",
      "SELECT id, user_id, 9.153846153846153e0 AS d, CAST('2024-02-29' AS DATE) AS day FROM orders WHERE user_id = ?",
      [7],
    );
    expect(read.rows).toEqual([
      { id: "9007199254740993", user_id: "7", d: 9.153846153846153, day: "2024-02-29" },
    ]);
  });

  describe("over a flip", () => {
    test("with intents no write fails, none is lost and none is done twice", async () => {
      await using router = await lab.router({ poolSize: 12 });
      await using second = await lab.router({ poolSize: 12 });
      await lab.arm();
      const load = startLoad(router, { writers: 12, moves: true });
      const other = second.query("shop", 4, insert, [-4, 4]);
      await eventually("the writers are busy", async () => load.acknowledged > 300);
      expect(await acked("prepare")).toBe(2);
      expect(await acked("hold")).toBe(2);
      const held = await lab.hold();
      await held.copy();
      await held.commit();
      await lab.flip();
      await lab.openMirror();
      await lab.withdraw();
      const atFlip = load.acknowledged;
      await eventually("the writers go on", async () => load.acknowledged > atFlip + 300);
      await load.stop();
      await other;
      await lab.root.query("DELETE FROM s0.orders WHERE id = -4");
      expect(load.errors).toEqual([]);
      expect(router.map().epoch).toBe(2);
      expect(await load.differences(lab)).toEqual([]);
    });

    test("without any intent the gate refuses, and the router does it again at the new shard", async () => {
      await using router = await lab.router({ poolSize: 12 });
      await lab.arm();
      const load = startLoad(router, { writers: 8, moves: true });
      await eventually("the writers are busy", async () => load.acknowledged > 200);
      await moveSliceSilently();
      const atFlip = load.acknowledged;
      await eventually("the writers go on", async () => load.acknowledged > atFlip + 200);
      await load.stop();
      expect(load.errors).toEqual([]);
      expect(await load.differences(lab)).toEqual([]);
    });

    test("a row move waits for the new owner's mirror and leaves nothing half done meanwhile", async () => {
      const router = await lab.router();
      await router.query("shop", 60, insert, [1, 60]);
      await lab.arm();
      const held = await lab.hold();
      await held.copy();
      await held.commit();
      await lab.flip();
      await eventually("the flip is known", async () => router.map().epoch === 2);
      const move = router.moveRow("shop", { table: "orders", primaryKey: { id: 1 }, from: 60, to: 6000 });
      await delay(200);
      expect(await lab.rows("s0", "SELECT id FROM orders")).toEqual([{ id: 1 }]);
      expect(await lab.rows("s0", "SELECT * FROM shardlift_row_moves")).toEqual([]);
      await lab.openMirror();
      expect((await move).outcome).toBe("moved");
      expect(await lab.rows("s1", "SELECT id, user_id FROM orders")).toEqual([{ id: 1, user_id: 6000 }]);
    });

    test("a long transaction that is refused late has not used up its time for waiting", async () => {
      const router = await lab.router({ holdTimeoutMs: 500 });
      await router.query("shop", 6000, insert, [1, 6000]);
      await lab.arm();
      let runs = 0;
      await router.transaction("shop", 6000, async (tx) => {
        runs += 1;
        if (runs === 1) {
          await delay(700);
          await moveSliceSilently();
        }
        await tx.query(bump, [1]);
      });
      expect(runs).toBeGreaterThan(1);
    });

    test("a closed gate that is opened again without a flip costs a wait, not an error", async () => {
      const router = await lab.router();
      await lab.arm();
      await router.query("shop", 6000, insert, [1, 6000]);
      await (await lab.hold()).commit();
      const write = router.query("shop", 6000, bump, [1]);
      await delay(100);
      await lab.openGate();
      await expect(write).resolves.toMatchObject({ shard: "s0", affectedRows: 1 });
    });

    test("a refusal that lasts ends with the time limit and names the job", async () => {
      const router = await lab.router({ holdTimeoutMs: 400 });
      await lab.arm();
      await (await lab.hold()).commit();
      await expect(router.query("shop", 6000, insert, [1, 6000])).rejects.toMatchObject({
        code: "E_HOLD_TIMEOUT",
        message: expect.stringContaining("split-1"),
        retryable: true,
      });
      // Other slices never notice.
      await expect(router.query("shop", 60, insert, [2, 60])).resolves.toMatchObject({ affectedRows: 1 });
    });

    test("a refused transaction runs again from its start, at the new shard, with what is there", async () => {
      const router = await lab.router();
      await router.query("shop", 6000, insert, [1, 6000]);
      await lab.arm();
      const runs: string[] = [];
      const result = await router.transaction("shop", 6000, async (tx) => {
        const { rows } = await tx.query("SELECT v FROM orders WHERE id = 1");
        runs.push(`${tx.shard} at ${tx.epoch} read ${String(rows[0]?.["v"])}`);
        if (runs.length === 1) {
          // A read takes no lock at the gate, so the slice moves under the transaction; then it changes once more.
          await moveSliceSilently();
          await lab.root.query("UPDATE s1.orders SET v = 41 WHERE id = 1");
        }
        await tx.query("UPDATE orders SET v = ? WHERE id = 1", [BigInt(String(rows[0]?.["v"])) + 1n]);
        return tx.shard;
      });
      expect(result).toBe("s1");
      // The old shard may be asked once more before the router sees the flip.
      expect([...new Set(runs)]).toEqual(["s0 at 1 read 0", "s1 at 2 read 41"]);
      expect(await lab.rows("s1", "SELECT v FROM orders")).toEqual([{ v: 42 }]);
    });

    test("a callback that swallows the refusal can not commit the half of it", async () => {
      const router = await lab.router();
      await router.query("shop", 6000, insert, [1, 6000]);
      await lab.arm();
      let runs = 0;
      let opening: Promise<void> | undefined;
      await router.transaction("shop", [6000, 60], async (tx) => {
        runs += 1;
        await tx.query(insert, [100 + runs, 60]);
        if (runs === 1) await (await lab.hold()).commit();
        await tx.query(bump, [1]).catch(() => undefined);
        if (runs === 1) {
          await expect(tx.query(bump, [1])).rejects.toThrow("slice moved");
          opening = delay(50).then(async () => lab.openGate());
        }
      });
      await opening;
      expect(runs).toBeGreaterThan(1);
      expect(await lab.rows("s0", "SELECT id FROM orders WHERE user_id = 60")).toEqual([{ id: 100 + runs }]);
      expect(await lab.rows("s0", "SELECT v FROM orders WHERE id = 1")).toEqual([{ v: 1 }]);
    });

    test("a write of a row whose key was not declared is refused by the new shard and not tried for ever", async () => {
      const router = await lab.router();
      await lab.arm();
      await moveSliceSilently();
      await eventually("the flip is known", async () => router.map().epoch === 2);
      await expect(router.query("shop", 6000, insert, [1, 60])).rejects.toMatchObject({ code: "E_USAGE" });
    });
  });

  describe("while an intent stands", () => {
    test("new writes to the slice wait, what has begun ends first, all else goes on", async () => {
      const router = await lab.router();
      await router.query("shop", 6000, insert, [1, 6000]);
      const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      const first = router.transaction("shop", 6000, async (tx) => {
        await tx.query(bump, [1]);
        begun.resolve();
        await mayEnd;
        await tx.query(bump, [1]);
      });
      await begun.promise;
      const intents = await lab.announce("hold", 10_000);
      await eventually("the intent is known", async () => router.status().intents.length === 1);

      let done = false;
      const second = router.query("shop", 6000, bump, [1]).then((result) => {
        done = true;
        return result;
      });
      await router.query("shop", 60, insert, [2, 60]);
      await router.read("shop", 6000, "SELECT v FROM orders WHERE id = 1");
      const early = await lab.routing.waitForAcks(intents, {
        boundMs: 100,
        signal: new AbortController().signal,
      });
      expect(early.acked).toEqual([]);
      expect(router.status()).toMatchObject({ running: 1, waiting: 1 });

      end();
      await first;
      const late = await lab.routing.waitForAcks(intents, {
        boundMs: 5000,
        signal: new AbortController().signal,
      });
      expect(late.acked).toEqual([router.status().id]);
      expect(done).toBe(false);
      await lab.withdraw();
      await expect(second).resolves.toMatchObject({ shard: "s0" });
      expect(await lab.rows("s0", "SELECT v FROM orders WHERE id = 1")).toEqual([{ v: 3 }]);
    });

    test("the router lets go at the deadline by itself when the tool is dead", async () => {
      const router = await lab.router();
      await router.query("shop", 6000, insert, [1, 6000]);
      const before = performance.now();
      await lab.announce("hold", 600);
      await eventually("the intent is known", async () => router.status().intents.length === 1);
      await expect(router.query("shop", 6000, bump, [1])).resolves.toMatchObject({ shard: "s0" });
      const waitedMs = performance.now() - before;
      expect(waitedMs).toBeGreaterThan(500);
      expect(waitedMs).toBeLessThan(5000);
    });

    test("waiting is bounded by time and by number", async () => {
      const router = await lab.router({ holdTimeoutMs: 500, maxWaiting: 2 });
      await lab.announce("hold", 20_000);
      await eventually("the intent is known", async () => router.status().intents.length === 1);
      const writes = Array.from({ length: 3 }, async (_, n) => router.query("shop", 6000, insert, [n, 6000]));
      const results = await Promise.allSettled(writes);
      const codes = results.map((result) =>
        result.status === "rejected" ? (result.reason as { code: string }).code : "ok",
      );
      expect(codes.toSorted()).toEqual(["E_HOLD_FULL", "E_HOLD_TIMEOUT", "E_HOLD_TIMEOUT"]);
    });

    test("a router that comes later holds from its first statement on", async () => {
      const intents = await lab.announce("hold", 10_000);
      const late = await lab.router();
      const write = late.query("shop", 6000, insert, [1, 6000]);
      expect(late.status()).toMatchObject({ running: 0, waiting: 1 });
      const { acked } = await lab.routing.waitForAcks(intents, {
        boundMs: 5000,
        signal: new AbortController().signal,
      });
      expect(acked).toEqual([late.status().id]);
      await lab.withdraw();
      await write;
    });

    test("a router that does not know the new shard does not acknowledge", async () => {
      const all = await lab.router();
      const half = await lab.routerOn(lab.store, {
        shards: {
          s0: { host: "127.0.0.1", port: server().port, user: "app", password: "app-secret", database: "s0" },
        },
      });
      const intents = await lab.announce("prepare", 5000);
      const { acked, missing } = await lab.routing.waitForAcks(intents, {
        boundMs: 1000,
        signal: new AbortController().signal,
      });
      expect(acked).toEqual([all.status().id]);
      expect(missing.map(({ id }) => id)).toEqual([half.status().id]);
    });
  });

  test("a scatter counts each row once while it is on two shards, before the flip and after it", async () => {
    const router = await lab.router();
    for (const [id, key] of [
      [1, 60],
      [2, 6000],
      [3, 7000],
    ] as const)
      await router.query("shop", key, insert, [id, key]);
    await lab.arm();
    const count = async (): Promise<number> => {
      const { rows } = await router.scatter(
        "shop",
        (owned) => `SELECT COUNT(*) AS n FROM orders o WHERE ${owned("orders", "o")} AND v = ?`,
        [0],
      );
      return rows.reduce((sum, row) => sum + Number(row["n"]), 0);
    };
    const held = await lab.hold();
    await held.copy();
    expect(await count()).toBe(3);
    await held.commit();
    await lab.flip();
    await eventually("the flip is known", async () => router.map().epoch === 2);
    expect(await count()).toBe(3);
    await expect(router.scatter("shop", () => "SELECT COUNT(*) FROM orders")).rejects.toMatchObject({
      code: "E_USAGE",
    });
  });

  test("closing waits for what has begun and then refuses everything", async () => {
    const router = await lab.router();
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const work = router.transaction("shop", 1, async (tx) => {
      await tx.query(insert, [1, 1]);
      await mayEnd;
      await tx.query(bump, [1]);
    });
    const closing = router.close();
    await expect(router.query("shop", 1, bump, [1])).rejects.toMatchObject({ code: "E_USAGE" });
    end();
    await work;
    await closing;
    expect(await lab.rows("s0", "SELECT v FROM orders")).toEqual([{ v: 1 }]);
    expect(await lab.routing.routers()).toEqual([]);
  });
});
