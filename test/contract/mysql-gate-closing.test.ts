import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { ResultSetHeader, RowDataPacket } from "mysql2/promise";
import { beforeAll, describe, expect, test } from "vitest";
import { boundAt, MAX } from "../../src/model/key.ts";
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
import { close, database, gateSpec, tableShape } from "../support/gate-spec.ts";
import { openRelay } from "../support/relay.ts";
import { connect, describeServers } from "../support/servers.ts";

const job = "split-1";

describeServers("closing the range gate", (flavor) => {
  const lab = useGateLab(flavor);

  beforeAll(async () => {
    await using admin = await connect(lab.server(), "root");
    await admin.query("SET GLOBAL local_infile = 1");
  });

  describe("while it is held", () => {
    test("reads and other slices go on, writers of the slice wait and then go on as if nothing had been", async () => {
      await lab.gates.arm(gateSpec);
      await using held = await close(lab.gates);
      let waits = true;
      const writing = lab.app.query("UPDATE orders SET v = 1 WHERE id = 2").finally(() => {
        waits = false;
      });
      await using other = await openApp(lab.server());
      await eventually("the writer waits", () => lab.isWriterWaiting());
      await other.query("INSERT INTO orders VALUES (5, 99, 0, NULL)");
      await other.query("UPDATE orders SET v = 1 WHERE id = 1");
      await other.query("INSERT INTO elsewhere VALUES (1, 1)");
      await other.query("SELECT * FROM orders");
      expect(waits).toBe(true);
      await held.rollback();
      await writing;
      expect((await lab.gates.state(job))?.state).toBe("open");
    });

    test("every writer that had begun has ended, and its row is seen by a plain read", async () => {
      await lab.gates.arm(gateSpec);
      await lab.app.query("BEGIN");
      await lab.app.query("INSERT INTO orders VALUES (5, 100, 0, NULL)");
      const early = await lab.gates.tryClose(gateSpec, 200);
      if (!("blockers" in early)) throw new Error("the gate was taken beside a writer");
      expect(early.blockers.join()).toContain(`connection ${lab.app.threadId} (app@`);
      const [held] = await Promise.all([close(lab.gates), lab.app.query("COMMIT")]);
      await using _ = held;
      const rows = await lab.rows("SELECT id FROM orders WHERE id = 5");
      expect(rows).toHaveLength(1);
    });

    test("one try is bounded", async () => {
      await lab.gates.arm(gateSpec);
      await lab.app.query("BEGIN");
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      const started = performance.now();
      expect(await lab.gates.tryClose(gateSpec, 100)).toHaveProperty("blockers");
      expect(performance.now() - started).toBeLessThan(900);
    });

    test.each([
      ["TRUNCATE", () => "TRUNCATE orders"],
      ["the dropping of a trigger", (trigger: string) => `DROP TRIGGER ${trigger}`],
      ["an ALTER TABLE", () => "ALTER TABLE items ADD COLUMN n INT"],
    ])("%s has to wait", async (_, ddl) => {
      await lab.gates.arm(gateSpec);
      const [trigger] = await lab.triggerNames();
      await using held = await close(lab.gates);
      await lab.root.query("SET SESSION lock_wait_timeout = 1");
      expect(await refusalOf(lab.root, ddl(String(trigger)))).toMatchObject({ errno: 1205 });
      expect(await held.whyNotTight()).toBeUndefined();
    });

    test("a trigger that somebody has dropped is missed", async () => {
      await lab.gates.arm(gateSpec);
      const [trigger] = await lab.triggerNames();
      await lab.root.query(`DROP TRIGGER ${trigger}`);
      await using held = await close(lab.gates);
      expect(await held.whyNotTight()).toContain(`trigger ${trigger} (DELETE on `);
    });

    test("a trigger with another definer is noticed", async () => {
      await lab.gates.arm(gateSpec);
      const [trigger] = await lab.triggerNames();
      const [shown] = await lab.rows(`SHOW CREATE TRIGGER ${trigger}`);
      await lab.root.query(`DROP TRIGGER ${trigger}`);
      await lab.root.query(
        String(shown?.["SQL Original Statement"]).replace(/DEFINER=\S+/, "DEFINER=root@localhost"),
      );
      await using held = await close(lab.gates);
      expect(await held.whyNotTight()).toContain("has the definer root@localhost");
    });
  });

  describe("once it is closed", () => {
    test.each(Object.entries(sliceWrites))("refuses %s, with a message for the router", async (_, sql) => {
      await lab.closeFor();
      const before = await lab.orders();
      const refusal = await refusalOf(lab.app, sql);
      expect(refusal).toMatchObject({ errno: 1644, sqlState: "45000" });
      expect(parseRefusal(refusal.message)).toEqual({ kind: "moved", job, afterEpoch: 41 });
      expect(await lab.orders()).toEqual(before);
    });

    test("refuses LOAD DATA", async () => {
      await lab.closeFor();
      const load = lab.app.query({
        sql: "LOAD DATA LOCAL INFILE 'x' INTO TABLE orders (id, user_id, v)",
        infileStreamFactory: () => Readable.from([Buffer.from("6\t1\t0\n7\t170\t0\n")]),
      });
      await expect(load).rejects.toMatchObject({ errno: 1644 });
    });

    test("refuses what was prepared before it was armed, and a transaction with an old snapshot", async () => {
      await using old = await openApp(lab.server());
      const statement = await old.prepare("UPDATE orders SET v = v + 1 WHERE id = ?");
      await lab.gates.arm(gateSpec);
      await old.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
      await old.query("START TRANSACTION WITH CONSISTENT SNAPSHOT");
      await close(lab.gates).then((held) => held.commit());
      await expect(statement.execute([2])).rejects.toMatchObject({ errno: 1644 });
    });

    test("refuses a row that the application's own trigger moves into the slice", async () => {
      await lab.closeFor();
      await lab.root.query(
        "CREATE TRIGGER app_moves BEFORE INSERT ON orders FOR EACH ROW SET NEW.user_id = NEW.user_id + 1000",
      );
      expect(await refusalOf(lab.app, "INSERT INTO orders VALUES (5, 1, 0, NULL)")).toMatchObject({
        errno: 1644,
      });
    });

    test("lets other slices be written", async () => {
      await lab.closeFor();
      for (const sql of [
        "INSERT INTO orders VALUES (5, 99, 0, NULL) ON DUPLICATE KEY UPDATE v = 1",
        "UPDATE orders SET user_id = 98 WHERE id = 5",
        "REPLACE INTO orders VALUES (5, 97, 0, NULL)",
        "DELETE FROM orders WHERE id = 5",
      ]) {
        const [{ affectedRows }] = await lab.app.query<ResultSetHeader>(sql);
        expect(affectedRows).toBeGreaterThan(0);
      }
    });

    test("lets the tool's account pass, and nobody who only calls himself so", async () => {
      await lab.closeFor();
      await using tool = await connect(lab.server(), "shardlift", { database });
      await tool.query("UPDATE orders SET v = 5 WHERE id = 2");
      await lab.root.query(
        "CREATE USER IF NOT EXISTS SHARDLIFT@'%' IDENTIFIED BY 'x', `shardlift2`@'%' IDENTIFIED BY 'x'",
      );
      await lab.root.query(`GRANT ALL ON ${database}.* TO SHARDLIFT@'%', shardlift2@'%'`);
      for (const user of ["SHARDLIFT", "shardlift2"]) {
        await using like = await connect(lab.server(), "app", { database, user, password: "x" });
        await like.query("SET @shardlift_applier = 1, @shardlift = 1");
        expect(await refusalOf(like, "UPDATE orders SET v = 6 WHERE id = 2")).toMatchObject({ errno: 1644 });
      }
    });

    test("opens again by a word of its runner", async () => {
      await lab.closeFor();
      // A refused transaction that has not ended keeps its lock on the row for a while.
      await lab.app.query("BEGIN");
      await refusalOf(lab.app, "UPDATE orders SET v = 1 WHERE id = 2");
      const [, opened] = await Promise.all([
        eventually("the opener waits", () => lab.isWriterWaiting()).then(() => lab.app.query("ROLLBACK")),
        lab.gates.open(job),
      ]);
      expect(opened).toBeUndefined();
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await lab.gates.open(job);
    });

    test("refuses when its row is gone, rather than letting writes through", async () => {
      await lab.gates.arm(gateSpec);
      await lab.root.query("DELETE FROM _shardlift.gate");
      const { message } = await refusalOf(lab.app, "UPDATE orders SET v = 1 WHERE id = 2");
      expect(parseRefusal(message)).toEqual({ kind: "moved", job, afterEpoch: 0 });
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 1");
    });

    test("compares a TIMESTAMP key in any time zone of the application", async () => {
      await lab.root.query(
        "CREATE TABLE moments (id BIGINT PRIMARY KEY, at TIMESTAMP NOT NULL) ENGINE=InnoDB",
      );
      try {
        const tables = [tableShape("moments", "at", "temporal", "timestamp")];
        await lab.closeFor({
          ...gateSpec,
          tables,
          slice: [{ from: boundAt("2024-05-01 10:00:00"), to: MAX }],
        });
        for (const zone of ["+00:00", "+09:00", "-11:30"]) {
          await lab.app.query(`SET SESSION time_zone = '${zone}'`);
          await lab.app.query("INSERT INTO moments VALUES (1, FROM_UNIXTIME(1714557599))");
          await lab.app.query("DELETE FROM moments");
          const moved = await refusalOf(lab.app, "INSERT INTO moments VALUES (1, FROM_UNIXTIME(1714557600))");
          expect(moved.errno).toBe(1644);
        }
      } finally {
        await lab.root.query("DROP TABLE moments");
      }
    });
  });

  describe("when the closer dies before the commit", () => {
    test("the gate opens by itself after its connection was killed, and says so", async () => {
      await lab.gates.arm(gateSpec);
      await using held = await close(lab.gates);
      await killCloser();
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      await eventually("the loss is noticed", async () => (await held.whyNotTight()) !== undefined);
      await expect(held.commit()).rejects.toMatchObject({ code: "E_CUTOVER_NOT_DONE", retryable: true });
      expect((await lab.gates.state(job))?.state).toBe("open");
    });

    /** The one transaction of the tool. */
    async function killCloser(): Promise<void> {
      let rows: RowDataPacket[] = [];
      await eventually("the closer is seen", async () => {
        rows = await lab.rows(
          "SELECT t.trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id WHERE p.USER = 'shardlift'",
        );
        return rows.length > 0;
      });
      await lab.root.query(`KILL ${rows[0]?.["id"]}`);
    }

    test("the gate opens by itself after its process was killed", async () => {
      await lab.gates.arm(gateSpec);
      const script = fileURLToPath(new URL("../support/gate-holder.ts", import.meta.url));
      const child = spawn(process.execPath, [script, JSON.stringify(toolAddress(lab.server()))], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const [said] = (await once(child.stdout, "data")) as [Buffer];
      expect(said.toString()).toBe("held\n");
      const writing = lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      child.kill("SIGKILL");
      await writing;
      expect((await lab.gates.state(job))?.state).toBe("open");
    });

    test("the server ends a closer that is silent for two seconds", async () => {
      await lab.gates.arm(gateSpec);
      await using held = await close(lab.gates);
      const started = performance.now();
      await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
      expect(performance.now() - started).toBeGreaterThan(1000);
      await expect(held.commit()).rejects.toMatchObject({ code: "E_CUTOVER_NOT_DONE" });
    });
  });

  describe("when the answer to the commit is lost", () => {
    async function commitOver(loss: "after-delivery" | "before-delivery" | "for-good"): Promise<unknown> {
      await lab.gates.arm(gateSpec);
      await using relay = await openRelay(lab.server().port);
      await using remote = await takeJob(lab.server(), { port: relay.port, limits: { confirmMs: 3000 } });
      await using held = await close(remote.gates);
      relay.cutAt("COMMIT", loss);
      return await held.commit().catch((error: unknown) => error);
    }

    test("a commit that has arrived counts", async () => {
      expect(await commitOver("after-delivery")).toBeUndefined();
      expect((await lab.gates.state(job))?.state).toBe("closed");
    });

    test("a commit that has not arrived leaves the gate open, to be tried again", async () => {
      expect(await commitOver("before-delivery")).toMatchObject({
        code: "E_CUTOVER_NOT_DONE",
        retryable: true,
      });
      expect((await lab.gates.state(job))?.state).toBe("open");
    });

    test("a server that can not be asked leaves the question open", async () => {
      const lost = await commitOver("for-good");
      expect(lost).toMatchObject({ code: "E_GATE_LOST", exit: 5 });
      expect((lost as { next: string }).next).toContain(
        "SELECT state FROM `_shardlift`.gate WHERE job = 'split-1'",
      );
    });
  });

  describe("XA", () => {
    test.runIf(flavor === "mariadb")(
      "prepared transactions let the gate be taken, and are reported",
      async () => {
        await lab.gates.arm(gateSpec);
        await lab.app.query("XA START 'a'");
        await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
        await lab.app.query("XA END 'a'");
        await lab.app.query("XA PREPARE 'a'");
        {
          await using held = await close(lab.gates);
          expect(await held.whyNotTight()).toContain("1 XA transactions are prepared and undecided: a");
          await lab.app.query("XA COMMIT 'a'");
          expect(await held.whyNotTight()).toBeUndefined();
          await lab.app.query("XA START 'b'");
          await lab.app.query("INSERT INTO elsewhere VALUES (1, 1)");
          await lab.app.query("XA END 'b'");
          await lab.app.query("XA PREPARE 'b'");
          await lab.app.query("XA COMMIT 'b'");
          expect(await held.whyNotTight()).toContain(
            "XA transactions were prepared while the gate was being closed",
          );
        }
        await using held = await close(lab.gates);
        expect(await held.whyNotTight()).toBeUndefined();
      },
    );

    test.runIf(flavor === "mysql")(
      "a prepared transaction keeps its lock, so the gate is not taken",
      async () => {
        await lab.gates.arm(gateSpec);
        await lab.app.query("XA START 'a'");
        await lab.app.query("UPDATE orders SET v = 1 WHERE id = 2");
        await lab.app.query("XA END 'a'");
        await lab.app.query("XA PREPARE 'a'");
        const attempt = await lab.gates.tryClose(gateSpec, 200);
        await lab.root.query("XA COMMIT 'a'").catch(() => lab.app.query("XA COMMIT 'a'"));
        expect(attempt).toHaveProperty("blockers");
        await using held = await close(lab.gates);
        expect(await held.whyNotTight()).toBeUndefined();
      },
    );
  });

  test.runIf(flavor === "mysql")(
    "with BACKUP_ADMIN a waiting DDL statement holds up nobody else",
    async () => {
      await lab.root.query("GRANT BACKUP_ADMIN ON *.* TO shardlift@'%'");
      try {
        await lab.gates.arm(gateSpec);
        await using held = await close(lab.gates);
        await using other = await connect(lab.server(), "root", { database });
        await other.query("SET SESSION lock_wait_timeout = 1");
        const ddl = refusalOf(other, "TRUNCATE orders");
        const started = performance.now();
        await lab.app.query("SELECT * FROM orders");
        await lab.app.query("UPDATE orders SET v = 1 WHERE id = 1");
        expect(performance.now() - started).toBeLessThan(900);
        expect(await ddl).toMatchObject({ errno: 1205 });
        expect(await held.whyNotTight()).toBeUndefined();
      } finally {
        await lab.root.query("REVOKE BACKUP_ADMIN ON *.* FROM shardlift@'%'");
      }
    },
  );

  test("a slice of several ranges is closed exactly", async () => {
    await lab.closeFor({
      ...gateSpec,
      slice: [
        { from: boundAt("-5"), to: boundAt("0") },
        { from: boundAt("20"), to: boundAt("30") },
      ],
    });
    const refused: number[] = [];
    const keys = [-6, -5, -1, 0, 19, 20, 29, 30, 100];
    for (const [index, key] of keys.entries()) {
      const insert = lab.app.query("INSERT INTO orders VALUES (?, ?, 0, NULL)", [100 + index, key]);
      await insert.catch((error: { errno?: number }) => {
        expect(error.errno).toBe(1644);
        refused.push(key);
      });
    }
    expect(refused).toEqual([-5, -1, 20, 29]);
  });
});
