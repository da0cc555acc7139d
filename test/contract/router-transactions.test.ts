import { afterEach, beforeEach, expect, test } from "vitest";
import { type Lab, mapOf, openLab } from "../support/router-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

const insert = "INSERT INTO orders (id, user_id, v) VALUES (?, ?, 0)";
const bump = "UPDATE orders SET v = v + 1 WHERE id = ?";

describeServers("a router's transactions", (flavor) => {
  const server = useServer(flavor, { databases: ["s0", "s1"] });
  let lab: Lab;

  beforeEach(async () => {
    lab = await openLab(server());
  });
  afterEach(async () => lab[Symbol.asyncDispose]());

  test("over two shards are refused before anything is sent, and so are keys that were not declared", async () => {
    await using split = await openLab(server(), mapOf(1, "s1"));
    const router = await split.router();
    let ran = false;
    const two = router.transaction("shop", [60, 6000], async () => {
      ran = true;
    });
    await expect(two).rejects.toMatchObject({
      code: "E_TWO_SHARDS",
      message: expect.stringContaining("s0 and s1"),
    });
    expect(ran).toBe(false);
    await expect(
      router.transaction("shop", 60, async (tx) => tx.queryAt(6000, insert, [1, 6000])),
    ).rejects.toMatchObject({ code: "E_TWO_SHARDS" });
    expect(await split.rows("s0", "SELECT id FROM orders")).toEqual([]);
  });

  test("a deadlock is followed by another run", async () => {
    const router = await lab.router();
    await router.query("shop", 1, insert, [1, 1]);
    await router.query("shop", 2, insert, [2, 2]);
    let runs = 0;
    let locked = 0;
    const both = Promise.withResolvers<void>();
    const cross = async (first: number, then: number): Promise<void> =>
      router.transaction("shop", [1, 2], async (tx) => {
        runs += 1;
        await tx.query(bump, [first]);
        locked += 1;
        if (locked === 2) both.resolve();
        await both.promise;
        await tx.query(bump, [then]);
      });
    await Promise.all([cross(1, 2), cross(2, 1)]);
    expect(runs).toBeGreaterThanOrEqual(3);
    expect(await lab.rows("s0", "SELECT v FROM orders ORDER BY id")).toEqual([{ v: 2 }, { v: 2 }]);
  });

  test("an error of the application rolls back and comes through as it is", async () => {
    const router = await lab.router();
    // The last one comes from another service of the application, and looks like a lost connection.
    const errors = [new Error("no stock"), Object.assign(new Error("mail"), { code: "ECONNREFUSED" })];
    for (const mine of errors) {
      let runs = 0;
      const attempt = router.transaction("shop", 1, async (tx) => {
        runs += 1;
        await tx.query(insert, [1, 1]);
        throw mine;
      });
      await expect(attempt).rejects.toBe(mine);
      expect(runs).toBe(1);
    }
    expect(await lab.rows("s0", "SELECT id FROM orders")).toEqual([]);
  });

  test("an error of a statement may be handled by the callback, which then goes on", async () => {
    const router = await lab.router();
    await router.query("shop", 1, insert, [1, 1]);
    await router.transaction("shop", 1, async (tx) => {
      await expect(tx.query(insert, [1, 1])).rejects.toMatchObject({ errno: 1062 });
      await tx.query(bump, [1]);
    });
    expect(await lab.rows("s0", "SELECT v FROM orders")).toEqual([{ v: 1 }]);
  });

  test("an application's own SIGNAL 45000 is not taken for a gate", async () => {
    await lab.root.query(
      "CREATE TRIGGER s0.mine BEFORE INSERT ON s0.orders FOR EACH ROW BEGIN IF NEW.id < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no negative ids'; END IF; END",
    );
    const router = await lab.router();
    let runs = 0;
    const attempt = router.transaction("shop", 1, async (tx) => {
      runs += 1;
      await tx.query(insert, [-1, 1]);
    });
    await expect(attempt).rejects.toMatchObject({ errno: 1644, message: "no negative ids" });
    expect(runs).toBe(1);
  });

  test("statements that end a transaction or change the session are refused", async () => {
    const router = await lab.router();
    for (const sql of [
      "BEGIN",
      "/* x */ commit",
      "SET autocommit = 0",
      "-- y\nTRUNCATE orders",
      "CALL p()",
    ]) {
      await expect(router.query("shop", 1, sql), sql).rejects.toMatchObject({ code: "E_USAGE" });
    }
    const hidden = router.transaction("shop", 1, async (tx) => {
      await tx.query(insert, [1, 1]);
      await tx.query("/*!50000 COMMIT */");
    });
    await expect(hidden).rejects.toMatchObject({ code: "E_USAGE" });
    // The pool lends no connection that was left in a state of its own.
    await expect(router.query("shop", 1, "/*!50000 SET autocommit = 0 */")).rejects.toMatchObject({
      code: "E_USAGE",
    });
    await Promise.all(
      Array.from({ length: 20 }, async (_, n) => router.query("shop", 1, insert, [100 + n, 1])),
    );
    expect(await lab.rows("s0", "SELECT COUNT(*) AS n FROM orders WHERE id >= 100")).toEqual([{ n: 20 }]);
  });
});
