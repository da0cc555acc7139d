import { describe, expect, test } from "vitest";
import { openLogLab } from "../support/log-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

describeServers("the log reader", (flavor) => {
  const server = useServer(flavor);

  test("delivers the keys of inserts, updates, key changes and deletes, and the barrier behind them", async () => {
    await using lab = await openLogLab(server(), "basics");
    await lab.root.query("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(20)); CREATE TABLE other (id INT PRIMARY KEY)");
    const table = await lab.describe("t");
    const follower = await lab.follow([table]);
    await lab.root.query("INSERT INTO t VALUES (1,'a'),(2,'b'),(-3,'c')");
    await lab.root.query("INSERT INTO other VALUES (7)");
    await lab.root.query("UPDATE t SET v='x' WHERE id=1; UPDATE t SET id=20 WHERE id=2; DELETE FROM t WHERE id=-3");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1", "2", "-3", "1", "2", "20", "-3"]);
    expect(follower.batches.reduce((sum, batch) => sum + batch.scanned, 0)).toBeGreaterThanOrEqual(7);
    expect(follower.position).toBe(await lab.changeLog().head());
    expect(Math.abs((follower.batches.at(-1)?.sourceTime ?? 0) - Date.now() / 1000)).toBeLessThan(60);
  });
});
