import { connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { expect, test } from "vitest";
import type { KeyId } from "../../src/engines/engine.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { MysqlWriter } from "../../src/engines/mysql/writer.ts";
import { Connector } from "../../src/engines/mysql/connect.ts";
import { boundAt, MAX } from "../../src/model/key.ts";
import { type Slice, wholeSlice } from "../../src/model/slice.ts";
import {
  allKeys,
  barrier,
  claim,
  copyTable,
  everything,
  nobody,
  openRowPath,
  recopyKeys,
  type RowPath,
} from "../support/row-path.ts";
import { connect, describeServers, passwords, useServer } from "../support/servers.ts";

const account = { user: "shardlift", password: passwords.shardlift };
const slice: Slice = [{ from: boundAt("500"), to: MAX }];

describeServers("the row path stops instead of losing a row", (flavor) => {
  const source = useServer(flavor);
  const target = useServer(flavor);
  const open = async (database: string): Promise<RowPath> =>
    openRowPath({ source: source(), target: target() }, database, account);

  const orders = async (path: RowPath): Promise<MysqlTable> => {
    await path.both("CREATE TABLE orders (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(20))");
    return await path.source.describe("orders", "k");
  };

  test("a primary key that a row outside the slice holds stops load and recopy, with the key named", async () => {
    await using path = await open("collision");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'moved'),(2,700,'moved')");
    await path.target.root.query("INSERT INTO orders VALUES (2,3,'theirs')");
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({
      code: "E_KEY_COLLISION",
      message: expect.stringMatching(/orders at shard s1.*id=2.*id=2 outside the moved slice \(k=3\)/),
    });
    for (const mayReplace of [false, true]) {
      await expect(recopyKeys(path, table, slice, ["1", "2"], { mayReplace })).rejects.toMatchObject({
        code: "E_KEY_COLLISION",
      });
    }
    expect(await rowsOf(path, "orders")).toEqual(["2,3,theirs"]);
    const [chunks] = await path.target.root.query("SELECT * FROM _shardlift.chunk WHERE tbl = 'orders'");
    expect(chunks).toEqual([]);
  });

  test("a chunk whose rows are there already is refused", async () => {
    await using path = await open("twice");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a')");
    await copyTable(path, table, slice, 10);
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({
      code: "E_COMMIT_UNKNOWN",
      message: expect.stringContaining("is loaded already"),
      retryable: true,
    });
    // Without its progress nobody can say whose they are.
    await path.target.root.query("DELETE FROM _shardlift.chunk");
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({
      code: "E_KEY_COLLISION",
      message: expect.stringContaining("in the slice itself"),
    });
  });

  test("a recopy deletes what has left the slice, and never a row outside it", async () => {
    await using path = await open("leaving");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a'),(2,600,'b'),(3,600,'c'),(4,100,'d')");
    await path.target.root.query("INSERT INTO orders VALUES (4,7,'theirs'),(9,8,'theirs')");
    await copyTable(path, table, slice, 10);
    await path.source.root.query("DELETE FROM orders WHERE id=1; UPDATE orders SET k=1 WHERE id=2");
    await path.source.root.query("UPDATE orders SET v='c2' WHERE id=3; UPDATE orders SET v='d2' WHERE id=4");
    for (const mayReplace of [true, false]) {
      await recopyKeys(path, table, slice, ["1", "2", "3", "4", "9", "77"], { mayReplace });
      expect(await rowsOf(path, "orders")).toEqual(["3,600,c2", "4,7,theirs", "9,8,theirs"]);
    }
  });

  test("REPLACE is used where the key says which slice a row is in, and counts rightly", async () => {
    await using path = await open("replace");
    await path.both("CREATE TABLE t (k INT NOT NULL, id INT NOT NULL, v VARCHAR(20), PRIMARY KEY (k, id))");
    const table = await path.source.describe("t", "k");
    await path.source.root.query("INSERT INTO t VALUES (600,1,'a'),(600,2,'b'),(600,3,'c')");
    await path.target.root.query("INSERT INTO t VALUES (1,1,'theirs')");
    await copyTable(path, table, slice, 10);
    await path.source.root.query("UPDATE t SET v='new' WHERE id=2; DELETE FROM t WHERE id=3");
    await path.source.root.query("INSERT INTO t VALUES (700,4,'in'),(2,5,'out')");
    const keys = ["600,1", "600,2", "600,3", "700,4", "2,5", "1,1"];
    await recopyKeys(path, table, slice, keys, { mayReplace: true });
    expect(await rowsOf(path, "t")).toEqual(["1,1,theirs", "600,1,a", "600,2,new", "700,4,in"]);
  });

  const people = async (path: RowPath): Promise<MysqlTable> => {
    await path.both(
      "CREATE TABLE people (id INT PRIMARY KEY, k INT NOT NULL, email VARCHAR(40) COLLATE utf8mb4_general_ci NULL, a INT, b INT, e ENUM('a','b'), low VARCHAR(40) AS (LOWER(email)) STORED, UNIQUE KEY by_email (email), UNIQUE KEY by_ab (a, b), UNIQUE KEY by_low (low, k))",
    );
    return await path.source.describe("people", "k");
  };
  const put = "INSERT INTO people (id, k, email, a, b) VALUES";

  test("a swap of unique values makes the stale row of the same move give way, and marks it dirty before the commit", async () => {
    await using path = await open("swap");
    const table = await people(path);
    await path.source.root.query(
      `${put} (1,600,'x@a',1,1),(2,600,'y@a',1,2),(3,600,NULL,NULL,1),(4,600,NULL,NULL,1)`,
    );
    // The error value of an ENUM passes through the temporary table as well.
    await path.source.root.query(
      "SET SESSION sql_mode=''; UPDATE IGNORE people SET e='none' WHERE id IN (1,2)",
    );
    await copyTable(path, table, slice, 10);
    await path.source.root.query(
      "UPDATE people SET email=NULL WHERE id=1; UPDATE people SET email='X@A' WHERE id=2; UPDATE people SET email='y@a' WHERE id=1",
    );
    const seen: KeyId[] = [];
    await using look = await connect(target(), "root", { database: "swap" });
    const displaced = async (keys: readonly KeyId[]): Promise<void> => {
      seen.push(...keys);
      // Not committed yet: whoever crashes here finds the old row.
      const [rows] = await look.query("SELECT id FROM people WHERE id=1");
      expect(rows).toHaveLength(1);
    };
    await recopyKeys(path, table, slice, ["2"], { displaced });
    expect(seen).toEqual(["1"]);
    expect(await rowsOf(path, "people", "id,email,e+0")).toEqual(["2,X@A,0", "3,,", "4,,"]);
    await recopyKeys(path, table, slice, ["1"]);
    expect(await path.target.digests.of(table, wholeSlice, everything)).toEqual(
      await path.source.digests.of(table, slice, everything),
    );
  });

  test("a chunk that meets a recopied row in a unique key displaces it too", async () => {
    await using path = await open("late");
    const table = await people(path);
    await path.source.root.query(`${put} (1,600,'x@a',1,1)`);
    await path.target.root.query(`${put} (2,600,'X@a',5,1)`);
    const displaced: KeyId[] = [];
    const rows = path.source.reader.rowsIn(table, slice, everything, barrier);
    await path.target.writer.load(
      {
        shape: table,
        slice,
        source: "s0",
        interval: everything,
        displaced: async (keys) => {
          displaced.push(...keys);
        },
      },
      rows,
    );
    expect(displaced).toEqual(["2"]);
    expect(rows.rowCount()).toBe(1);
    const [chunks] = await path.target.root.query(
      "SELECT row_count FROM _shardlift.chunk WHERE tbl='people'",
    );
    expect(chunks).toEqual([{ row_count: "1" }]);
  });

  test.each([
    ["a value", "(7,1,'x@A',9,9)", "by_email"],
    ["several columns", "(7,1,'z@a',1,1)", "by_ab"],
  ])(
    "a unique key of %s that a row outside the slice holds stops the job with both keys named",
    async (_, row, key) => {
      await using path = await open("unique");
      const table = await people(path);
      await path.source.root.query(`${put} (1,600,'x@a',1,1)`);
      await path.target.root.query(`${put} ${row}`);
      const failure = {
        code: "E_UNIQUE_COLLISION",
        message: expect.stringMatching(new RegExp(`id=1 .*id=7 .*${key}`)),
      };
      await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject(failure);
      await expect(recopyKeys(path, table, slice, ["1"])).rejects.toMatchObject(failure);
      expect(await rowsOf(path, "people", "id")).toEqual(["7"]);
    },
  );

  test("unique keys on prefixes and of partitioned tables are settled as well", async () => {
    await using path = await open("prefix");
    await path.both(
      "CREATE TABLE p (id INT NOT NULL, k INT NOT NULL, t VARCHAR(50), b BLOB, PRIMARY KEY (id, k), UNIQUE KEY by_t (t(3), k), UNIQUE KEY by_b (b(2), k)) PARTITION BY HASH (k) PARTITIONS 3",
    );
    const table = await path.source.describe("p", "k");
    await path.source.root.query("INSERT INTO p VALUES (1,600,'abcx',X'0102'),(2,600,'abdx',X'0103')");
    await copyTable(path, table, slice, 10);
    await path.source.root.query(
      "UPDATE p SET t='zzz', b=X'0909' WHERE id=1; UPDATE p SET t='ABCnew', b=X'0102ff' WHERE id=2",
    );
    const displaced: KeyId[] = [];
    await recopyKeys(path, table, slice, ["2,600"], {
      displaced: async (keys) => {
        displaced.push(...keys);
      },
    });
    expect(displaced).toEqual(["1,600"]);
    expect(await rowsOf(path, "p", "id,t")).toEqual(["2,ABCnew"]);
  });

  test("a conflict in a unique key that can not be joined on stops the job, and other conflicts are still settled", async () => {
    await using path = await open("blind");
    await path.both(
      "CREATE TABLE g (id INT NOT NULL, k INT NOT NULL, a INT, v VARCHAR(9), low VARCHAR(9) AS (LOWER(v)) STORED, PRIMARY KEY (id, k), UNIQUE KEY by_a (a, k), UNIQUE KEY by_low (low, k)) PARTITION BY HASH (k) PARTITIONS 2",
    );
    const table = await path.source.describe("g", "k");
    await path.source.root.query("INSERT INTO g (id, k, a, v) VALUES (1,600,1,'x'),(2,600,2,'y')");
    await copyTable(path, table, slice, 10);
    await path.source.root.query("UPDATE g SET a=NULL WHERE id=1; UPDATE g SET a=1 WHERE id=2");
    const displaced: KeyId[] = [];
    const note = async (keys: readonly KeyId[]): Promise<void> => {
      displaced.push(...keys);
    };
    await recopyKeys(path, table, slice, ["2,600"], { displaced: note });
    expect(displaced).toEqual(["1,600"]);
    await recopyKeys(path, table, slice, ["1,600"]);
    await path.source.root.query("UPDATE g SET v='z' WHERE id=1; UPDATE g SET v='X' WHERE id=2");
    await expect(recopyKeys(path, table, slice, ["2,600"])).rejects.toMatchObject({
      code: "E_UNIQUE_COLLISION",
      message: expect.stringContaining("by_low"),
    });
    expect(await rowsOf(path, "g", "id,v")).toEqual(["1,x", "2,y"]);
  });

  test("rows that the target would change are refused, and nothing is written", async () => {
    await using path = await open("refused");
    const table = await orders(path);
    await path.target.root.query("ALTER TABLE orders MODIFY v VARCHAR(3)");
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'abc'),(2,600,'abcd')");
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({
      code: "E_ROWS_REFUSED",
      message: expect.stringMatching(/2 rows sent, 2 read, 0 skipped, 1 warnings: .*'v'/),
    });
    expect(await rowsOf(path, "orders")).toEqual([]);
  });

  test("rows that the source holds apart and the target does not are refused", async () => {
    await using path = await open("apart");
    await path.both("CREATE TABLE c (id VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY, k INT NOT NULL)");
    const table = await path.source.describe("c", "k");
    await path.target.root.query("ALTER TABLE c MODIFY id VARCHAR(9) COLLATE utf8mb4_general_ci");
    await path.source.root.query("INSERT INTO c VALUES ('a',600),('A',600)");
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({
      code: "E_ROWS_REFUSED",
      message: expect.stringContaining("collide"),
    });
    expect(await rowsOf(path, "c")).toEqual([]);
  });

  test("a runner that lost its token writes nothing", async () => {
    await using path = await open("token");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a')");
    await path.target.root.query(
      `UPDATE _shardlift.lease SET token=${claim.token + 1} WHERE job='${claim.job}'`,
    );
    await expect(copyTable(path, table, slice, 10)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    await expect(recopyKeys(path, table, slice, ["1"])).rejects.toMatchObject({ code: "E_JOB_HELD" });
    expect(await rowsOf(path, "orders")).toEqual([]);
  });

  test("a deadlock or a lock timeout runs the whole transaction again, with the rows read anew", async () => {
    await using path = await open("busy");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a'),(2,600,'b')");
    await copyTable(path, table, slice, 10);
    await path.source.root.query("UPDATE orders SET v='newer'");
    await using other = await connect(target(), "root", { database: "busy" });
    await other.query("BEGIN");
    await other.query("SELECT * FROM orders WHERE id=2 FOR UPDATE");
    const recopied = recopyKeys(path, table, slice, ["1", "2"]);
    // Once ours waits for row 2 it holds row 1: asking for that one makes the deadlock, and one of both is the victim.
    await waitUntil(async () => (await lockWaits(path)) > 0);
    const victim = await other.query("UPDATE orders SET v='theirs' WHERE id=1").then(
      () => "ours",
      () => "other",
    );
    if (victim === "ours") await path.source.root.query("UPDATE orders SET v='newest'");
    await other.query("ROLLBACK");
    await recopied;
    const value = victim === "ours" ? "newest" : "newer";
    expect(await rowsOf(path, "orders")).toEqual([`1,600,${value}`, `2,600,${value}`]);
  });

  test("a connection that dies in the middle of a read is an error, never a short success", async () => {
    await using path = await open("killed");
    await path.both("CREATE TABLE orders (id INT PRIMARY KEY, k INT NOT NULL, v BLOB)");
    const table = await path.source.describe("orders", "k");
    // More than both sockets can hold.
    await path.source.root.query(
      "INSERT INTO orders WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<800) SELECT n,600,REPEAT('x',60000) FROM s",
    );
    const rows = path.source.reader.rowsIn(table, slice, everything, barrier);
    const reading = (async () => {
      for await (const block of rows.blocks) {
        expect(block.length).toBeGreaterThan(0);
        await killReaders(path);
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: "E_CONNECT", retryable: true });
    expect(rows.rowCount()).toBeLessThan(800);

    // The same below a load that waits for a lock: the target keeps nothing, and the caller may try again.
    await using other = await connect(target(), "root", { database: "killed" });
    await other.query("BEGIN");
    await other.query("INSERT INTO orders VALUES (1,600,'in the way')");
    const load = path.target.writer.load(
      { shape: table, slice, source: "s0", interval: everything, displaced: nobody },
      path.source.reader.rowsIn(table, slice, everything, barrier),
    );
    const outcome = failureOf(load);
    await waitUntil(async () => (await lockWaits(path)) > 0);
    expect(await killReaders(path)).toBe(1);
    await other.query("ROLLBACK");
    expect(await outcome).toMatchObject({ code: "E_CONNECT", retryable: true });
    expect(await rowsOf(path, "orders")).toEqual([]);
    await copyTable(path, table, slice, 100_000);
    expect((await allKeys(path.target, table)).length).toBe(800);
  });

  test("a target connection that dies in a load is retryable and leaves nothing", async () => {
    await using path = await open("cut");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a'),(2,600,'b')");
    await using other = await connect(target(), "root", { database: "cut" });
    await other.query("BEGIN");
    await other.query("INSERT INTO orders VALUES (2,600,'in the way')");
    const loaded = copyTable(path, table, slice, 10);
    const outcome = failureOf(loaded);
    await waitUntil(async () => (await lockWaits(path)) > 0);
    expect(await killWriters(path)).toBe(1);
    expect(await outcome).toMatchObject({ code: "E_CONNECT", retryable: true });
    await other.query("ROLLBACK");
    expect(await rowsOf(path, "orders")).toEqual([]);
    await copyTable(path, table, slice, 10);
    expect(await rowsOf(path, "orders")).toEqual(["1,600,a", "2,600,b"]);
  });

  test("a lost answer to a commit is told apart, since the rows may be there", async () => {
    await using path = await open("commit");
    const table = await orders(path);
    await path.source.root.query("INSERT INTO orders VALUES (1,600,'a')");
    await using relay = await startRelay(target().port);
    const controller = new AbortController();
    const connector = await Connector.open(
      { shard: "s1", hosts: [{ host: "127.0.0.1", port: relay.port }], ...account, database: "commit" },
      { signal: controller.signal, claim },
    );
    const writer = new MysqlWriter(connector, claim);
    relay.cutAfter("COMMIT");
    const request = { shape: table, slice, source: "s0", interval: everything, displaced: nobody };
    await expect(
      writer.load(request, path.source.reader.rowsIn(table, slice, everything, barrier)),
    ).rejects.toMatchObject({ code: "E_COMMIT_UNKNOWN", retryable: true });
    await waitUntil(async () => (await rowsOf(path, "orders")).length > 0);
    const [chunks] = await path.target.root.query(
      "SELECT row_count FROM _shardlift.chunk WHERE tbl='orders'",
    );
    expect(chunks).toEqual([{ row_count: "1" }]);
    await connector.closeAll();
    controller.abort();
  });
});

// ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function rowsOf(path: RowPath, table: string, columns = "*"): Promise<string[]> {
  const sql = `SELECT ${columns} FROM ${table} ORDER BY ${table === "t" ? "k, id" : "id"}`;
  const [rows] = await path.target.root.query({ sql, rowsAsArray: true });
  return (rows as unknown[][]).map((row) => row.join(","));
}

