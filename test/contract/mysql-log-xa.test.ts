import { afterEach, beforeEach, expect, test } from "vitest";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { openLogLab, type LogLab } from "../support/log-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

/** Rule 9: the log has the rows at PREPARE and the verdict later; both servers write them in their own way. */
describeServers("the log reader and XA", (flavor) => {
  const server = useServer(flavor);
  let lab: LogLab;
  let table: MysqlTable;

  beforeEach(async () => {
    lab = await openLogLab(server(), "xa");
    await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    table = await lab.describe("t");
  });
  afterEach(async () => {
    const [rows] = await lab.root.query("XA RECOVER");
    for (const { data } of rows as { data: string }[]) await lab.root.query(`XA ROLLBACK '${data}'`);
    await lab[Symbol.asyncDispose]();
  });

  /** Prepares a transaction and gives it up to the server, as the death of its client would. */
  async function prepare(xid: string, sql: string): Promise<void> {
    await using session = await lab.session();
    await session.query(`XA START '${xid}'; ${sql}; XA END '${xid}'; XA PREPARE '${xid}'`);
  }

  /** MySQL lets another session decide only once the first has gone. */
  async function decide(verdict: "COMMIT" | "ROLLBACK", xid: string): Promise<void> {
    const tried = async (): Promise<string> => {
      try {
        await lab.root.query(`XA ${verdict} '${xid}'`);
        return "done";
      } catch (error) {
        return String(error);
      }
    };
    await expect.poll(tried, { timeout: 30_000 }).toBe("done");
  }

  test("holds the keys of a prepared transaction until it commits", async () => {
    const follower = await lab.follow([table]);
    await prepare("one", "INSERT INTO t VALUES (1,1),(2,2)");
    await lab.root.query("INSERT INTO t VALUES (3,3)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["3"]);
    await decide("COMMIT", "one");
    await lab.barrier(2);
    await follower.reached(2);
    expect(follower.keys("t")).toEqual(["3", "1", "2"]);
    expect(follower.position).toBe(await follower.log.head());
  });

  test("drops the keys of a prepared transaction that is rolled back", async () => {
    const follower = await lab.follow([table]);
    await prepare("gone", "INSERT INTO t VALUES (1,1)");
    await decide("ROLLBACK", "gone");
    await lab.root.query("INSERT INTO t VALUES (2,2)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["2"]);
    expect(follower.position).toBe(await follower.log.head());
  });

  test("never lets the position pass an undecided transaction: whoever resumes there sees its keys", async () => {
    const follower = await lab.follow([table]);
    await prepare("p1", "INSERT INTO t VALUES (1,1)");
    await lab.root.query("INSERT INTO t VALUES (5,5)");
    await prepare("p2", "INSERT INTO t VALUES (2,2)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.position).not.toBe(await follower.log.head());
    // What was seen includes the prepared ones: a barrier waits for them.
    expect(follower.log.seenGtids()).toBe(await follower.log.head());
    const resumed = await lab.follow([table], { from: follower.position ?? "" });
    await decide("COMMIT", "p2");
    await lab.barrier(2);
    await resumed.reached(2);
    expect(new Set(resumed.keys("t"))).toContain("2");
    expect(resumed.keys("t")).not.toContain("1");
    const third = await lab.follow([table], { from: resumed.position ?? "" });
    await decide("COMMIT", "p1");
    await lab.barrier(3);
    for (const each of [follower, resumed, third]) {
      await each.reached(3);
      expect(each.keys("t")).toContain("1");
      expect(each.position).toBe(await each.log.head());
    }
  });

  test("delivers a one-phase commit at once", async () => {
    const follower = await lab.follow([table]);
    await lab.root.query("XA START 'x'; INSERT INTO t VALUES (1,1); XA END 'x'; XA COMMIT 'x' ONE PHASE");
    await lab.root.query("XA START 'r'; INSERT INTO t VALUES (2,2); XA END 'r'; XA ROLLBACK 'r'");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1"]);
    expect(follower.position).toBe(await follower.log.head());
  });

  test("passes transactions that change nothing, and uses an xid twice", async () => {
    const follower = await lab.follow([table]);
    await lab.root.query("XA START 'e'; SELECT * FROM t; XA END 'e'; XA PREPARE 'e'; XA COMMIT 'e'");
    await prepare("same", "INSERT INTO t VALUES (1,1)");
    await decide("COMMIT", "same");
    await prepare("same", "INSERT INTO t VALUES (2,2)");
    await decide("COMMIT", "same");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["1", "2"]);
  });

  test("tells hex xids with a branch and a format apart", async () => {
    const follower = await lab.follow([table]);
    await using session = await lab.session();
    for (const [n, xid] of ["X'00FF',X'27',1", "X'00FF',X'28',1", "X'00FF',X'27',5"].entries()) {
      await session.query(`XA START ${xid}; INSERT INTO t VALUES (${n},0); XA END ${xid}; XA PREPARE ${xid}`);
      await session.query(`XA ${n === 1 ? "ROLLBACK" : "COMMIT"} ${xid}`);
    }
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("t")).toEqual(["0", "2"]);
  });

  test("names prepared transactions, and stops at a verdict on one whose changes it has not seen", async () => {
    await prepare("early", "INSERT INTO t VALUES (1,1)");
    const log = lab.changeLog();
    expect(await log.preparedTransactions()).toHaveLength(1);
    const follower = await lab.follow([table], { log });
    await decide("COMMIT", "early");
    expect(await follower.failure()).toMatchObject({ code: "E_XA_UNSEEN", exit: 8 });
    expect(await log.preparedTransactions()).toEqual([]);
  });

  test("stops when undecided transactions hold more keys than it keeps", async () => {
    const follower = await lab.follow([table], { options: { heldKeys: 3 } });
    await prepare("big", "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)");
    expect(await follower.failure()).toMatchObject({ code: "E_XA_TOO_LARGE" });
  });
});
