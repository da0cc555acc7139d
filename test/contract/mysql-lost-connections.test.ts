import { expect, test } from "vitest";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import { assertClaim } from "../../src/engines/mysql/claim-guard.ts";
import { execute } from "../../src/engines/mysql/query.ts";
import { wholeSlice } from "../../src/model/slice.ts";
import { claimOf, openRunner, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const database = "shop";
const everything = { from: undefined, to: undefined };

describeServers("a session whose connections are lost", (flavor) => {
  const server = useServer(flavor, { databases: [database] });

  async function openShop(job: string): Promise<MysqlSession> {
    await sqlAsRoot(
      server(),
      "CREATE TABLE IF NOT EXISTS orders (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, KEY (k)); REPLACE INTO orders VALUES (1, 1), (2, 2), (3, 3)",
      database,
    );
    return openRunner(server(), { database, claim: claimOf(job, 1) });
  }

  /** Ends every connection of the tool; returns how many there were. */
  async function killAll(): Promise<number> {
    await using root = await connect(server(), "root");
    const [rows] = await root.query(
      "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = 'shardlift'",
    );
    for (const { id } of rows as { id: number }[]) await root.query(`KILL ${id}`).catch(() => {});
    return (rows as unknown[]).length;
  }

  test("serves every role again after all of them were killed while idle", async () => {
    await using session = await openShop("killed");
    const [shape] = await session.catalog.describe([{ name: "orders", shardKey: "k" }]);
    if (shape === undefined) throw new Error("no shape");
    const { catalog, reader, digests, ledger, barriers, gates, log } = session;
    const last = await barriers.raise();
    let raised = last.n;
    const roles: Readonly<Record<string, () => Promise<unknown>>> = {
      barriers: async () => (raised = (await barriers.raise()).n),
      "digests of": () => digests.of(shape, wholeSlice, everything),
      "digests buckets": () => digests.buckets(shape, wholeSlice, everything, 2),
      "digests listed": () => digests.listed(shape, wholeSlice, everything, 1, [0]),
      "digests at": () => digests.at(shape, wholeSlice, ["1"]),
      boundary: () => reader.boundary(shape, wholeSlice, undefined, 2),
      below: () => reader.below(shape, ["1", "3"], "2"),
      extent: () => reader.extent(shape),
      saveCheckpoint: () => ledger.saveCheckpoint("s9", "p", "id"),
      checkpoint: () => ledger.checkpoint("s9"),
      loadedChunks: () => ledger.loadedChunks("s9"),
      claims: () => ledger.claims(),
      leftovers: () => ledger.leftovers(),
      pressure: () => session.pressure(),
      "gate state": () => gates.state("killed"),
      oldestTransactionMs: () => gates.oldestTransactionMs([shape]),
      countRows: () => catalog.countRows(shape, wholeSlice, 10),
      countOutside: () => catalog.countOutside(shape, wholeSlice, 10),
      existing: () => catalog.existing(["orders"]),
      describe: () => catalog.describe([{ name: "orders", shardKey: "k" }]),
      autoIncrement: () => catalog.autoIncrement(shape),
      splitPoints: () => catalog.splitPoints(shape, wholeSlice, 1),
      head: () => log.head(),
    };
    for (const [name, use] of Object.entries(roles)) {
      await use();
      await killAll();
      await expect(use(), name).resolves.not.toThrow();
    }
    expect(raised).toBeGreaterThan(last.n);
    expect(await ledger.checkpoint("s9")).toMatchObject({ position: "p" });
    await ledger.uninstall();
  });

  test("says E_CONNECT, to be tried again, where a statement is not repeated", async () => {
    await using session = await openShop("said");
    const connection = await session.connector.connect("control");
    await killAll();
    await expect(execute(connection, "DO 1")).rejects.toMatchObject({ code: "E_CONNECT", retryable: true });
    await expect(assertClaim(connection, claimOf("said", 1))).rejects.toMatchObject({
      code: "E_CONNECT",
      retryable: true,
    });
    // A pool's own use is not repeated either, and leaves the pool sound.
    const lost = session.control.use(async (lent) => {
      await killAll();
      await execute(lent, "DO 1");
    });
    await expect(lost).rejects.toMatchObject({ code: "E_CONNECT", retryable: true });
    await session.control.use((idle) => execute(idle, "DO 1"));
    await session.ledger.uninstall();
  });

  test("goes on raising barriers, hashing and saving through a restart of the server", async () => {
    await using session = await openShop("restart");
    const [shape] = await session.catalog.describe([{ name: "orders", shardKey: "k" }]);
    if (shape === undefined) throw new Error("no shape");
    const before = await session.digests.of(shape, wholeSlice, everything);
    const restarted = new AbortController();
    const rounds = { barriers: 0, digests: 0, checkpoints: 0, pressure: 0 };
    const loop = async (name: keyof typeof rounds, use: () => Promise<unknown>): Promise<void> => {
      // Once more after the restart, so that each has met it.
      for (let isLast = false; !isLast; rounds[name] += 1) {
        isLast = restarted.signal.aborted;
        await use();
      }
    };
    let greatest = 0;
    const loops = Promise.all([
      loop("barriers", async () => {
        const { n } = await session.barriers.raise();
        expect(n).toBeGreaterThan(greatest);
        greatest = n;
      }),
      loop("digests", async () => {
        expect(await session.digests.of(shape, wholeSlice, everything)).toEqual(before);
      }),
      loop("checkpoints", () => session.ledger.saveCheckpoint("s9", `p${rounds.checkpoints}`, "id")),
      loop("pressure", () => session.pressure()),
    ]);
    const failed = loops.then(
      () => undefined,
      (error: unknown) => error,
    );
    await expect.poll(() => Math.min(...Object.values(rounds))).toBeGreaterThan(5);
    await server().restart();
    await server().kill("SIGKILL");
    await server().restart();
    restarted.abort();
    expect(await failed).toBeUndefined();
    expect(await session.ledger.checkpoint("s9")).toMatchObject({ position: `p${rounds.checkpoints - 1}` });
    await session.ledger.uninstall();
  });

  test("ends its waiting for a server that is away when it is told to", async () => {
    const aborter = new AbortController();
    await using session = await openRunner(server(), {
      database,
      claim: claimOf("away", 1),
      signal: aborter.signal,
    });
    await server().stop();
    const reason = new Error("the operator's interrupt");
    const waiting = session.pressure();
    setTimeout(() => aborter.abort(reason), 600);
    await expect(waiting).rejects.toBe(reason);
    await server().restart();
  });
});
