import { expect, test } from "vitest";
import type { GateSpec, LogScope, TableShape } from "../../src/engines/engine.ts";
import { mysqlEngine } from "../../src/engines/mysql/engine.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import { wholeSlice, type Slice } from "../../src/model/slice.ts";
import { refuseBlockers, runPreflight } from "../../src/preflight/preflight.ts";
import { claimOf, endpointOf, openRunner, openSession, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const slice: Slice = [{ from: boundAt("100"), to: MAX }];
const rest: Slice = [{ from: MIN, to: boundAt("100") }];
const account = { user: "least", password: "least-secret" };

describeServers("a session", (flavor) => {
  const source = useServer(flavor, { databases: ["shop"] });
  // Shards need not call their database the same.
  const target = useServer(flavor, { databases: ["shop_1"] });

  /** Grants what preflight prints, and nothing else. */
  async function grantWhatIsAsked(tables: readonly { name: string; shardKey: string }[]): Promise<void> {
    for (const [server, database] of [
      [source(), "shop"],
      [target(), "shop_1"],
    ] as const) {
      await sqlAsRoot(
        server,
        `CREATE USER least@'%' IDENTIFIED BY 'least-secret'; GRANT SELECT ON ${database}.* TO least@'%'`,
      );
    }
    await using from = await openSession(source(), { database: "shop", shard: "s0", ...account });
    await using to = await openSession(target(), { database: "shop_1", shard: "s1", ...account });
    const request = {
      checks: mysqlEngine.checks,
      moves: [{ source: from, target: to, slice }],
      tables,
      keyType: "integer",
      storeId: undefined,
      signal: new AbortController().signal,
    } as const;
    for (const { check, where, fix } of (await runPreflight(request)).findings) {
      if (check === "rights") await sqlAsRoot(where.startsWith("s0") ? source() : target(), fix);
    }
  }

  test("moves a slice by hand through all its roles with exactly the rights that preflight asks for", async () => {
    await sqlAsRoot(
      source(),
      `CREATE TABLE orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT NOT NULL, v VARCHAR(20), u INT, KEY by_user (user_id), UNIQUE KEY by_u (u));
       INSERT INTO orders WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i, i, CONCAT('v', i), i FROM n`,
      "shop",
    );
    const spec = { name: "orders", shardKey: "user_id" };
    await grantWhatIsAsked([spec]);
    const job = { claim: claimOf("by-hand", 1), ...account };
    await using from = await openRunner(source(), { database: "shop", shard: "s0", ...job });
    await using to = await openRunner(target(), { database: "shop_1", shard: "s1", ...job });
    refuseBlockers(
      await runPreflight({
        checks: mysqlEngine.checks,
        moves: [{ source: from, target: to, slice }],
        tables: [spec],
        keyType: "integer",
        storeId: "store-1",
        signal: new AbortController().signal,
      }),
    );
    const [shape] = await from.catalog.describe([spec]);
    if (shape === undefined) throw new Error("no shape");
    const displaced = (): Promise<void> => Promise.resolve();
    const interval = { from: undefined, to: undefined };

    await to.catalog.create(shape, { deferIndexes: true });
    const position = await from.log.head();
    await to.ledger.saveCheckpoint("s0", position, from.server.id);
    const barrier = await from.barriers.raise({ table: "orders", interval });
    await to.writer.load(
      { shape, slice, displaced, source: "s0", interval },
      from.reader.rowsIn(shape, slice, interval, barrier),
    );
    expect(await to.ledger.loadedChunks("s0")).toEqual([{ table: "orders", interval, rows: 101 }]);
    await to.catalog.buildDeferredIndexes(shape);

    await sqlAsRoot(
      source(),
      "UPDATE orders SET v = 'new' WHERE id = 150; DELETE FROM orders WHERE id = 151; UPDATE orders SET user_id = 5 WHERE id = 152",
      "shop",
    );
    const after = await from.barriers.raise();
    const keys = await keysUpTo(from, { job: "by-hand", tables: [shape], slice }, position, after.n);
    expect([...keys].toSorted()).toEqual(["150", "151", "152"]);
    const rows = from.reader.rowsAt(shape, slice, [...keys], after);
    await to.writer.recopy({ shape, slice, displaced, keys: [...keys], mayReplace: false }, rows);
    expect(await to.digests.of(shape, slice, interval)).toEqual(
      await from.digests.of(shape, slice, interval),
    );

    const gate: GateSpec = { role: "gate", tables: [shape], slice, owned: rest, afterEpoch: 1 };
    const mirror: GateSpec = { role: "mirror", tables: [shape], slice, owned: [], afterEpoch: 1 };
    await to.gates.arm(mirror);
    await from.gates.arm(gate);
    const held = await from.gates.tryClose(gate, 1000);
    if ("blockers" in held) throw new Error(`blocked by ${held.blockers.join(", ")}`);
    expect(await held.whyNotTight()).toBeUndefined();
    await to.catalog.raiseAutoIncrement(shape, 1000n);
    await held.commit();
    await to.gates.open("by-hand");
    expect(await from.gates.state("by-hand")).toMatchObject({ state: "closed" });
    await using app = await connect(source(), "app", { database: "shop" });
    await expect(app.query("UPDATE orders SET v = 'late' WHERE id = 150")).rejects.toMatchObject({
      sqlState: "45000",
    });

    // And back to nothing.
    await from.gates.disarm(gate);
    await to.gates.disarm(mirror);
    expect(await to.ledger.deleteSlice(shape, slice, new AbortController().signal)).toBe(99);
    await to.ledger.dropCreated(shape, slice);
    for (const session of [from, to]) {
      await session.ledger.uninstall();
      expect(await session.ledger.leftovers()).toEqual([]);
    }
    expect(await to.catalog.existing(["orders"])).toEqual(new Set());
    expect(await from.catalog.countRows(shape, wholeSlice, 1000)).toBe(199);
  });

  async function keysUpTo(
    session: MysqlSession,
    scope: LogScope,
    position: string,
    barrier: number,
  ): Promise<Set<string>> {
    const keys = new Set<string>();
    for await (const batch of session.log.since(position, scope, new AbortController().signal)) {
      for (const change of batch.changes) for (const key of change.keys) keys.add(key);
      if ((batch.barrier ?? 0) >= barrier) break;
    }
    return keys;
  }

  test("tries the hosts in order and names each one's reason, but never the password", async () => {
    const { hosts, ...endpoint } = endpointOf(source(), { database: "shop" });
    const dead = { host: "127.0.0.1", port: 1 };
    const signal = new AbortController().signal;
    await using session = await mysqlEngine.open({ ...endpoint, hosts: [dead, ...hosts] }, { signal });
    expect(session.server).toMatchObject({
      shard: "s0",
      flavor,
      address: `${source().host}:${source().port}`,
    });

    const refused = await mysqlEngine
      .open({ ...endpoint, hosts: [dead, ...hosts], password: "wrong-secret" }, { signal })
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "E_CONNECT", exit: 4 });
    expect((refused as Error).message).toMatch(
      /127\.0\.0\.1:1: .*ECONNREFUSED.*; .*Access denied for user 'shardlift'/,
    );
    expect(JSON.stringify(refused, Object.getOwnPropertyNames(refused))).not.toContain("wrong-secret");
  });

  test("refuses a server that changes behind its address, and settings that do not hold", async () => {
    await using session = await openSession(source(), { database: "shop" });
    await sqlAsRoot(source(), "SET GLOBAL init_connect = 'SET SESSION sql_mode = \"ANSI_QUOTES\"'");
    const connection = await session.connector.connect("write");
    await session.connector.close(connection);
    await sqlAsRoot(source(), "SET GLOBAL init_connect = ''");
    await expect(session.connector.connect("control", { max_connections: 3 })).rejects.toMatchObject({
      code: "E_CONNECT",
    });
    if (flavor === "mariadb") {
      await sqlAsRoot(source(), "SET GLOBAL gtid_domain_id = 7");
      await expect(session.connector.connect("control")).rejects.toMatchObject({
        code: "E_CONNECT",
        message: expect.stringContaining("and is now 7-"),
      });
      await sqlAsRoot(source(), "SET GLOBAL gtid_domain_id = 0");
    }
  });

  test("fails what waits when the server dies, and works again when it is back", async () => {
    await using session = await openSession(source(), { database: "shop" });
    expect(await session.catalog.existing(["nothing"])).toEqual(new Set());
    await killAndRestart(source());
    const outcomes = [];
    for (let attempt = 0; attempt < 6; attempt += 1) {
      outcomes.push(
        await session.catalog.existing(["nothing"]).then(
          () => "ok",
          (error: unknown) => String(error),
        ),
      );
    }
    expect(outcomes.at(-1)).toBe("ok");
  });

  async function killAndRestart(server: LocalServer): Promise<void> {
    await server.kill("SIGKILL");
    await server.restart();
  }

  test("shows a shape to JSON and back", async () => {
    await using session = await openSession(source(), { database: "shop" });
    const [shape] = await session.catalog.describe([{ name: "orders", shardKey: "user_id" }]);
    const copy = JSON.parse(JSON.stringify(shape)) as TableShape;
    expect(await session.catalog.countRows(copy, wholeSlice, 1000)).toBe(199);
    expect(session.catalog.formatKey(copy, "7")).toBe("id=7");
  });
});
