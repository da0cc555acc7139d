import { connect as connectSocket, createServer, type AddressInfo, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { boundAt, MAX } from "../../src/model/key.ts";
import { wholeSlice } from "../../src/model/slice.ts";
import { job, openLogLab } from "../support/log-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

describeServers("the log reader", (flavor) => {
  const server = useServer(flavor, { extraArgs: ["--max-allowed-packet=64M"] });

  test("delivers the keys of inserts, updates, key changes and deletes, and the barrier behind them", async () => {
    await using lab = await openLogLab(server(), "basics");
    await lab.root.query(
      "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(20)); CREATE TABLE other (id INT PRIMARY KEY)",
    );
    const table = await lab.describe("t");
    const follower = await lab.follow([table]);
    await lab.root.query("INSERT INTO t VALUES (1,'a'),(2,'b'),(-3,'c')");
    await lab.root.query("INSERT INTO other VALUES (7)");
    await lab.root.query(
      "UPDATE t SET v='x' WHERE id=1; UPDATE t SET id=20 WHERE id=2; DELETE FROM t WHERE id=-3",
    );
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1", "2", "-3", "1", "2", "20", "-3"]);
    expect(follower.batches.reduce((sum, batch) => sum + batch.scanned, 0)).toBeGreaterThanOrEqual(7);
    expect(follower.position).toBe(await lab.changeLog().head());
    expect(follower.log.seenGtids()).toBe(follower.position);
    expect(Math.abs((follower.batches.at(-1)?.sourceTime ?? 0) - Date.now() / 1000)).toBeLessThan(60);
  });

  test("delivers a lone transaction at once, without waiting for more", async () => {
    await using lab = await openLogLab(server(), "latency");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const follower = await lab.follow([await lab.describe("t")]);
    const tookMs: number[] = [];
    for (let n = 1; n <= 20; n++) {
      await lab.barrier(n);
      const committed = performance.now();
      await follower.reached(n);
      tookMs.push(performance.now() - committed);
    }
    // The follower looks every 5 ms; a heartbeat would come after a second.
    expect(tookMs.toSorted((a, b) => a - b)[10]).toBeLessThan(200);
  });

  test("reads again from each delivered position without a gap", async () => {
    await using lab = await openLogLab(server(), "resume");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const table = await lab.describe("t");
    const first = await lab.follow([table]);
    for (let id = 1; id <= 10; id++) await lab.root.query(`INSERT INTO t VALUES (${id})`);
    await lab.barrier(1);
    await first.reached(1);
    const middle = first.batches[Math.floor(first.batches.length / 2)];
    const before = first.batches
      .slice(0, first.batches.indexOf(middle as never) + 1)
      .flatMap((batch) => batch.changes.flatMap((change) => change.keys));
    const second = await lab.follow([table], { from: middle?.position ?? "" });
    await second.reached(1);
    expect([...before, ...second.keys("t")]).toEqual(first.keys("t"));
  });

  test("goes on without a gap when its dump is killed again and again, and when the server restarts", async () => {
    await using lab = await openLogLab(server(), "killed");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const follower = await lab.follow([await lab.describe("t")]);
    let id = 0;
    const insert = async (rows: number): Promise<void> => {
      for (let n = 0; n < rows; n++) await lab.root.query(`INSERT INTO t VALUES (${++id})`);
    };
    const killDump = async (): Promise<void> => {
      const [rows] = await lab.root.query("SHOW PROCESSLIST");
      const dumps = (rows as { Id: number; Command: string }[]).filter(({ Command }) =>
        Command.startsWith("Binlog"),
      );
      for (const dump of dumps) await lab.root.query(`KILL ${dump.Id}`).catch(() => {});
    };
    for (let round = 0; round < 5; round++) {
      await insert(20);
      await killDump();
    }
    await insert(5);
    await server().restart();
    await using again = await lab.session();
    for (let n = 0; n < 5; n++) await again.query(`INSERT INTO t VALUES (${++id})`);
    await again.query(
      "INSERT INTO _shardlift.barrier VALUES ('log-test', 900, NULL) ON DUPLICATE KEY UPDATE n=900",
    );
    await follower.reached(900);
    const distinct = [...new Set(follower.keys("t").map(Number))].toSorted((a, b) => a - b);
    expect(distinct).toEqual(Array.from({ length: id }, (_, n) => n + 1));
  });

  test("notices a connection on which nothing arrives any more, and opens another one", async () => {
    await using relay = await openFreezer(server().port);
    await using lab = await openLogLab(server(), "frozen", relay.port);
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const table = await lab.describe("t");
    const follower = await lab.follow([table], { options: { heartbeatMs: 100, silenceMs: 1000 } });
    await lab.barrier(1);
    await follower.reached(1);
    relay.freeze();
    await lab.root.query("INSERT INTO t VALUES (1)");
    await lab.barrier(2);
    await follower.reached(2);
    expect(follower.keys("t")).toEqual(["1"]);
  });

  test("stays connected through heartbeats while nothing is written", async () => {
    await using relay = await openFreezer(server().port);
    await using lab = await openLogLab(server(), "idle", relay.port);
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const table = await lab.describe("t");
    const follower = await lab.follow([table], { options: { heartbeatMs: 100, silenceMs: 1000 } });
    await lab.barrier(1);
    await follower.reached(1);
    const opened = relay.opened();
    await delay(3000);
    await lab.barrier(2);
    await follower.reached(2);
    expect(relay.opened()).toBe(opened);
  });

  test("builds the key after an update from both images when the session logs minimal ones", async () => {
    await using lab = await openLogLab(server(), "minimal");
    await lab.root.query(
      "CREATE TABLE t (a INT, b VARCHAR(10) CHARACTER SET latin1, c BINARY(4), v INT, w TEXT, PRIMARY KEY (a, b, c))",
    );
    const follower = await lab.follow([await lab.describe("t", "a")]);
    await lab.root.query("SET SESSION binlog_row_image=MINIMAL");
    await lab.root.query("INSERT INTO t (a,b,c,v) VALUES (1,'x','\\0',1)");
    await lab.root.query(
      "UPDATE t SET v=2 WHERE a=1; UPDATE t SET b='é' WHERE a=1; UPDATE t SET c='ab', w='z'",
    );
    await lab.root.query("DELETE FROM t");
    await lab.barrier(1);
    await follower.reached(1);
    const [x, e, last] = ["1,0x78,0x00000000", "1,0xe9,0x00000000", "1,0xe9,0x61620000"];
    expect(follower.keys("t")).toEqual([x, x, x, e, e, last, last]);
  });

  test("leaves out changes that lie outside the slice before and after, and nothing else", async () => {
    await using lab = await openLogLab(server(), "sliced");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, v INT)");
    const table = await lab.describe("t", "user_id");
    const slice = [{ from: boundAt("5000"), to: MAX }];
    const follower = await lab.follow([table], { slice });
    await lab.root.query("INSERT INTO t VALUES (1,4999,0),(2,5000,0),(3,18446744073709551615,0),(4,0,0)");
    await lab.root.query("UPDATE t SET user_id=5001 WHERE id=1; UPDATE t SET user_id=7 WHERE id=2");
    await lab.root.query(
      "UPDATE t SET v=1; SET SESSION binlog_row_image=MINIMAL; UPDATE t SET v=2 WHERE id=4",
    );
    await lab.barrier(1);
    await follower.reached(1);
    // A shard key that a minimal image does not show is kept.
    expect(follower.keys("t")).toEqual(["2", "3", "1", "2", "1", "3", "4"]);
    expect(follower.batches.reduce((sum, batch) => sum + batch.scanned, 0)).toBeGreaterThanOrEqual(11);
  });

  test("reads through savepoints, rollbacks, LOAD DATA, CREATE SELECT and definitions of other tables", async () => {
    await using lab = await openLogLab(server(), "foreign");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    const follower = await lab.follow([await lab.describe("t")]);
    await lab.root.query(
      "BEGIN; INSERT INTO t VALUES (1,1); SAVEPOINT a; INSERT INTO t VALUES (2,2); ROLLBACK TO a; COMMIT",
    );
    await lab.root.query("BEGIN; INSERT INTO t VALUES (9,9); ROLLBACK");
    await lab.root.query(
      "CREATE TABLE u (id INT PRIMARY KEY, t INT); ALTER TABLE u ADD COLUMN v INT; CREATE INDEX t ON u (t)",
    );
    await lab.root.query(
      "CREATE TABLE s SELECT 5 AS id; INSERT INTO u VALUES (1,1,1); TRUNCATE u; RENAME TABLE u TO w",
    );
    await lab.root.query(
      "CREATE TEMPORARY TABLE tmp (id INT); INSERT INTO tmp VALUES (1); DROP TEMPORARY TABLE tmp",
    );
    await lab.root.query("CREATE VIEW vt AS SELECT * FROM t; DROP VIEW vt; ANALYZE TABLE t; DROP TABLE w, s");
    await lab.root.query(
      "CREATE TABLE my (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO my VALUES (1); DROP TABLE my",
    );
    await lab.root.query(
      "CREATE TRIGGER shardlift_x_i AFTER INSERT ON t FOR EACH ROW SET @x = 1; DROP TRIGGER shardlift_x_i",
    );
    await lab.root.query(
      "CREATE USER u1@localhost; GRANT SELECT ON foreign.t TO u1@localhost; DROP USER u1@localhost".replaceAll(
        "foreign.",
        "`foreign`.",
      ),
    );
    await lab.root.query("CREATE DATABASE IF NOT EXISTS zz; CREATE TABLE zz.t (id INT); DROP DATABASE zz");
    await lab.root.query("INSERT INTO t VALUES (3,3)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(new Set(follower.keys("t"))).toEqual(new Set(["1", "3"]));
    expect(follower.position).toBe(await lab.changeLog().head());
  });

  test("delivers a huge transaction in parts that have no position, and a position at its end", async () => {
    await using lab = await openLogLab(server(), "parts");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)");
    const options = { batch: { keys: 1000, bytes: 8 << 20 } };
    const follower = await lab.follow([await lab.describe("t")], { options });
    await lab.root.query("INSERT INTO t (v) VALUES (1),(2),(3),(4),(5),(6),(7),(8)");
    for (let n = 0; n < 11; n++) await lab.root.query("INSERT INTO t (v) SELECT v FROM t");
    const [[{ n }]] = (await lab.root.query("SELECT COUNT(*) AS n FROM t")) as unknown as [[{ n: string }]];
    await lab.barrier(1);
    await follower.reached(1);
    expect(new Set(follower.keys("t")).size).toBe(Number(n));
    const parts = follower.batches.filter((batch) => batch.position === undefined);
    expect(parts.length).toBeGreaterThan(7);
    for (const { changes } of follower.batches) expect(changes[0]?.keys.length ?? 0).toBeLessThan(3000);
    expect(follower.batches.at(-1)?.position).toBe(await lab.changeLog().head());
  });

  test("reads a row larger than a protocol packet", async () => {
    await using lab = await openLogLab(server(), "huge");
    await lab.root.query("CREATE TABLE t (b LONGBLOB, id INT PRIMARY KEY)");
    const follower = await lab.follow([await lab.describe("t")]);
    await lab.root.query("INSERT INTO t VALUES (REPEAT('x', 20000000), 1)");
    await lab.root.query("INSERT INTO t VALUES ('', 2)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1", "2"]);
  });

  test("stops reading while nobody pulls, and loses nothing", async () => {
    await using lab = await openLogLab(server(), "pressure");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, pad LONGBLOB)");
    const table = await lab.describe("t");
    const log = lab.changeLog({ queueBytes: 1 << 20 });
    const from = await log.head();
    const aborter = new AbortController();
    const batches = log.since(from, { job, tables: [table], slice: wholeSlice }, aborter.signal);
    await lab.root.query("INSERT INTO t (pad) VALUES ('first')");
    await batches.next();
    for (let n = 0; n < 24; n++) await lab.root.query("INSERT INTO t (pad) VALUES (REPEAT('x', 4000000))");
    const before = process.memoryUsage().arrayBuffers;
    await delay(1000);
    // 96 MB are in the log; a queue of one event beyond its bound is what may be here.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(30 << 20);
    const keys: string[] = [];
    while (keys.length < 24) {
      const { value } = await batches.next();
      keys.push(...(value?.changes ?? []).flatMap((change) => change.keys));
    }
    expect(keys.map(Number)).toEqual(Array.from({ length: 24 }, (_, n) => n + 2));
    await batches.return?.(undefined as never);
  });

  test("ends with the signal's reason, also while it waits", async () => {
    await using lab = await openLogLab(server(), "aborted");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const follower = await lab.follow([await lab.describe("t")]);
    await lab.barrier(1);
    await follower.reached(1);
    await follower.stop();
    expect(await follower.failure()).toMatchObject({ message: "the test has ended" });
  });

  test("reads logs that change between checksums and none", async () => {
    await using lab = await openLogLab(server(), "checksums");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
    const follower = await lab.follow([await lab.describe("t")]);
    const from = await follower.log.head();
    await lab.root.query(
      "INSERT INTO t VALUES (1); SET GLOBAL binlog_checksum=NONE; INSERT INTO t VALUES (2)",
    );
    await lab.root.query("SET GLOBAL binlog_checksum=CRC32; INSERT INTO t VALUES (3)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1", "2", "3"]);
    const again = await lab.follow([await lab.describe("t")], { from });
    await again.reached(1);
    expect(again.keys("t")).toEqual(["1", "2", "3"]);
  });

  test("reads tables with generated, invisible and hidden columns", async () => {
    await using lab = await openLogLab(server(), "hidden");
    const extra =
      flavor === "mysql"
        ? "j JSON, KEY ((CAST(a AS CHAR(9)))), KEY m ((CAST(j->'$.x' AS UNSIGNED ARRAY)))"
        : "txt TEXT, UNIQUE KEY (txt)";
    await lab.root.query(
      `CREATE TABLE t (g INT AS (a+1) VIRTUAL, h INT AS (a+2) STORED, a INT, i INT DEFAULT 7 INVISIBLE, id INT PRIMARY KEY, ${extra})`,
    );
    const follower = await lab.follow([await lab.describe("t")]);
    await lab.root.query("INSERT INTO t (a, id) VALUES (1, 41), (NULL, 42)");
    await lab.root.query(
      flavor === "mysql" ? `UPDATE t SET j='{"x":[1,2]}'` : "UPDATE t SET txt='x' WHERE id=41",
    );
    await lab.root.query("UPDATE t SET a=5 WHERE id=41; DELETE FROM t WHERE id=42");
    await lab.barrier(1);
    await follower.reached(1);
    const updated = flavor === "mysql" ? ["41", "42"] : ["41"];
    expect(follower.keys("t")).toEqual(["41", "42", ...updated, "41", "42"]);
  });
});

/** A relay whose open connections can be made silent: they stay open, and nothing arrives. */
async function openFreezer(
  port: number,
): Promise<AsyncDisposable & { readonly port: number; freeze(): void; opened(): number }> {
  const pairs: { client: Socket; upstream: Socket }[] = [];
  const relay = createServer((client) => {
    const upstream = connectSocket(port, "127.0.0.1");
    for (const socket of [client, upstream]) socket.on("error", () => {});
    client.pipe(upstream);
    upstream.pipe(client);
    pairs.push({ client, upstream });
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  return {
    port: (relay.address() as AddressInfo).port,
    opened: () => pairs.length,
    freeze: () => {
      for (const { upstream, client } of pairs) {
        upstream.unpipe(client);
        upstream.pause();
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      await new Promise((resolve) => relay.close(resolve));
    },
  };
}
