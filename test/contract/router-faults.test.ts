import { rename } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { routerPrefix } from "../../src/control/keys.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import type { ControlStore } from "../../src/control/store.ts";
import { eventually } from "../support/gate-lab.ts";
import { openRelay } from "../support/relay.ts";
import { type Lab, mapOf, openLab } from "../support/router-lab.ts";
import { killConnections } from "../support/router-load.ts";
import { describeServers, useServer } from "../support/servers.ts";

const insert = "INSERT INTO orders (id, user_id, v) VALUES (?, ?, 0)";
const bump = "UPDATE orders SET v = v + 1 WHERE id = ?";
const read = "SELECT v FROM orders WHERE id = 1";

describeServers("a router in trouble", (flavor) => {
  const server = useServer(flavor, { databases: ["s0", "s1"] });
  let lab: Lab;

  beforeEach(async () => {
    lab = await openLab(server());
    await lab.root.query("INSERT INTO s0.orders (id, user_id) VALUES (1, 60)");
  });
  afterEach(async () => lab[Symbol.asyncDispose]());

  const version = async (): Promise<unknown> => (await lab.rows("s0", read))[0]?.["v"];

  describe("with its control store", () => {
    test("serves no reads and begins no writes once its map is older than the lease, and goes on by itself", async () => {
      const { store, cut, restore } = withHangs(await openSqliteStore(lab.storePath));
      const router = await lab.routerOn(store, { holdTimeoutMs: 300 });
      await router.read("shop", 60, read);
      cut();
      await router.read("shop", 60, read);
      await eventually("the lease has run out", async () => router.status().mapLeaseMs === 0);
      await expect(router.read("shop", 60, read)).rejects.toMatchObject({
        code: "E_MAP_LEASE",
        retryable: true,
      });
      await expect(router.query("shop", 60, bump, [1])).rejects.toMatchObject({ code: "E_HOLD_TIMEOUT" });
      expect(await version()).toBe(0);
      restore();
      await eventually("the map is confirmed", async () => router.status().mapLeaseMs > 0);
      await router.query("shop", 60, bump, [1]);
      expect((await router.read("shop", 60, read)).rows).toEqual([{ v: "1" }]);
    });

    test("trusts nothing of a store whose file was taken away, and says so", async () => {
      const router = await lab.router({ holdTimeoutMs: 300 });
      await rename(lab.storePath, `${lab.storePath}.away`);
      await eventually("the loss is seen", async () => router.status().mapLeaseMs === 0);
      await expect(router.read("shop", 60, read)).rejects.toMatchObject({
        code: "E_MAP_LEASE",
        message: expect.stringContaining("removed or replaced"),
      });
      await rename(`${lab.storePath}.away`, lab.storePath);
      await eventually("the map is confirmed", async () => router.status().mapLeaseMs > 0);
      await router.read("shop", 60, read);
    });

    test("registers anew when its lease is gone, and then acknowledges under its new name", async () => {
      const router = await lab.router();
      const first = router.status().id;
      const { entries } = await lab.store.list(routerPrefix);
      await lab.store.revoke(entries[0]?.lease ?? 0);
      await eventually("it is there again", async () => (await lab.routing.routers()).length === 1);
      const intents = await lab.announce("hold", 5000);
      const { acked, missing } = await lab.routing.waitForAcks(intents, {
        boundMs: 5000,
        signal: new AbortController().signal,
      });
      expect(missing).toEqual([]);
      expect(acked).toEqual([router.status().id]);
      expect(acked).not.toEqual([first]);
      await router.query("shop", 60, bump, [1]);
    });
  });

  describe("with its connections", () => {
    test("does not send a statement again whose answer was lost", async () => {
      for (const [loss, expected] of [
        ["after-delivery", 1],
        ["before-delivery", 1],
      ] as const) {
        await using relay = await openRelay(server().port);
        await using router = await lab.router({ poolSize: 1 }, { s0: relay.port });
        relay.cutAt("UPDATE orders", loss);
        await expect(router.query("shop", 60, bump, [1])).rejects.toMatchObject({
          code: "E_OUTCOME_UNKNOWN",
        });
        await eventually("the server has done it, or not", async () => (await version()) === expected);
        await router.query("shop", 60, "UPDATE orders SET v = 1 WHERE id = 1");
      }
    });

    test("does not run a transaction again whose commit was not answered", async () => {
      const commit = `${flavor === "mysql" ? "\u0001" : "\u0003"}COMMIT`;
      await using relay = await openRelay(server().port);
      const router = await lab.router({}, { s0: relay.port });
      let runs = 0;
      relay.cutAt(commit, "after-delivery");
      const attempt = router.transaction("shop", 60, async (tx) => {
        runs += 1;
        await tx.query(bump, [1]);
      });
      await expect(attempt).rejects.toMatchObject({ code: "E_OUTCOME_UNKNOWN" });
      expect(runs).toBe(1);
      await eventually("the server has committed", async () => (await version()) === 1);
    });

    test("runs a transaction again that was lost before its commit, and reads that were lost", async () => {
      await using relay = await openRelay(server().port);
      const router = await lab.router({}, { s0: relay.port });
      let runs = 0;
      relay.cutAt("UPDATE orders", "after-delivery");
      await router.transaction("shop", 60, async (tx) => {
        runs += 1;
        await tx.query(bump, [1]);
      });
      expect(runs).toBe(2);
      expect(await version()).toBe(1);
      relay.cutAt("SELECT v", "before-delivery");
      expect((await router.read("shop", 60, read)).rows).toEqual([{ v: "1" }]);
    });

    test("never loses or repeats an acknowledged transaction while connections are killed", async () => {
      const router = await lab.router();
      const killer = killConnections(lab.root);
      let acknowledged = 0;
      let unknown = 0;
      const others = new Set<string>();
      const endAt = performance.now() + 3000;
      const write = async (): Promise<void> => {
        while (performance.now() < endAt) {
          try {
            await router.transaction("shop", 60, async (tx) => {
              await tx.query(bump, [1]);
            });
            acknowledged += 1;
          } catch (error) {
            const { code } = error as { code: string };
            if (code === "E_OUTCOME_UNKNOWN") unknown += 1;
            else others.add(code);
          }
        }
      };
      await Promise.all([write(), write(), write(), write()]);
      await killer.stop();
      expect(acknowledged).toBeGreaterThan(20);
      // Nothing but what the documentation names comes through.
      expect(["E_CONNECT"]).toEqual(expect.arrayContaining([...others]));
      const found = Number(await version());
      expect(found).toBeGreaterThanOrEqual(acknowledged);
      expect(found).toBeLessThanOrEqual(acknowledged + unknown);
    });

    test("gives up in time when all connections of a shard are in use", async () => {
      const router = await lab.router({ poolSize: 1, holdTimeoutMs: 300 });
      const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
      const long = router.transaction("shop", 60, async (tx) => {
        await tx.query(bump, [1]);
        await mayEnd;
      });
      await expect(router.query("shop", 60, bump, [1])).rejects.toMatchObject({
        code: "E_HOLD_TIMEOUT",
        message: expect.stringContaining("connections"),
      });
      end();
      await long;
      await router.query("shop", 60, bump, [1]);
      expect(await version()).toBe(2);
    });

    test("gives held writes no connection, so that other slices go on with the only one", async () => {
      const router = await lab.router({ poolSize: 1 });
      await lab.announce("hold", 10_000);
      await eventually("the intent is known", async () => router.status().intents.length === 1);
      const held = Array.from({ length: 20 }, async (_, n) =>
        router.query("shop", 6000, insert, [100 + n, 6000]),
      );
      for (let n = 0; n < 20; n++) await router.query("shop", 60, bump, [1]);
      expect(router.status().waiting).toBe(20);
      await lab.withdraw();
      await Promise.all(held);
      expect(await lab.rows("s0", "SELECT COUNT(*) AS n FROM orders WHERE user_id = 6000")).toEqual([
        { n: 20 },
      ]);
    });

    test("takes connections of several shards in one order, so that nobody waits for ever", async () => {
      await using split = await openLab(server(), mapOf(1, "s1"));
      const router = await split.router({ poolSize: 1 });
      for (const [id, key] of [
        [1, 60],
        [2, 6000],
      ] as const)
        await router.query("shop", key, insert, [id, key]);
      const work = Array.from({ length: 30 }, async (_, n) => {
        if (n % 3 === 0)
          return router.scatter("shop", (owned) => `SELECT id FROM orders WHERE ${owned("orders")}`);
        const [id, from, to] = n % 3 === 1 ? [1, 60, 6000] : [2, 6000, 60];
        return router.moveRow("shop", { table: "orders", primaryKey: { id }, from, to });
      });
      await Promise.all(work);
      const { rows } = await router.scatter(
        "shop",
        (owned) => `SELECT id FROM orders WHERE ${owned("orders")}`,
      );
      expect(rows.map((row) => row["id"]).toSorted((a, b) => Number(a) - Number(b))).toEqual(["1", "2"]);
    });
  });
});

/** A real store whose answers can be kept back. */
function withHangs(real: ControlStore): { store: ControlStore; cut: () => void; restore: () => void } {
  let hang: PromiseWithResolvers<void> | undefined;
  const store = new Proxy(real, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (!["get", "keepAlive", "list", "now", "revision", "txn"].includes(String(name)))
        return value.bind(target);
      return async (...given: unknown[]): Promise<unknown> => {
        await hang?.promise;
        return (await value.apply(target, given)) as unknown;
      };
    },
  });
  return {
    store,
    cut: () => {
      hang = Promise.withResolvers();
    },
    restore: () => {
      hang?.resolve();
      hang = undefined;
    },
  };
}
