import { expect, test } from "vitest";
import type { TableShape } from "../../src/engines/engine.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import { claimOf, openRunner, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

describeServers("the AUTO_INCREMENT counter of a table in use", (flavor) => {
  const server = useServer(flavor, { databases: ["shop"] });

  async function open(job: string): Promise<{ session: MysqlSession; shape: TableShape }> {
    await sqlAsRoot(
      server(),
      "DROP TABLE IF EXISTS busy; CREATE TABLE busy (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, KEY (k)); INSERT INTO busy VALUES (1, 1)",
      "shop",
    );
    const session = await openRunner(server(), { database: "shop", claim: claimOf(job, 1) });
    const [shape] = await session.catalog.describe([{ name: "busy", shardKey: "k" }]);
    if (shape === undefined) throw new Error("no shape");
    return { session, shape };
  }

  test("is raised without stopping readers and writers while a transaction is in the way, and gives up in time", async () => {
    const { session, shape } = await open("counter-busy");
    await using _session = session;
    await using old = await connect(server(), "root", { database: "shop" });
    await old.query("BEGIN");
    await old.query("SELECT * FROM busy");
    await using app = await connect(server(), "root", { database: "shop" });
    const over = new AbortController();
    const raised = session.catalog
      .raiseAutoIncrement(shape, 1000n)
      .then(() => "raised")
      .catch((error: unknown) => error)
      .finally(() => over.abort());
    let longestMs = 0;
    while (!over.signal.aborted) {
      const startedAt = performance.now();
      await app.query("SELECT * FROM busy WHERE id = 1");
      await app.query("INSERT INTO busy (k) VALUES (2)");
      longestMs = Math.max(longestMs, performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(await raised).toMatchObject({
      code: "E_TARGET_BUSY",
      retryable: true,
      message: expect.stringMatching(/no lock on busy .* AUTO_INCREMENT counter; in the way: /),
    });
    // One try costs some 50 ms; a waiting ALTER TABLE would have stopped the table for 30 s.
    expect(longestMs).toBeLessThan(2000);

    await old.query("COMMIT");
    await session.catalog.raiseAutoIncrement(shape, 5000n);
    expect(await session.catalog.autoIncrement(shape)).toMatchObject({ next: 5000n });
    await session.ledger.uninstall();
  });

  test("is raised as soon as the transaction in the way has ended", async () => {
    const { session, shape } = await open("counter-soon");
    await using _session = session;
    await using old = await connect(server(), "root", { database: "shop" });
    await old.query("BEGIN");
    await old.query("SELECT * FROM busy");
    const raised = session.catalog.raiseAutoIncrement(shape, 1000n);
    await expect.poll(() => session.connector.threadIds().length).toBeGreaterThan(2);
    await old.query("COMMIT");
    await raised;
    expect(await session.catalog.autoIncrement(shape)).toMatchObject({ next: 1000n });
    await session.ledger.uninstall();
  });
});
