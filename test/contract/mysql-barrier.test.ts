import { expect, test } from "vitest";
import type { LogScope } from "../../src/engines/engine.ts";
import { MysqlBarriers } from "../../src/engines/mysql/barriers.ts";
import { query } from "../../src/engines/mysql/query.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import { wholeSlice } from "../../src/model/slice.ts";
import { claimOf, openRunner, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const database = "shop";

describeServers("barriers", (flavor) => {
  const server = useServer(flavor, { databases: [database] });

  /** Follows the log until `done` says so, and gives every barrier that came by. */
  async function follow(
    session: MysqlSession,
    job: string,
    done: (barrier: number) => boolean,
  ): Promise<number[]> {
    const seen: number[] = [];
    const aborter = new AbortController();
    const scope: LogScope = { job, tables: [], slice: wholeSlice };
    for await (const batch of session.log.since(await start(session), scope, aborter.signal)) {
      if (batch.barrier !== undefined) seen.push(batch.barrier);
      if (batch.barrier !== undefined && done(batch.barrier)) break;
    }
    return seen;
  }

  const starts = new WeakMap<MysqlSession, string>();
  async function start(session: MysqlSession): Promise<string> {
    return starts.get(session) ?? (await session.log.head());
  }

  test("grow by one, come back through the log, and go on growing in the next run", async () => {
    await using session = await openRunner(server(), { database, claim: claimOf("grow", 1) });
    starts.set(session, await session.log.head());
    expect((await session.barriers.raise()).n).toBe(1);
    expect((await session.barriers.raise({ table: "t", interval: { from: undefined, to: "5" } })).n).toBe(2);
    expect((await session.barriers.raise()).n).toBe(3);
    const seen = await follow(session, "grow", (barrier) => barrier === 3);
    expect(seen.at(-1)).toBe(3);
    await using next = await openRunner(server(), { database, claim: claimOf("grow", 2) });
    expect((await next.barriers.raise()).n).toBe(4);
  });

  test("are shared by callers that wait together, and never by one that comes while the marker commits", async () => {
    await using session = await openRunner(server(), { database, claim: claimOf("share", 1) });
    await using root = await connect(server(), "root");
    await session.barriers.raise();
    // Holds the marker's row, so that a commit is in flight for certain.
    await root.query("BEGIN");
    await root.query("SELECT * FROM _shardlift.barrier WHERE job = 'share' FOR UPDATE");
    const first = session.barriers.raise();
    await expect
      .poll(async () => {
        const [rows] = await root.query(
          "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO _shardlift.barrier%'",
        );
        return (rows as { n: number }[])[0]?.n;
      })
      .toBe(1);
    const late = Array.from({ length: 50 }, () => session.barriers.raise());
    await root.query("COMMIT");
    expect((await first).n).toBe(2);
    expect(new Set((await Promise.all(late)).map((barrier) => barrier.n))).toEqual(new Set([3]));
  });

  // Out of order: without the wait for GTIDs 4 of 10 barriers lie (facts/pitfalls, "What was run").
  const orders = flavor === "mysql" ? ["ON", "OFF"] : [""];
  test.each(orders)(
    "show a read everything that the log has shown, while writers go on %s",
    async (inOrder) => {
      if (inOrder !== "") await sqlAsRoot(server(), `SET GLOBAL binlog_order_commits = ${inOrder}`);
      await sqlAsRoot(
        server(),
        "CREATE TABLE IF NOT EXISTS writes (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, KEY (k))",
        database,
      );
      await using session = await openRunner(server(), { database, claim: claimOf("visible", 1) });
      const [shape] = await session.catalog.describe([{ name: "writes", shardKey: "k" }]);
      if (shape === undefined) throw new Error("no shape");
      const stop = new AbortController();
      const writers = Array.from({ length: 8 }, async (_, k) => {
        await using app = await connect(server(), "root", { database });
        while (!stop.signal.aborted) await app.query("INSERT INTO writes (k) VALUES (?)", [k]);
      });
      const logged = new Set<string>();
      const scope: LogScope = { job: "visible", tables: [shape], slice: wholeSlice };
      const position = await session.log.head();
      const reading = (async () => {
        for await (const batch of session.log.since(position, scope, stop.signal)) {
          for (const change of batch.changes) for (const key of change.keys) logged.add(key);
        }
      })().catch((error: unknown) => error);
      try {
        for (let round = 0; round < 60; round += 1) {
          const newest = [...logged].slice(-500);
          await session.barriers.raise();
          const visible = await visibleIds(session, newest);
          expect(newest.filter((id) => !visible.has(id))).toEqual([]);
        }
        expect(logged.size).toBeGreaterThan(30);
      } finally {
        stop.abort();
        await Promise.all([...writers, reading]);
        if (inOrder !== "") await sqlAsRoot(server(), "SET GLOBAL binlog_order_commits = ON");
      }
    },
  );

  test.runIf(flavor === "mysql")(
    "wait until the server shows a transaction that the log has shown",
    async () => {
      await using session = await openRunner(server(), { database, claim: claimOf("waits", 1) });
      await using root = await connect(server(), "root");
      const logged = "22222222-2222-2222-2222-222222222222:1";
      const barriers = new MysqlBarriers(session.connector, claimOf("waits", 1), { seenGtids: () => logged });
      let isShown = false;
      const raised = barriers.raise().then(() => isShown);
      await expect
        .poll(async () => {
          const [rows] = await root.query(
            "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE INFO LIKE '%WAIT_FOR_EXECUTED_GTID_SET%' AND ID <> CONNECTION_ID()",
          );
          return (rows as { n: number }[])[0]?.n;
        })
        .toBe(1);
      await root.query(`SET SESSION gtid_next = '${logged}'`);
      await root.query("BEGIN");
      isShown = true;
      await root.query("COMMIT");
      expect(await raised).toBe(true);
    },
  );

  test.runIf(flavor === "mysql")(
    "give up after a bound when the log has shown what the server does not show",
    async () => {
      await using session = await openRunner(server(), { database, claim: claimOf("late", 1) });
      const never = "11111111-1111-1111-1111-111111111111:1-5";
      const barriers = new MysqlBarriers(session.connector, claimOf("late", 1), {
        seenGtids: () => never,
        timeoutMs: 300,
      });
      await expect(barriers.raise()).rejects.toMatchObject({ code: "E_TIMEOUT" });
      // The next one works again.
      const works = new MysqlBarriers(session.connector, claimOf("late", 1), { seenGtids: () => "" });
      expect((await works.raise()).n).toBe(2);
    },
  );

  test("survive the loss of their connection", async () => {
    await using session = await openRunner(server(), { database, claim: claimOf("lost", 1) });
    await session.barriers.raise();
    await using root = await connect(server(), "root");
    const [rows] = await root.query(
      "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = 'shardlift'",
    );
    for (const { id } of rows as { id: number }[]) await root.query(`KILL ${id}`);
    const outcomes = [];
    for (let attempt = 0; attempt < 2; attempt += 1)
      outcomes.push(await session.barriers.raise().catch(() => undefined));
    expect(outcomes.at(-1)?.n).toBeGreaterThanOrEqual(2);
  });
});

async function visibleIds(session: MysqlSession, ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const rows = await session.control.use((connection) =>
    query<{ id: number }>(connection, "SELECT id AS id FROM writes WHERE id IN (?)", [ids]),
  );
  return new Set(rows.map((row) => String(row.id)));
}
