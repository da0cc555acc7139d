import { expect, test } from "vitest";
import type { TableShape } from "../../src/engines/engine.ts";
import { assertClaim, recordChunkRows, reserveChunk } from "../../src/engines/mysql/claim-guard.ts";
import { execute, query } from "../../src/engines/mysql/query.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import { wholeSlice, type Slice } from "../../src/model/slice.ts";
import { claimOf, openRunner, openSession, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const database = "shop";

async function shapeOf(session: MysqlSession, name: string, shardKey = "k"): Promise<TableShape> {
  const [shape] = await session.catalog.describe([{ name, shardKey }]);
  if (shape === undefined) throw new Error(`no shape of ${name}`);
  return shape;
}

describeServers("the ledger", (flavor) => {
  const server = useServer(flavor, { databases: [database] });

  test("leaves nothing at a server where nothing was installed, and reads as empty there", async () => {
    await using session = await openSession(server(), { database, claim: claimOf("none", 1) });
    expect(await session.ledger.claims()).toEqual([]);
    expect(await session.ledger.checkpoint("s0")).toBeUndefined();
    expect(await session.ledger.loadedChunks("s0")).toEqual([]);
    expect(await session.ledger.leftovers()).toEqual([]);
    await session.ledger.uninstall();
    expect(await session.ledger.leftovers()).toEqual([]);
  });

  test("keeps checkpoints and chunks by job and source until the job is uninstalled", async () => {
    await using first = await openRunner(server(), { database, claim: claimOf("keep-1", 1) });
    await using second = await openRunner(server(), { database, claim: claimOf("keep-2", 1) });
    await first.ledger.install();
    await first.ledger.saveCheckpoint("s0", "uuid:1-5", "server-a");
    await first.ledger.saveCheckpoint("s0", "uuid:1-9", "server-a");
    await first.ledger.saveCheckpoint("s9", "0-1-2", "server-b");
    await first.control.use(async (connection) => {
      const claim = claimOf("keep-1", 1);
      const left = { source: "s0", table: "t", interval: { from: undefined, to: "5" } };
      const right = { source: "s0", table: "t", interval: { from: "5", to: undefined } };
      for (const [chunk, rows] of [
        [left, 3],
        [right, 0],
      ] as const) {
        await reserveChunk(connection, claim, chunk);
        await recordChunkRows(connection, claim, chunk, rows);
      }
      await expect(reserveChunk(connection, claim, left)).rejects.toMatchObject({
        code: "E_COMMIT_UNKNOWN",
        retryable: true,
      });
      const longer = { ...left, interval: { from: undefined, to: "6" } };
      await expect(reserveChunk(connection, claim, longer)).rejects.toMatchObject({
        code: "E_COMMIT_UNKNOWN",
        retryable: false,
      });
    });
    const saved = await first.ledger.checkpoint("s0");
    expect(saved).toMatchObject({ position: "uuid:1-9", sourceServer: "server-a" });
    expect(Math.abs(Date.parse(saved?.savedAt ?? "") - Date.now())).toBeLessThan(60_000);
    expect(await first.ledger.checkpoint("s9")).toMatchObject({ position: "0-1-2" });
    expect(await first.ledger.loadedChunks("s0")).toEqual([
      { table: "t", interval: { from: undefined, to: "5" }, rows: 3 },
      { table: "t", interval: { from: "5", to: undefined }, rows: 0 },
    ]);
    expect(await second.ledger.checkpoint("s0")).toBeUndefined();

    await first.ledger.uninstall();
    expect(await second.ledger.claims()).toEqual([claimOf("keep-2", 1)]);
    expect(await second.ledger.leftovers()).toContain("1 rows of job keep-2 in _shardlift.lease");
    await second.ledger.uninstall();
    expect(await second.ledger.leftovers()).toEqual([]);
  });

  test("refuses an older token, another control store, and every later write of an overtaken runner", async () => {
    await using old = await openRunner(server(), { database, claim: claimOf("tokens", 3) });
    await using taker = await openRunner(server(), { database, claim: claimOf("tokens", 7) });
    await taker.ledger.claim();
    await expect(openRunner(server(), { database, claim: claimOf("tokens", 5) })).rejects.toMatchObject({
      code: "E_JOB_HELD",
    });
    await expect(
      openRunner(server(), { database, claim: claimOf("tokens", 9, "store-2") }),
    ).rejects.toMatchObject({
      code: "E_JOB_HELD",
      message: expect.stringContaining("store-1"),
    });
    await expect(old.ledger.saveCheckpoint("s0", "p", "id")).rejects.toMatchObject({ code: "E_JOB_HELD" });
    await taker.ledger.saveCheckpoint("s0", "p", "id");
    expect(await taker.ledger.claims()).toContainEqual(claimOf("tokens", 7));
    await taker.ledger.uninstall();
  });

  test("ends the old runner's connections at a takeover, also one that is frozen inside a transaction or a DDL wait", async () => {
    await sqlAsRoot(
      server(),
      "CREATE TABLE busy (id INT PRIMARY KEY, k INT NOT NULL, KEY (k)); INSERT INTO busy VALUES (1, 1)",
      database,
    );
    await using stranger = await openRunner(server(), { database, claim: claimOf("stranger", 1) });
    await using old = await openRunner(server(), { database, claim: claimOf("frozen", 1) });
    // In a transaction under its claim, as a recopy would be.
    const writing = await old.connector.connect("write");
    await execute(writing, "BEGIN");
    await assertClaim(writing, claimOf("frozen", 1));
    await execute(writing, "UPDATE busy SET k = 2 WHERE id = 1");
    // Waiting for a metadata lock in a DDL statement, which can not carry a token.
    await using reader = await connect(server(), "root", { database });
    await reader.query("BEGIN");
    await reader.query("SELECT * FROM busy");
    const ddl = await old.connector.connect("control");
    const altered = execute(ddl, "ALTER TABLE busy ADD COLUMN late INT").then(
      () => "altered",
      () => "ended",
    );
    await using taker = await openRunner(server(), { database, claim: claimOf("frozen", 2) });
    expect(await altered).toBe("ended");
    await reader.query("COMMIT");
    await expect(execute(writing, "COMMIT")).rejects.toThrow(/closed|lost|killed/i);
    const rows = await taker.control.use((connection) => query(connection, "SELECT k AS k FROM busy"));
    expect(rows).toEqual([{ k: 1 }]);
    // Nobody else's connections.
    await stranger.ledger.saveCheckpoint("s0", "p", "id");
    await taker.ledger.uninstall();
    await stranger.ledger.uninstall();
  });

  test("ends the connections of every earlier runner, also when the last one died in its own takeover", async () => {
    await sqlAsRoot(
      server(),
      "CREATE TABLE chain (id INT PRIMARY KEY, k INT NOT NULL, KEY (k)); INSERT INTO chain VALUES (1, 1)",
      database,
    );
    await using five = await openRunner(server(), { database, claim: claimOf("chain", 5) });
    await using reader = await connect(server(), "root", { database });
    await reader.query("BEGIN");
    await reader.query("SELECT * FROM chain");
    const ddl = await five.connector.connect("control");
    const altered = execute(ddl, "ALTER TABLE chain ADD COLUMN late INT").then(
      () => "altered",
      () => "ended",
    );
    const idle = await five.connector.connect("control");
    // Runner 6 has written its token and died before it ended a connection.
    await sqlAsRoot(server(), "UPDATE _shardlift.lease SET token = 6 WHERE job = 'chain'");
    await using seven = await openRunner(server(), { database, claim: claimOf("chain", 7) });
    expect(await altered).toBe("ended");
    await expect(query(idle, "SELECT 1 AS one")).rejects.toMatchObject({ code: "E_CONNECT" });
    await reader.query("COMMIT");
    // Asleep until now: a connection that nobody could have ended is not given.
    await expect(five.connector.connect("control")).rejects.toMatchObject({ code: "E_JOB_HELD" });
    // None of them is looked for ever again.
    const known = await seven.control.use((connection) =>
      query(connection, "SELECT CAST(token AS CHAR) AS token FROM _shardlift.runner WHERE job = 'chain'"),
    );
    expect(known).toEqual([{ token: "7" }]);
    await seven.ledger.uninstall();
  });

  test("deletes the slice in pieces and nothing else, under the claim", async () => {
    await sqlAsRoot(
      server(),
      `CREATE TABLE pieces (a INT NOT NULL, b VARCHAR(20) NOT NULL, k INT NOT NULL, PRIMARY KEY (a, b));
       INSERT INTO pieces WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i % 7, CONCAT('key ', i), i FROM n;
       INSERT INTO pieces SELECT a + 10, b, k + 900 FROM pieces; INSERT INTO pieces SELECT a + 20, b, k + 1800 FROM pieces`,
      database,
    );
    await using session = await openRunner(server(), { database, claim: claimOf("pieces", 1) });
    const shape = await shapeOf(session, "pieces");
    const slice: Slice = [
      { from: MIN, to: boundAt("100") },
      { from: boundAt("500"), to: MAX },
    ];
    const deleted = await session.ledger.deleteSlice(shape, slice, new AbortController().signal);
    expect(deleted).toBe(3600 - 400);
    expect(await session.catalog.countRows(shape, wholeSlice, 10_000)).toBe(400);
    expect(await session.catalog.countRows(shape, slice, 10_000)).toBe(0);
    await using taker = await openRunner(server(), { database, claim: claimOf("pieces", 2) });
    await expect(
      session.ledger.deleteSlice(shape, wholeSlice, new AbortController().signal),
    ).rejects.toMatchObject({ code: "E_JOB_HELD" });
    expect(await taker.catalog.countRows(shape, wholeSlice, 10_000)).toBe(400);
    await taker.ledger.uninstall();
  });

  test("drops a table that the job has made once it is empty, and no other", async () => {
    await sqlAsRoot(
      server(),
      "CREATE TABLE theirs (id INT PRIMARY KEY, k INT NOT NULL, KEY (k)); CREATE DATABASE IF NOT EXISTS elsewhere",
      database,
    );
    await using source = await openSession(server(), { database });
    await using session = await openRunner(server(), { database: "elsewhere", claim: claimOf("drops", 1) });
    const shape = await shapeOf(source, "theirs");
    await session.catalog.create(shape, { deferIndexes: false });
    await sqlAsRoot(server(), "INSERT INTO theirs VALUES (1, 1)", "elsewhere");
    await expect(session.ledger.dropCreated(shape, [])).rejects.toThrow(/holds rows/);
    expect(await session.ledger.deleteSlice(shape, wholeSlice, new AbortController().signal)).toBe(1);
    await session.ledger.dropCreated(shape, wholeSlice);
    await session.ledger.dropCreated(shape, wholeSlice);
    expect(await session.catalog.existing(["theirs"])).toEqual(new Set());
    await sqlAsRoot(server(), "CREATE TABLE theirs (id INT PRIMARY KEY, k INT NOT NULL)", "elsewhere");
    await session.ledger.dropCreated(shape, wholeSlice);
    expect(await session.catalog.existing(["theirs"])).toEqual(new Set(["theirs"]));
    await session.ledger.uninstall();
  });

  test("two runners that claim at once leave one holder", async () => {
    const tokens = [11, 12, 13, 14];
    const results = await Promise.allSettled(
      tokens.map((token) => openRunner(server(), { database, claim: claimOf("race", token) })),
    );
    const sessions = results.filter((result) => result.status === "fulfilled").map((result) => result.value);
    for (const result of results)
      if (result.status === "rejected")
        expect(String(result.reason)).toMatch(/taken over|closed|lost|killed/i);
    await using last = await openSession(server(), { database, claim: claimOf("race", 14) });
    expect(await last.ledger.claims()).toContainEqual(claimOf("race", 14));
    const alive = await Promise.allSettled(
      sessions.map((session) => session.ledger.saveCheckpoint("s0", "p", "id")),
    );
    expect(alive.filter((result) => result.status === "fulfilled").length).toBeLessThanOrEqual(1);
    await last.ledger.claim();
    await last.ledger.uninstall();
    await Promise.all(sessions.map((session) => session[Symbol.asyncDispose]()));
  });

  test("stops at an abort with its reason and closes every connection", async () => {
    const aborter = new AbortController();
    const session = await openSession(server(), {
      database,
      signal: aborter.signal,
      claim: claimOf("abort", 1),
    });
    const asleep = session.control.use((connection) => query(connection, "SELECT SLEEP(30) AS slept"));
    const outcome = asleep.catch((error: unknown) => error);
    const reason = new Error("the operator's interrupt");
    setTimeout(() => aborter.abort(reason), 100);
    expect(await outcome).toMatchObject({ cause: reason });
    await expect(session.ledger.claims()).rejects.toBe(reason);
    await session[Symbol.asyncDispose]();
    await using root = await connect(server(), "root");
    await expect
      .poll(
        async () => {
          const [rows] = await root.query(
            "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE USER = 'shardlift' AND COMMAND <> 'Query'",
          );
          return (rows as { n: number }[])[0]?.n;
        },
        { timeout: 20_000 },
      )
      .toBe(0);
  });
});
