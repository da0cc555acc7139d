import type { Connection, RowDataPacket } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import type { GateSpec } from "../../src/engines/engine.ts";
import { boundAt, MIN } from "../../src/model/key.ts";
import { parseRefusal } from "../../src/routing/refusal.ts";
import {
  eventually,
  openApp,
  refusalOf,
  sliceWrites,
  takeJob,
  toolAddress,
  useGateLab,
} from "../support/gate-lab.ts";
import { close, database, gateSpec, items, joinJob, orders, tableShape } from "../support/gate-spec.ts";
import { connect, describeServers } from "../support/servers.ts";

const job = "split-1";
const mirrorSpec: GateSpec = {
  ...gateSpec,
  role: "mirror",
  owned: [{ from: boundAt("0"), to: boundAt("50") }],
};

describeServers("the range gate", (flavor) => {
  // The server's clock shows another time than UTC, as many do.
  process.env["TZ"] = "Asia/Tokyo";
  const lab = useGateLab(flavor);

  describe("arming", () => {
    test("puts an open row and three triggers on each table, and every write still passes", async () => {
      await lab.gates.arm(gateSpec);
      expect(await lab.gates.state(job)).toEqual({
        job,
        token: 7,
        role: "gate",
        state: "open",
        afterEpoch: 41,
      });
      const names = await lab.triggerNames();
      expect(names).toHaveLength(6);
      for (const name of names) expect(name).toMatch(/^shardlift_[0-9a-f]{16}_[iud]$/);
      for (const sql of Object.values(sliceWrites)) {
        await lab.app.query("BEGIN");
        await lab.app.query(sql);
        await lab.app.query("ROLLBACK");
      }
    });

    test("runs exactly what the preview shows", async () => {
      const [insert, ...creates] = lab.gates.preview(gateSpec);
      await lab.root.query(insert ?? "");
      // The definer is whoever runs it, so it has to be the tool's account.
      await using tool = await connect(lab.server(), "shardlift", { database, charset: "utf8mb4_bin" });
      await tool.query("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'");
      for (const sql of creates) await tool.query(sql);
      await lab.gates.arm(gateSpec);
      await using held = await close(lab.gates);
      expect(await held.whyNotTight()).toBeUndefined();
      expect(creates).toHaveLength(6);
    });

    test("keeps triggers that are as they should be, and replaces others", async () => {
      await lab.gates.arm(gateSpec);
      const before = await createdTimes();
      const [victim] = await lab.triggerNames();
      await lab.root.query(`DROP TRIGGER ${victim}`);
      await lab.root.query(`CREATE TRIGGER ${victim} AFTER DELETE ON orders FOR EACH ROW SET @x = 1`);
      await lab.gates.arm({ ...gateSpec, afterEpoch: 42 });
      const after = await createdTimes();
      expect(after.filter((row) => !before.includes(row))).toHaveLength(1);
      expect((await lab.gates.state(job))?.afterEpoch).toBe(42);
      await using held = await close(lab.gates);
      expect(await held.whyNotTight()).toBeUndefined();
    });

    async function createdTimes(): Promise<string[]> {
      const [rows] = await lab.root.query<RowDataPacket[]>(
        "SELECT CONCAT(TRIGGER_NAME, ' ', CREATED) AS made FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?",
        [database],
      );
      return rows.map((row) => String(row["made"]));
    }

    test("does not replace a trigger of a closed gate, since writes would slip through", async () => {
      await lab.closeFor();
      const [victim] = await lab.triggerNames();
      await lab.root.query(`DROP TRIGGER ${victim}`);
      await lab.root.query(`CREATE TRIGGER ${victim} AFTER DELETE ON orders FOR EACH ROW SET @x = 1`);
      await expect(lab.gates.arm(gateSpec)).rejects.toMatchObject({ code: "E_GATE_NOT_ARMED" });
      expect((await lab.gates.state(job))?.state).toBe("closed");
    });

    test("gives up in time and names the transaction in its way, while readers hardly notice", async () => {
      await using hasty = await takeJob(lab.server(), { limits: { ddlMs: 2000 } });
      await lab.app.query("BEGIN");
      await lab.app.query("SELECT COUNT(*) FROM orders");
      await using reader = await openApp(lab.server());
      const over = new AbortController();
      const reading = longestRead(reader, over.signal);
      const failure = await hasty.gates.arm(gateSpec).catch((error: unknown) => error);
      over.abort();
      expect(failure).toMatchObject({ code: "E_GATE_NOT_ARMED", retryable: true });
      expect((failure as Error).message).toContain(`connection ${lab.app.threadId} (app@`);
      const { reads, longestMs } = await reading;
      expect(reads).toBeGreaterThan(10);
      // Without the short tries a reader would wait a whole second, which is MySQL's least lock_wait_timeout.
      expect(longestMs).toBeLessThan(800);
      await lab.app.query("COMMIT");
      await lab.gates.arm(gateSpec);
    });

    async function longestRead(
      reader: Connection,
      signal: AbortSignal,
    ): Promise<{ reads: number; longestMs: number }> {
      let reads = 0;
      let longestMs = 0;
      while (!signal.aborted) {
        const started = performance.now();
        await reader.query("SELECT COUNT(*) FROM orders");
        longestMs = Math.max(longestMs, performance.now() - started);
        reads += 1;
      }
      return { reads, longestMs };
    }

    test("works under short writers", async () => {
      const over = new AbortController();
      const writing = (async () => {
        for (let n = 0; !over.signal.aborted; n += 1)
          await lab.app.query("UPDATE orders SET v = ? WHERE id = 2", [n]);
      })();
      await lab.gates.arm(gateSpec);
      over.abort();
      await writing;
      expect(await lab.triggerNames()).toHaveLength(6);
    });

    test("copes with names that need quoting", async () => {
      await lab.root.query(
        "CREATE TABLE `o``dd 'n' ü` (id BIGINT PRIMARY KEY, `k``x` BIGINT NOT NULL) ENGINE=InnoDB",
      );
      try {
        const spec = { ...gateSpec, tables: [tableShape("o`dd 'n' ü", "k`x")] };
        await lab.closeFor(spec);
        const { message } = await refusalOf(lab.app, "INSERT INTO `o``dd 'n' ü` VALUES (1, 100)");
        expect(parseRefusal(message)).toEqual({ kind: "moved", job, afterEpoch: 41 });
        await lab.app.query("INSERT INTO `o``dd 'n' ü` VALUES (1, 99)");
        await lab.gates.arm(spec);
        await lab.gates.disarm(spec);
      } finally {
        await lab.root.query("DROP TABLE `o``dd 'n' ü`");
      }
    });
  });

  describe("the mirror", () => {
    test("refuses the slice until it is opened, and rows that its shard does not own for ever", async () => {
      await lab.gates.arm(mirrorSpec);
      expect(await lab.gates.state(job)).toMatchObject({ role: "mirror", state: "closed" });
      const early = await refusalOf(lab.app, "UPDATE orders SET v = 1 WHERE id = 2");
      expect(early).toMatchObject({ errno: 1644, sqlState: "45000" });
      expect(parseRefusal(early.message)).toEqual({ kind: "not-open", job, afterEpoch: 41 });
      await lab.app.query("INSERT INTO orders VALUES (5, 49, 0, NULL)");
      await using tool = await connect(lab.server(), "shardlift", { database });
      await tool.query("UPDATE orders SET v = 1 WHERE id = 2");
      await expectOutsideRefused();

      await lab.gates.open(job);
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await lab.app.query("UPDATE orders SET user_id = 200 WHERE id = 1");
      await expectOutsideRefused();
    });

    async function expectOutsideRefused(): Promise<void> {
      for (const sql of [
        "INSERT INTO orders VALUES (6, 50, 0, NULL)",
        "UPDATE orders SET user_id = 60 WHERE id = 5",
        "UPDATE orders SET v = 1 WHERE id = 3",
        "UPDATE orders SET user_id = 1 WHERE id = 3",
        "DELETE FROM orders WHERE id = 3",
        "INSERT INTO orders VALUES (6, -1, 0, NULL)",
      ]) {
        expect(parseRefusal((await refusalOf(lab.app, sql)).message)).toMatchObject({
          kind: "not-owned",
          job,
        });
      }
    }

    test("of a shard that will own everything refuses nothing once it is open", async () => {
      await lab.gates.arm({ ...mirrorSpec, owned: [{ from: MIN, to: boundAt("100") }] });
      await lab.app.query("UPDATE orders SET v = 1 WHERE user_id < 100");
      await lab.gates.open(job);
      await lab.app.query("UPDATE orders SET v = 2");
      expect((await lab.orders()).map((row) => row["v"])).toEqual([2, 2, 2, 2]);
    });

    test("can be closed like a gate, for the way back", async () => {
      await lab.gates.arm(mirrorSpec);
      await lab.gates.open(job);
      await using held = await close(lab.gates, mirrorSpec);
      await held.commit();
      expect(await lab.gates.state(job)).toMatchObject({ role: "mirror", state: "closed" });
      await refusalOf(lab.app, "UPDATE orders SET v = 1 WHERE id = 2");
    });
  });

  describe("a runner whose token is old", () => {
    test("can not close, open, arm or disarm any more, and the new one can", async () => {
      await lab.gates.arm(gateSpec);
      await using newer = await takeJob(lab.server(), { token: 8 });
      const held = { code: "E_JOB_HELD", exit: 10 };
      await expect(lab.gates.tryClose(gateSpec, 100)).rejects.toMatchObject(held);
      await expect(lab.gates.open(job)).rejects.toMatchObject(held);
      await expect(lab.gates.arm(gateSpec)).rejects.toMatchObject(held);
      await expect(lab.gates.disarm(gateSpec)).rejects.toMatchObject(held);
      expect(await lab.triggerNames()).toHaveLength(6);
      await (await close(newer.gates)).commit();
      expect(await newer.gates.state(job)).toMatchObject({ token: 8, state: "closed" });
      await expect(lab.gates.open(job)).rejects.toMatchObject(held);
      await newer.gates.open(job);
    });

    test("that holds the gate makes a takeover wait, and is let go of by it", async () => {
      await lab.gates.arm(gateSpec);
      await using held = await close(lab.gates);
      await lab.root.query("SET SESSION innodb_lock_wait_timeout = 1");
      const early = await refusalOf(lab.root, "UPDATE _shardlift.lease SET token = 8");
      expect(early).toMatchObject({ errno: 1205 });
      await held.rollback();
      await lab.root.query("UPDATE _shardlift.lease SET token = 8");
      await expect(lab.gates.tryClose(gateSpec, 100)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    });

    test("adopts an older runner's row, and no row of another store", async () => {
      await lab.gates.arm(gateSpec);
      await using newer = await takeJob(lab.server(), { token: 9 });
      await newer.gates.open(job);
      expect((await newer.gates.state(job))?.token).toBe(9);
      await lab.root.query("UPDATE _shardlift.lease SET store_id = 'store-2'");
      await using foreign = await joinJob(toolAddress(lab.server()), { ...newer.claim, storeId: "store-2" });
      await expect(foreign.gates.arm(gateSpec)).rejects.toMatchObject({ code: "E_JOB_HELD" });
      await expect(foreign.gates.tryClose(gateSpec, 100)).rejects.toMatchObject({ code: "E_JOB_HELD" });
      await expect(foreign.gates.open(job)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    });
  });

  describe("disarming", () => {
    test("leaves nothing, also when done twice or where nothing was installed", async () => {
      await lab.closeFor();
      await lab.gates.disarm(gateSpec);
      expect(await lab.triggerNames()).toEqual([]);
      expect(await lab.gates.state(job)).toBeUndefined();
      await lab.app.query("UPDATE orders SET v = 1");
      await lab.gates.disarm(gateSpec);
      await lab.root.query("DROP DATABASE _shardlift");
      await lab.gates.disarm(gateSpec);
      expect(await lab.gates.state(job)).toBeUndefined();
    });

    test("keeps the application's triggers and those of another job", async () => {
      await lab.root.query(
        "CREATE TRIGGER app_own BEFORE INSERT ON orders FOR EACH ROW SET NEW.v = NEW.v + 1",
      );
      await lab.gates.arm(gateSpec);
      await lab.root.query(
        "INSERT INTO _shardlift.lease (job, store_id, token) VALUES ('other-job', 'store-1', 3)",
      );
      await using other = await joinJob(toolAddress(lab.server()), {
        storeId: "store-1",
        job: "other-job",
        token: 3,
      });
      await other.gates.arm({ ...gateSpec, slice: [{ from: boundAt("0"), to: boundAt("5") }] });
      await lab.gates.disarm(gateSpec);
      expect(await lab.triggerNames()).toHaveLength(7);
    });
  });

  describe("the oldest transaction", () => {
    test("is that of an application on the moved tables, measured by the server's own clock", async () => {
      expect(await lab.gates.oldestTransactionMs([orders, items])).toBe(0);
      await lab.app.query("BEGIN");
      await lab.app.query("SELECT * FROM orders");
      await eventually("it is older than a second", async () => (await oldest()) > 1000);
      // Nine hours off would show here.
      expect(await oldest()).toBeLessThan(60_000);
      await lab.app.query("COMMIT");
      expect(await oldest()).toBe(0);
    });

    test("is never the tool's own", async () => {
      await using tool = await connect(lab.server(), "shardlift", { database });
      await tool.query("BEGIN");
      await tool.query("SELECT * FROM orders");
      await tool.query("SELECT SLEEP(0.3)");
      expect(await oldest()).toBe(0);
    });

    test.runIf(flavor === "mysql")("leaves out transactions on other tables", async () => {
      await lab.app.query("BEGIN");
      await lab.app.query("INSERT INTO elsewhere VALUES (1, 1)");
      await using reader = await openApp(lab.server());
      await reader.query("SELECT SLEEP(1.1)");
      expect(await oldest()).toBe(0);
    });

    test("is told, and who blocks the gate too, while others run statements that utf8mb3 can not hold", async () => {
      await lab.gates.arm(gateSpec);
      await using holder = await openApp(lab.server());
      await holder.query("BEGIN");
      await holder.query("UPDATE orders SET v = 1 WHERE id = 2 /* 🐍 */");
      await using running = await snakes();
      await eventually("it is older than a second", async () => (await oldest()) > 1000);
      for (let round = 0; round < 12; round += 1) {
        expect(await oldest()).toBeGreaterThan(1000);
        const attempt = await lab.gates.tryClose(gateSpec, 200);
        expect(attempt).toEqual({
          blockers: [expect.stringMatching(`connection ${holder.threadId} .*transaction open for \\d`)],
        });
      }
      await holder.query("ROLLBACK");
      await using hasty = await takeJob(lab.server(), { token: 8, limits: { ddlMs: 1500 } });
      await holder.query("BEGIN");
      await holder.query("SELECT '🐍' FROM orders");
      const failure: unknown = await hasty.gates.disarm(gateSpec).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "E_GATE_NOT_ARMED" });
      expect((failure as Error).message).toContain(`connection ${holder.threadId} (app@`);
      expect(running.count()).toBeGreaterThan(10);
    });

    test.runIf(flavor === "mysql")(
      "is told under such statements by a server that records no transactions",
      async () => {
        const consumer = (enabled: "YES" | "NO"): Promise<unknown> =>
          lab.root.query(
            `UPDATE performance_schema.setup_consumers SET ENABLED = '${enabled}' WHERE NAME = 'events_transactions_current'`,
          );
        await consumer("NO");
        try {
          {
            await using running = await snakes(0.02);
            await lab.app.query("BEGIN");
            await lab.app.query("SELECT * FROM orders");
            await eventually("it is older than a second", async () => (await oldest()) > 1000);
            expect(running.count()).toBeGreaterThan(0);
          }
          await using busy = await openApp(lab.server());
          await busy.query("SET NAMES utf8mb4");
          const sleeping = busy.query("SELECT '🐍', SLEEP(600) FROM orders").catch(() => undefined);
          await eventually("it is in the way", async () => {
            const failure: unknown = await oldest().catch((error: unknown) => error);
            return (failure as { code?: string }).code === "E_PREFLIGHT";
          });
          await lab.root.query(`KILL ${busy.threadId}`);
          await sleeping;
        } finally {
          await consumer("YES");
        }
      },
    );

    /** A session that always runs a statement with characters of four bytes, in a transaction or out of one. */
    async function snakes(seconds = 0.1): Promise<{ count: () => number } & AsyncDisposable> {
      const over = new AbortController();
      const client = await openApp(lab.server());
      await client.query("SET NAMES utf8mb4");
      let count = 0;
      const running = (async () => {
        while (!over.signal.aborted) {
          await client.query("BEGIN");
          await client.query(
            `SELECT '🐍🐍🐍🐍', SLEEP(${seconds}) FROM elsewhere RIGHT JOIN (SELECT 1) AS one ON TRUE`,
          );
          await client.query("COMMIT");
          if (seconds < 0.1) await client.query("DO SLEEP(0.05)");
          count += 1;
        }
      })();
      return {
        count: () => count,
        [Symbol.asyncDispose]: async () => {
          over.abort();
          await running;
          client.destroy();
        },
      };
    }

    async function oldest(): Promise<number> {
      return await lab.gates.oldestTransactionMs([orders, items]);
    }
  });

  test("an account without the right to make triggers is told what it lacks", async () => {
    await lab.root.query("REVOKE TRIGGER ON *.* FROM shardlift@'%'");
    try {
      const failure: unknown = await lab.gates.arm(gateSpec).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "E_GATE_NOT_ARMED", retryable: false });
      expect((failure as { next: string }).next).toContain("GRANT TRIGGER");
    } finally {
      await lab.root.query("GRANT TRIGGER ON *.* TO shardlift@'%'");
    }
  });
});
