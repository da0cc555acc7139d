import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Readable } from "node:stream";
import type { Connection, RowDataPacket } from "mysql2/promise";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { GateSpec } from "../../src/engines/engine.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import { parseRefusal } from "../../src/routing/refusal.ts";
import {
  database,
  close,
  gateSpec,
  items,
  joinJob,
  orders,
  tableShape,
  type Runner,
} from "../support/gate-spec.ts";
import { eventually, openApp, refusalOf, resetTables, takeJob, toolAddress } from "../support/gate-lab.ts";
import { openRelay } from "../support/relay.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const job = "split-1";
const mirrorSpec: GateSpec = {
  ...gateSpec,
  role: "mirror",
  owned: [{ from: boundAt("0"), to: boundAt("50") }],
};

/** Rows of `orders`: two in the slice, two outside. */
const seed = "INSERT INTO orders VALUES (1, 10, 0, NULL), (2, 150, 0, 22), (3, 50, 0, 33), (4, 160, 0, NULL)";

/** Every way to change a row of the slice, or to bring one in or out. */
const stale: Readonly<Record<string, string>> = {
  "an INSERT": "INSERT INTO orders VALUES (5, 100, 0, NULL)",
  "a multi-row INSERT with one row in the slice":
    "INSERT INTO orders VALUES (6, 1, 0, NULL), (7, 170, 0, NULL)",
  "an INSERT … SELECT": "INSERT INTO orders SELECT id + 100, user_id, v, NULL FROM orders",
  "an INSERT IGNORE": "INSERT IGNORE INTO orders VALUES (5, 100, 0, NULL)",
  "an UPDATE in the slice": "UPDATE orders SET v = 1 WHERE id = 2",
  "an UPDATE over the whole table": "UPDATE orders SET v = v + 1",
  "an UPDATE IGNORE": "UPDATE IGNORE orders SET v = 1 WHERE id = 2",
  "an UPDATE that brings a row in": "UPDATE orders SET user_id = 100 WHERE id = 1",
  "an UPDATE that takes a row out": "UPDATE orders SET user_id = 1 WHERE id = 2",
  "a multi-table UPDATE": "UPDATE orders o JOIN orders p ON p.id = o.id SET o.v = 1 WHERE p.id = 2",
  "a DELETE": "DELETE FROM orders WHERE id = 2",
  "a REPLACE of a row in the slice": "REPLACE INTO orders VALUES (2, 1, 0, NULL)",
  "a REPLACE that removes a row of the slice by another key": "REPLACE INTO orders VALUES (9, 1, 0, 22)",
  "an INSERT … ON DUPLICATE KEY UPDATE of a row in the slice":
    "INSERT INTO orders VALUES (2, 1, 0, NULL) ON DUPLICATE KEY UPDATE v = 1",
};

