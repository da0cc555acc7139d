import { expect, test, vi } from "vitest";
import { Throttle } from "../../src/copy/throttle.ts";
import { describeServers, connect, useServer } from "../support/servers.ts";
import { openSession } from "../support/session-lab.ts";

describeServers("the throttle", (flavor) => {
  const server = useServer(flavor, { databases: ["shop"] });

  test("holds new chunks back while the server runs too many statements, and lets them go on afterwards", async () => {
    await using session = await openSession(server(), { database: "shop" });
    const throttle = new Throttle([session], { maxThreadsRunning: 4, historyList: undefined });
    const stop = new AbortController();
    const running = throttle.run(stop.signal).catch((error: unknown) => error);
    const sleepers = await Promise.all(Array.from({ length: 6 }, () => connect(server(), "app")));
    const asleep = sleepers.map((connection) =>
      connection.query("SELECT SLEEP(60)").catch((error: unknown) => error),
    );
    await vi.waitFor(() => expect(throttle.reason).toMatch(/threads running \d+ > 4/), { timeout: 30_000 });
    let begun = false;
    const waiting = throttle.wait(stop.signal).then(() => (begun = true));
    expect(begun).toBe(false);
    await using root = await connect(server(), "root");
    const [rows] = await root.query("SHOW PROCESSLIST");
    for (const row of rows as { Id: number; User: string }[])
      if (row.User === "app") await root.query(`KILL ${row.Id}`);
    await waiting;
    expect(throttle.reason).toBeUndefined();
    stop.abort();
    await Promise.all([running, ...asleep]);
  });
});