/** Awaited later: the promise has a listener from now on. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function waitUntil(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error("the condition did not come true within a minute");
    // InnoDB keeps INNODB_TRX as it was while it is read more often than every 100 ms.
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
}

async function lockWaits(path: RowPath): Promise<number> {
  const sql = "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'";
  const [rows] = await path.target.root.query({ sql, rowsAsArray: true });
  return Number((rows as unknown[][])[0]?.[0]);
}

const killReaders = async (path: RowPath): Promise<number> =>
  killWhere(path.source.root, "INFO LIKE 'SELECT%FORCE INDEX%'");
const killWriters = async (path: RowPath): Promise<number> =>
  killWhere(path.target.root, "INFO LIKE 'LOAD DATA%'");

/** Ends connections of the tool by what they are doing; returns how many. */
async function killWhere(root: RowPath["source"]["root"], what: string): Promise<number> {
  const sql = `SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '${account.user}' AND ${what}`;
  const [rows] = await root.query({ sql, rowsAsArray: true });
  for (const [id] of rows as unknown[][]) await root.query(`KILL ${String(id)}`).catch(() => undefined);
  return (rows as unknown[][]).length;
}

interface Relay extends AsyncDisposable {
  readonly port: number;
  /** Passes on the next statement that ends with the word, and never its answer. */
  cutAfter(word: string): void;
}

async function startRelay(port: number): Promise<Relay> {
  let word: string | undefined;
  const sockets = new Set<Socket>();
  const server: Server = createServer((client) => {
    const upstream = connectSocket(port, "127.0.0.1");
    let cut = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        client.destroy();
        upstream.end();
      });
    }
    client.on("data", (data) => {
      cut ||= word !== undefined && data.toString("latin1").endsWith(word);
      upstream.write(data);
    });
    upstream.on("data", (data) => {
      if (cut) client.destroy();
      else client.write(data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the relay has no port");
  return {
    port: address.port,
    cutAfter: (text) => {
      word = text;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