describeServers("the range gate", (flavor) => {
  // The server's clock shows another time than UTC, as many do.
  process.env["TZ"] = "Asia/Tokyo";
  const server = useServer(flavor, { databases: [database] });
  let runner: Runner;
  let app: Connection;
  let root: Connection;

  beforeAll(async () => {
    await using admin = await connect(server(), "root");
    await admin.query("SET GLOBAL local_infile = 1");
  });

  beforeEach(async () => {
    await resetTables(server());
    runner = await takeJob(server());
    app = await openApp(server());
    root = await connect(server(), "root", { database });
    await root.query(seed);
  });

  afterEach(async () => {
    await runner[Symbol.asyncDispose]();
    app.destroy();
    root.destroy();
  });

  async function image(): Promise<unknown> {
    const [rows] = await root.query<RowDataPacket[]>("SELECT * FROM orders ORDER BY id");
    return rows;
  }

  async function triggerNames(): Promise<string[]> {
    const [rows] = await root.query<RowDataPacket[]>(
      "SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? ORDER BY name",
      [database],
    );
    return rows.map((row) => String(row["name"]));
  }

  async function closedFor(spec: GateSpec = gateSpec): Promise<void> {
    await runner.gates.arm(spec);
    await using held = await close(runner.gates, spec);
    expect(await held.whyNotTight()).toBeUndefined();
    await held.commit();
  }

  async function lockWaits(): Promise<number> {
    const [rows] = await root.query<RowDataPacket[]>(
      "SELECT COUNT(*) AS n FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'",
    );
    return Number(rows[0]?.["n"]);
  }

  describe("arming", () => {
    test("puts an open row and three triggers on each table, and every write still passes", async () => {
      await runner.gates.arm(gateSpec);
      expect(await runner.gates.state(job)).toEqual({
        job,
        token: 7,
        role: "gate",
        state: "open",
        afterEpoch: 41,
      });
      const names = await triggerNames();
      expect(names).toHaveLength(6);
      for (const name of names) expect(name).toMatch(/^shardlift_[0-9a-f]{16}_[iud]$/);
      for (const sql of Object.values(stale)) {
        await app.query("BEGIN");
        await app.query(sql);
        await app.query("ROLLBACK");
      }
    });

    test("runs exactly what the preview shows", async () => {
      const [insert, ...creates] = runner.gates.preview(gateSpec);
      await root.query(insert ?? "");
      // The definer is whoever runs it, so it has to be the tool's account.
      await using tool = await connect(server(), "shardlift", { database, charset: "utf8mb4_bin" });
      await tool.query("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'");
      for (const sql of creates) await tool.query(sql);
      await runner.gates.arm(gateSpec);
      await using held = await close(runner.gates);
      expect(await held.whyNotTight()).toBeUndefined();
      expect(creates).toHaveLength(6);
    });

    test("keeps triggers that are as they should be, and replaces others", async () => {
      await runner.gates.arm(gateSpec);
      const before = await createdTimes();
      const [victim] = await triggerNames();
      await root.query(`DROP TRIGGER ${victim}`);
      await root.query(`CREATE TRIGGER ${victim} AFTER DELETE ON orders FOR EACH ROW SET @x = 1`);
      await runner.gates.arm({ ...gateSpec, afterEpoch: 42 });
      const after = await createdTimes();
      expect(after.filter((row) => !before.includes(row))).toHaveLength(1);
      expect((await runner.gates.state(job))?.afterEpoch).toBe(42);
      await using held = await close(runner.gates);
      expect(await held.whyNotTight()).toBeUndefined();
    });

    async function createdTimes(): Promise<string[]> {
      const [rows] = await root.query<RowDataPacket[]>(
        "SELECT CONCAT(TRIGGER_NAME, ' ', CREATED) AS made FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?",
        [database],
      );
      return rows.map((row) => String(row["made"]));
    }

    test("does not replace a trigger of a closed gate, since writes would slip through", async () => {
      await closedFor();
      const [victim] = await triggerNames();
      await root.query(`DROP TRIGGER ${victim}`);
      await root.query(`CREATE TRIGGER ${victim} AFTER DELETE ON orders FOR EACH ROW SET @x = 1`);
      await expect(runner.gates.arm(gateSpec)).rejects.toMatchObject({ code: "E_GATE_NOT_ARMED" });
      expect((await runner.gates.state(job))?.state).toBe("closed");
    });

    test("gives up in time and names the transaction in its way, while readers hardly notice", async () => {
      await runner[Symbol.asyncDispose]();
      runner = await takeJob(server(), { limits: { ddlMs: 2000 } });
      await app.query("BEGIN");
      await app.query("SELECT COUNT(*) FROM orders");
      await using reader = await openApp(server());
      const over = new AbortController();
      const reading = longestRead(reader, over.signal);
      const failure = await runner.gates.arm(gateSpec).catch((error: unknown) => error);
      over.abort();
      expect(failure).toMatchObject({ code: "E_GATE_NOT_ARMED", retryable: true });
      expect((failure as Error).message).toContain(`connection ${app.threadId} (app@`);
      const { reads, longestMs } = await reading;
      expect(reads).toBeGreaterThan(10);
      // Without the short tries a reader would wait a whole second, which is MySQL's least lock_wait_timeout.
      expect(longestMs).toBeLessThan(800);
      await app.query("COMMIT");
      await runner.gates.arm(gateSpec);
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
          await app.query("UPDATE orders SET v = ? WHERE id = 2", [n]);
      })();
      await runner.gates.arm(gateSpec);
      over.abort();
      await writing;
      expect(await triggerNames()).toHaveLength(6);
    });

    test("copes with names that need quoting", async () => {
      await root.query(
        "CREATE TABLE `o``dd 'n' ü` (id BIGINT PRIMARY KEY, `k``x` BIGINT NOT NULL) ENGINE=InnoDB",
      );
      try {
        const spec = { ...gateSpec, tables: [tableShape("o`dd 'n' ü", "k`x")] };
        await closedFor(spec);
        const { message } = await refusalOf(app, "INSERT INTO `o``dd 'n' ü` VALUES (1, 100)");
        expect(parseRefusal(message)).toEqual({ kind: "moved", job, afterEpoch: 41 });
        await app.query("INSERT INTO `o``dd 'n' ü` VALUES (1, 99)");
        await runner.gates.arm(spec);
        await runner.gates.disarm(spec);
      } finally {
        await root.query("DROP TABLE `o``dd 'n' ü`");
      }
    });
  });

  describe("while it is held", () => {
    test("reads and other slices go on, writers of the slice wait and then go on as if nothing had been", async () => {
      await runner.gates.arm(gateSpec);
      await using held = await close(runner.gates);
      let waits = true;
      const writing = app.query("UPDATE orders SET v = 1 WHERE id = 2").then(() => {
        waits = false;
      });
      await using other = await openApp(server());
      await eventually("the writer waits", async () => (await lockWaits()) > 0);
      await other.query("INSERT INTO orders VALUES (5, 99, 0, NULL)");
      await other.query("UPDATE orders SET v = 1 WHERE id = 1");
      await other.query("INSERT INTO elsewhere VALUES (1, 1)");
      await other.query("SELECT * FROM orders");
      expect(waits).toBe(true);
      await held.rollback();
      await writing;
      expect((await runner.gates.state(job))?.state).toBe("open");
    });

    test("every writer that had begun has ended, and its row is seen by a plain read", async () => {
      await runner.gates.arm(gateSpec);
      await app.query("BEGIN");
      await app.query("INSERT INTO orders VALUES (5, 100, 0, NULL)");
      const early = await runner.gates.tryClose(gateSpec, 200);
      if (!("blockers" in early)) throw new Error("the gate was taken beside a writer");
      expect(early.blockers.join()).toContain(`connection ${app.threadId} (app@`);
      const [held] = await Promise.all([close(runner.gates), app.query("COMMIT")]);
      await using _ = held;
      const [rows] = await root.query<RowDataPacket[]>("SELECT id FROM orders WHERE id = 5");
      expect(rows).toHaveLength(1);
    });

    test("one try is bounded", async () => {
      await runner.gates.arm(gateSpec);
      await app.query("BEGIN");
      await app.query("UPDATE orders SET v = 1 WHERE id = 2");
      const started = performance.now();
      expect(await runner.gates.tryClose(gateSpec, 100)).toHaveProperty("blockers");
      expect(performance.now() - started).toBeLessThan(900);
    });

    test.each([
      ["TRUNCATE", () => "TRUNCATE orders"],
      ["the dropping of a trigger", (trigger: string) => `DROP TRIGGER ${trigger}`],
      ["an ALTER TABLE", () => "ALTER TABLE items ADD COLUMN n INT"],
    ])("%s has to wait", async (_, ddl) => {
      await runner.gates.arm(gateSpec);
      const [trigger] = await triggerNames();
      await using held = await close(runner.gates);
      await root.query("SET SESSION lock_wait_timeout = 1");
      expect(await refusalOf(root, ddl(String(trigger)))).toMatchObject({ errno: 1205 });
      expect(await held.whyNotTight()).toBeUndefined();
    });

    test("a trigger that somebody has dropped is missed", async () => {
      await runner.gates.arm(gateSpec);
      const [trigger] = await triggerNames();
      await root.query(`DROP TRIGGER ${trigger}`);
      await using held = await close(runner.gates);
      expect(await held.whyNotTight()).toContain(`trigger ${trigger} (DELETE on `);
    });

    test("a trigger with another definer is noticed", async () => {
      await runner.gates.arm(gateSpec);
      const [trigger] = await triggerNames();
      const [shown] = await root.query<RowDataPacket[]>(`SHOW CREATE TRIGGER ${trigger}`);
      await root.query(`DROP TRIGGER ${trigger}`);
      await root.query(
        String(shown[0]?.["SQL Original Statement"]).replace(/DEFINER=\S+/, "DEFINER=root@localhost"),
      );
      await using held = await close(runner.gates);
      expect(await held.whyNotTight()).toContain("has the definer root@localhost");
    });
  });

  describe("once it is closed", () => {
    test.each(Object.entries(stale))("refuses %s, with a message for the router", async (_, sql) => {
      await closedFor();
      const before = await image();
      const refusal = await refusalOf(app, sql);
      expect(refusal).toMatchObject({ errno: 1644, sqlState: "45000" });
      expect(parseRefusal(refusal.message)).toEqual({ kind: "moved", job, afterEpoch: 41 });
      expect(await image()).toEqual(before);
    });

    test("refuses LOAD DATA", async () => {
      await closedFor();
      const load = app.query({
        sql: "LOAD DATA LOCAL INFILE 'x' INTO TABLE orders (id, user_id, v)",
        infileStreamFactory: () => Readable.from([Buffer.from("6\t1\t0\n7\t170\t0\n")]),
      });
      await expect(load).rejects.toMatchObject({ errno: 1644 });
    });

    test("refuses what was prepared before it was armed, and a transaction with an old snapshot", async () => {
      await using old = await openApp(server());
      const statement = await old.prepare("UPDATE orders SET v = v + 1 WHERE id = ?");
      await runner.gates.arm(gateSpec);
      await old.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
      await old.query("START TRANSACTION WITH CONSISTENT SNAPSHOT");
      await close(runner.gates).then((held) => held.commit());
      await expect(statement.execute([2])).rejects.toMatchObject({ errno: 1644 });
    });

    test("refuses a row that the application's own trigger moves into the slice", async () => {
      await closedFor();
      await root.query(
        "CREATE TRIGGER app_moves BEFORE INSERT ON orders FOR EACH ROW SET NEW.user_id = NEW.user_id + 1000",
      );
      expect(await refusalOf(app, "INSERT INTO orders VALUES (5, 1, 0, NULL)")).toMatchObject({
        errno: 1644,
      });
    });

    test("lets other slices be written", async () => {
      await closedFor();
      await app.query("INSERT INTO orders VALUES (5, 99, 0, NULL) ON DUPLICATE KEY UPDATE v = 1");
      await app.query("UPDATE orders SET user_id = 98 WHERE id = 5");
      await app.query("REPLACE INTO orders VALUES (5, 97, 0, NULL)");
      await app.query("DELETE FROM orders WHERE id = 5");
    });

    test("lets the tool's account pass, and nobody who only calls himself so", async () => {
      await closedFor();
      await using tool = await connect(server(), "shardlift", { database });
      await tool.query("UPDATE orders SET v = 5 WHERE id = 2");
      await root.query(
        "CREATE USER IF NOT EXISTS SHARDLIFT@'%' IDENTIFIED BY 'x', `shardlift2`@'%' IDENTIFIED BY 'x'",
      );
      await root.query(`GRANT ALL ON ${database}.* TO SHARDLIFT@'%', shardlift2@'%'`);
      for (const user of ["SHARDLIFT", "shardlift2"]) {
        await using like = await connect(server(), "app", { database, user, password: "x" });
        await like.query("SET @shardlift_applier = 1, @shardlift = 1");
        expect(await refusalOf(like, "UPDATE orders SET v = 6 WHERE id = 2")).toMatchObject({ errno: 1644 });
      }
    });

    test("opens again by a word of its runner", async () => {
      await closedFor();
      // A refused transaction that has not ended keeps its lock on the row for a while.
      await app.query("BEGIN");
      await refusalOf(app, "UPDATE orders SET v = 1 WHERE id = 2");
      const [, opened] = await Promise.all([
        eventually("the opener waits", async () => (await lockWaits()) > 0).then(() => app.query("ROLLBACK")),
        runner.gates.open(job),
      ]);
      expect(opened).toBeUndefined();
      await app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await runner.gates.open(job);
    });

    test("refuses when its row is gone, rather than letting writes through", async () => {
      await runner.gates.arm(gateSpec);
      await root.query("DELETE FROM _shardlift.gate");
      const { message } = await refusalOf(app, "UPDATE orders SET v = 1 WHERE id = 2");
      expect(parseRefusal(message)).toEqual({ kind: "moved", job, afterEpoch: 0 });
      await app.query("UPDATE orders SET v = 1 WHERE id = 1");
    });

    test("compares a TIMESTAMP key in any time zone of the application", async () => {
      await root.query("CREATE TABLE moments (id BIGINT PRIMARY KEY, at TIMESTAMP NOT NULL) ENGINE=InnoDB");
      try {
        const tables = [tableShape("moments", "at", "temporal", "timestamp")];
        await closedFor({ ...gateSpec, tables, slice: [{ from: boundAt("2024-05-01 10:00:00"), to: MAX }] });
        for (const zone of ["+00:00", "+09:00", "-11:30"]) {
          await app.query(`SET SESSION time_zone = '${zone}'`);
          await app.query("INSERT INTO moments VALUES (1, FROM_UNIXTIME(1714557599))");
          await app.query("DELETE FROM moments");
          const moved = await refusalOf(app, "INSERT INTO moments VALUES (1, FROM_UNIXTIME(1714557600))");
          expect(moved.errno).toBe(1644);
        }
      } finally {
        await root.query("DROP TABLE moments");
      }
    });
  });

  describe("when the closer dies before the commit", () => {
    test("the gate opens by itself after its connection was killed, and says so", async () => {
      await runner.gates.arm(gateSpec);
      await using held = await close(runner.gates);
      await killCloser();
      await app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await eventually("the loss is noticed", async () => (await held.whyNotTight()) !== undefined);
      await expect(held.commit()).rejects.toMatchObject({ code: "E_CUTOVER_NOT_DONE", retryable: true });
      expect((await runner.gates.state(job))?.state).toBe("open");
    });

    /** The one transaction of the tool. */
    async function killCloser(): Promise<void> {
      let rows: RowDataPacket[] = [];
      await eventually("the closer is seen", async () => {
        [rows] = await root.query<RowDataPacket[]>(
          "SELECT t.trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id WHERE p.USER = 'shardlift'",
        );
        return rows.length > 0;
      });
      await root.query(`KILL ${rows[0]?.["id"]}`);
    }

    test("the gate opens by itself after its process was killed", async () => {
      await runner.gates.arm(gateSpec);
      const script = fileURLToPath(new URL("../support/gate-holder.ts", import.meta.url));
      const child = spawn(process.execPath, [script, JSON.stringify(toolAddress(server()))], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const [said] = (await once(child.stdout, "data")) as [Buffer];
      expect(said.toString()).toBe("held\n");
      const writing = app.query("UPDATE orders SET v = 1 WHERE id = 2");
      child.kill("SIGKILL");
      await writing;
      expect((await runner.gates.state(job))?.state).toBe("open");
    });

    test("the server ends a closer that is silent for two seconds", async () => {
      await runner.gates.arm(gateSpec);
      await using held = await close(runner.gates);
      const started = performance.now();
      await app.query("UPDATE orders SET v = 1 WHERE id = 2");
      expect(performance.now() - started).toBeGreaterThan(1000);
      await expect(held.commit()).rejects.toMatchObject({ code: "E_CUTOVER_NOT_DONE" });
    });
  });

  describe("when the answer to the commit is lost", () => {
    async function commitOver(loss: "after-delivery" | "before-delivery" | "for-good"): Promise<unknown> {
      await runner.gates.arm(gateSpec);
      await using relay = await openRelay(server().port);
      await using remote = await takeJob(server(), { port: relay.port, limits: { confirmMs: 3000 } });
      await using held = await close(remote.gates);
      relay.cutAt("COMMIT", loss);
      return await held.commit().catch((error: unknown) => error);
    }

    test("a commit that has arrived counts", async () => {
      expect(await commitOver("after-delivery")).toBeUndefined();
      expect((await runner.gates.state(job))?.state).toBe("closed");
    });

    test("a commit that has not arrived leaves the gate open, to be tried again", async () => {
      expect(await commitOver("before-delivery")).toMatchObject({
        code: "E_CUTOVER_NOT_DONE",
        retryable: true,
      });
      expect((await runner.gates.state(job))?.state).toBe("open");
    });

    test("a server that can not be asked leaves the question open", async () => {
      const lost = await commitOver("for-good");
      expect(lost).toMatchObject({ code: "E_GATE_LOST", exit: 5 });
      expect((lost as { next: string }).next).toContain(
        "SELECT state FROM `_shardlift`.gate WHERE job = 'split-1'",
      );
    });
  });

  describe("the mirror", () => {
    test("refuses the slice until it is opened, and rows that its shard does not own for ever", async () => {
      await runner.gates.arm(mirrorSpec);
      expect(await runner.gates.state(job)).toMatchObject({ role: "mirror", state: "closed" });
      const early = await refusalOf(app, "UPDATE orders SET v = 1 WHERE id = 2");
      expect(early).toMatchObject({ errno: 1644, sqlState: "45000" });
      expect(parseRefusal(early.message)).toEqual({ kind: "not-open", job, afterEpoch: 41 });
      await app.query("INSERT INTO orders VALUES (5, 49, 0, NULL)");
      await using tool = await connect(server(), "shardlift", { database });
      await tool.query("UPDATE orders SET v = 1 WHERE id = 2");
      await expectOutsideRefused();

      await runner.gates.open(job);
      await app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await app.query("UPDATE orders SET user_id = 200 WHERE id = 1");
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
        expect(parseRefusal((await refusalOf(app, sql)).message)).toMatchObject({ kind: "not-owned", job });
      }
    }

    test("of a shard that will own everything refuses nothing once it is open", async () => {
      await runner.gates.arm({ ...mirrorSpec, owned: [{ from: MIN, to: boundAt("100") }] });
      await app.query("UPDATE orders SET v = 1 WHERE user_id < 100");
      await runner.gates.open(job);
      await app.query("UPDATE orders SET v = 1");
    });

    test("can be closed like a gate, for the way back", async () => {
      await runner.gates.arm(mirrorSpec);
      await runner.gates.open(job);
      await using held = await close(runner.gates, mirrorSpec);
      await held.commit();
      expect(await runner.gates.state(job)).toMatchObject({ role: "mirror", state: "closed" });
      await refusalOf(app, "UPDATE orders SET v = 1 WHERE id = 2");
    });
  });

  describe("a runner whose token is old", () => {
    test("can not close, open, arm or disarm any more, and the new one can", async () => {
      await runner.gates.arm(gateSpec);
      await using newer = await takeJob(server(), { token: 8 });
      const held = { code: "E_JOB_HELD", exit: 10 };
      await expect(runner.gates.tryClose(gateSpec, 100)).rejects.toMatchObject(held);
      await expect(runner.gates.open(job)).rejects.toMatchObject(held);
      await expect(runner.gates.arm(gateSpec)).rejects.toMatchObject(held);
      await expect(runner.gates.disarm(gateSpec)).rejects.toMatchObject(held);
      expect(await triggerNames()).toHaveLength(6);
      await (await close(newer.gates)).commit();
      expect(await runner.gates.state(job)).toMatchObject({ token: 8, state: "closed" });
      await expect(runner.gates.open(job)).rejects.toMatchObject(held);
      await newer.gates.open(job);
    });

    test("that holds the gate makes a takeover wait, and is let go of by it", async () => {
      await runner.gates.arm(gateSpec);
      await using held = await close(runner.gates);
      await root.query("SET SESSION innodb_lock_wait_timeout = 1");
      const early = await refusalOf(root, "UPDATE _shardlift.lease SET token = 8");
      expect(early).toMatchObject({ errno: 1205 });
      await held.rollback();
      await root.query("UPDATE _shardlift.lease SET token = 8");
      await expect(runner.gates.tryClose(gateSpec, 100)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    });

    test("adopts an older runner's row, and no row of another store", async () => {
      await runner.gates.arm(gateSpec);
      await using newer = await takeJob(server(), { token: 9 });
      await newer.gates.open(job);
      expect((await runner.gates.state(job))?.token).toBe(9);
      await root.query("UPDATE _shardlift.lease SET store_id = 'store-2'");
      await using foreign = await joinJob(toolAddress(server()), { ...newer.claim, storeId: "store-2" });
      await expect(foreign.gates.arm(gateSpec)).rejects.toMatchObject({ code: "E_JOB_HELD" });
      await expect(foreign.gates.tryClose(gateSpec, 100)).rejects.toMatchObject({ code: "E_JOB_HELD" });
      await expect(foreign.gates.open(job)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    });
  });

  describe("disarming", () => {
    test("leaves nothing, also when done twice or where nothing was installed", async () => {
      await closedFor();
      await runner.gates.disarm(gateSpec);
      expect(await triggerNames()).toEqual([]);
      expect(await runner.gates.state(job)).toBeUndefined();
      await app.query("UPDATE orders SET v = 1");
      await runner.gates.disarm(gateSpec);
      await root.query("DROP DATABASE _shardlift");
      await runner.gates.disarm(gateSpec);
      expect(await runner.gates.state(job)).toBeUndefined();
    });

    test("keeps the application's triggers and those of another job", async () => {
      await root.query("CREATE TRIGGER app_own BEFORE INSERT ON orders FOR EACH ROW SET NEW.v = NEW.v + 1");
      await runner.gates.arm(gateSpec);
      await root.query(
        "INSERT INTO _shardlift.lease (job, store_id, token) VALUES ('other-job', 'store-1', 3)",
      );
      await using other = await joinJob(toolAddress(server()), {
        storeId: "store-1",
        job: "other-job",
        token: 3,
      });
      await other.gates.arm({ ...gateSpec, slice: [{ from: boundAt("0"), to: boundAt("5") }] });
      await runner.gates.disarm(gateSpec);
      expect(await triggerNames()).toHaveLength(7);
    });
  });

  describe("the oldest transaction", () => {
    test("is that of an application on the moved tables, measured by the server's own clock", async () => {
      expect(await runner.gates.oldestTransactionMs([orders, items])).toBe(0);
      await app.query("BEGIN");
      await app.query("SELECT * FROM orders");
      await eventually("it is older than a second", async () => (await oldest()) > 1000);
      // Nine hours off would show here.
      expect(await oldest()).toBeLessThan(60_000);
      await app.query("COMMIT");
      expect(await oldest()).toBe(0);
    });

    test("is never the tool's own", async () => {
      await using tool = await connect(server(), "shardlift", { database });
      await tool.query("BEGIN");
      await tool.query("SELECT * FROM orders");
      await tool.query("SELECT SLEEP(0.3)");
      expect(await oldest()).toBe(0);
    });

    test.runIf(flavor === "mysql")("leaves out transactions on other tables", async () => {
      await app.query("BEGIN");
      await app.query("INSERT INTO elsewhere VALUES (1, 1)");
      await using reader = await openApp(server());
      await reader.query("SELECT SLEEP(1.1)");
      expect(await oldest()).toBe(0);
    });

    async function oldest(): Promise<number> {
      return await runner.gates.oldestTransactionMs([orders, items]);
    }
  });

  describe("XA", () => {
    test.runIf(flavor === "mariadb")(
      "prepared transactions let the gate be taken, and are reported",
      async () => {
        await runner.gates.arm(gateSpec);
        await app.query("XA START 'a'");
        await app.query("UPDATE orders SET v = 1 WHERE id = 2");
        await app.query("XA END 'a'");
        await app.query("XA PREPARE 'a'");
        {
          await using held = await close(runner.gates);
          expect(await held.whyNotTight()).toContain("1 XA transactions are prepared and undecided: a");
          await app.query("XA COMMIT 'a'");
          expect(await held.whyNotTight()).toBeUndefined();
          await app.query("XA START 'b'");
          await app.query("INSERT INTO elsewhere VALUES (1, 1)");
          await app.query("XA END 'b'");
          await app.query("XA PREPARE 'b'");
          await app.query("XA COMMIT 'b'");
          expect(await held.whyNotTight()).toContain(
            "XA transactions were prepared while the gate was being closed",
          );
        }
        await using held = await close(runner.gates);
        expect(await held.whyNotTight()).toBeUndefined();
      },
    );

    test.runIf(flavor === "mysql")(
      "a prepared transaction keeps its lock, so the gate is not taken",
      async () => {
        await runner.gates.arm(gateSpec);
        await app.query("XA START 'a'");
        await app.query("UPDATE orders SET v = 1 WHERE id = 2");
        await app.query("XA END 'a'");
        await app.query("XA PREPARE 'a'");
        const attempt = await runner.gates.tryClose(gateSpec, 200);
        await root.query("XA COMMIT 'a'").catch(() => app.query("XA COMMIT 'a'"));
        expect(attempt).toHaveProperty("blockers");
        await using held = await close(runner.gates);
        expect(await held.whyNotTight()).toBeUndefined();
      },
    );
  });

  test.runIf(flavor === "mysql")(
    "with BACKUP_ADMIN a waiting DDL statement holds up nobody else",
    async () => {
      await root.query("GRANT BACKUP_ADMIN ON *.* TO shardlift@'%'");
      try {
        await runner.gates.arm(gateSpec);
        await using held = await close(runner.gates);
        await using other = await connect(server(), "root", { database });
        await other.query("SET SESSION lock_wait_timeout = 1");
        const ddl = refusalOf(other, "TRUNCATE orders");
        const started = performance.now();
        await app.query("SELECT * FROM orders");
        await app.query("UPDATE orders SET v = 1 WHERE id = 1");
        expect(performance.now() - started).toBeLessThan(900);
        expect(await ddl).toMatchObject({ errno: 1205 });
        expect(await held.whyNotTight()).toBeUndefined();
      } finally {
        await root.query("REVOKE BACKUP_ADMIN ON *.* FROM shardlift@'%'");
      }
    },
  );

  test("an account without the right to make triggers is told what it lacks", async () => {
    await root.query("REVOKE TRIGGER ON *.* FROM shardlift@'%'");
    try {
      const failure: unknown = await runner.gates.arm(gateSpec).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "E_GATE_NOT_ARMED", retryable: false });
      expect((failure as { next: string }).next).toContain("GRANT TRIGGER");
    } finally {
      await root.query("GRANT TRIGGER ON *.* TO shardlift@'%'");
    }
  });

  test("slices other than the last are told apart too", async () => {
    const ranges = [
      { from: boundAt("-5"), to: boundAt("0") },
      { from: boundAt("20"), to: boundAt("30") },
    ];
    await closedFor({ ...gateSpec, slice: ranges });
    for (const [key, refused] of [
      [-6, false],
      [-5, true],
      [-1, true],
      [0, false],
      [19, false],
      [20, true],
      [29, true],
      [30, false],
      [100, false],
    ] as const) {
      const insert = `INSERT INTO orders VALUES (100, ${key}, 0, NULL)`;
      if (refused) expect(await refusalOf(app, insert)).toMatchObject({ errno: 1644 });
      else await app.query(insert).then(() => app.query("DELETE FROM orders WHERE id = 100"));
    }
  });
});
