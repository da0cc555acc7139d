import { setTimeout as delay } from "node:timers/promises";
import type { RowDataPacket } from "mysql2/promise";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Router } from "../../src/router/core.ts";
import { eventually } from "../support/gate-lab.ts";
import { openRelay, type Loss } from "../support/relay.ts";
import { type Lab, mapOf, openLab, type Shard } from "../support/router-lab.ts";
import { killConnections } from "../support/router-load.ts";
import { describeServers, useServer } from "../support/servers.ts";

const insert = "INSERT INTO orders (id, user_id, v) VALUES (?, ?, ?)";
const ledger =
  "SELECT CAST(token AS CHAR) AS token, attempt, CAST(state AS CHAR) AS state FROM shardlift_row_moves ORDER BY attempt";

describeServers("a row move", (flavor) => {
  const server = useServer(flavor, { databases: ["s0", "s1"] });
  let lab: Lab;

  beforeEach(async () => {
    lab = await openLab(server(), mapOf(1, "s1"));
  });
  afterEach(async () => lab[Symbol.asyncDispose]());

  const orders = async (shard: Shard): Promise<RowDataPacket[]> =>
    lab.rows(shard, "SELECT id, user_id, v FROM orders ORDER BY id");
  const order = (id: number, from: number, to: number) => ({ table: "orders", primaryKey: { id }, from, to });

  test("within one shard is one change, with other columns if asked", async () => {
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 7]);
    const result = await router.moveRow("shop", { ...order(1, 60, 61), set: { v: 8 }, token: "a" });
    expect(result).toEqual({ outcome: "moved", token: "a" });
    expect(await orders("s0")).toEqual([{ id: 1, user_id: 61, v: 8 }]);
  });

  test("between shards takes the row from one and gives it to the other", async () => {
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 7]);
    const result = await router.moveRow("shop", {
      ...order(1, 60, 6000),
      set: { v: 8, note: "it's" },
      token: "a",
    });
    expect(result.outcome).toBe("moved");
    expect(await orders("s0")).toEqual([]);
    expect(await lab.rows("s1", "SELECT * FROM orders")).toEqual([
      { id: 1, user_id: 6000, v: 8, note: "it's" },
    ]);
    expect(await lab.rows("s0", ledger)).toEqual([]);
    expect(await lab.rows("s1", ledger)).toEqual([{ token: "a", attempt: 1, state: "arrived" }]);
  });

  test("with the same token happens once", async () => {
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 0]);
    for (const outcome of ["moved", "moved-before", "moved-before"]) {
      expect(await router.moveRow("shop", { ...order(1, 60, 6000), set: { v: 1 }, token: "a" })).toEqual({
        outcome,
        token: "a",
      });
    }
    // Away and back again: the old token still means the old move.
    await router.moveRow("shop", order(1, 6000, 60));
    expect((await router.moveRow("shop", { ...order(1, 60, 6000), token: "a" })).outcome).toBe(
      "moved-before",
    );
    expect(await orders("s0")).toEqual([{ id: 1, user_id: 60, v: 1 }]);
  });

  test("of several rows moves all of them or none", async () => {
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 0]);
    await router.query("shop", 60, "INSERT INTO items (id, buyer_id) VALUES (5, 60)");
    const rows = (item: number) => [
      { table: "orders", primaryKey: { id: 1 } },
      { table: "items", primaryKey: { buyer_id: 60, id: item } },
    ];
    expect((await router.moveRows("shop", { from: 60, to: 6000, rows: rows(6) })).outcome).toBe("not-found");
    expect(await orders("s0")).toHaveLength(1);
    expect((await router.moveRows("shop", { from: 60, to: 6000, rows: rows(5) })).outcome).toBe("moved");
    expect(await lab.rows("s1", "SELECT id, buyer_id FROM items")).toEqual([{ id: 5, buyer_id: 6000 }]);
    expect(await orders("s1")).toHaveLength(1);
  });

  test("whose key is taken at the new owner leaves everything as it was", async () => {
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 0]);
    await router.query("shop", 7000, insert, [1, 7000, 0]);
    await expect(router.moveRow("shop", order(1, 60, 6000))).rejects.toMatchObject({ code: "E_ROW_MOVE" });
    expect(await orders("s0")).toEqual([{ id: 1, user_id: 60, v: 0 }]);
    expect(await lab.rows("s0", ledger)).toEqual([]);
    expect(await lab.rows("s1", ledger)).toEqual([]);
  });

  test("without the ledger says how to make it", async () => {
    await lab.root.query("DROP TABLE s1.shardlift_row_moves");
    const router = await lab.router();
    await router.query("shop", 60, insert, [1, 60, 0]);
    await expect(router.moveRow("shop", order(1, 60, 6000))).rejects.toMatchObject({
      code: "E_ROW_MOVE",
      next: expect.stringContaining("CREATE TABLE"),
    });
    expect(await orders("s0")).toHaveLength(1);
  });

  test("keeps every byte of every type", async () => {
    const json =
      flavor === "mysql"
        ? "j JSON, "
        : "j JSON, u UUID DEFAULT '123e4567-e89b-12d3-a456-426614174000', ip INET6 DEFAULT '::ffff:1.2.3.4', ";
    const create = `(id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id BIGINT NOT NULL, big BIGINT UNSIGNED, d DECIMAL(65,30), f FLOAT, f2 FLOAT(7,3), g DOUBLE,
      b BIT(64), y YEAR, t TIME(6), dt DATETIME(6), ts TIMESTAMP(6) NULL, da DATE, c CHAR(10), l VARCHAR(20) CHARACTER SET latin1, x TEXT CHARACTER SET utf8mb4,
      u16 VARCHAR(20) CHARACTER SET utf16, bi BINARY(4), vb VARBINARY(10), bl BLOB, e ENUM('a,b','it''s','') , s SET('x','y','z'), ${json}
      p POINT, gen BIGINT UNSIGNED AS (big) STORED, n VARCHAR(5) NULL) ENGINE=InnoDB`;
    for (const shard of ["s0", "s1"]) {
      await lab.root.query(`DROP TABLE IF EXISTS ${shard}.items`);
      await lab.root.query(`CREATE TABLE ${shard}.items ${create.replace("user_id", "buyer_id")}`);
    }
    await using admin = await lab.connectRoot("s0", { charset: "utf8mb4" });
    await admin.query(
      "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00'",
    );
    await admin.query(`INSERT INTO items (id, buyer_id, big, d, f, f2, g, b, y, t, dt, ts, da, c, l, x, u16, bi, vb, bl, e, s, j, p, n) VALUES
      (0, 60, 18446744073709551614, -12345678901234567890.000000000000000000000000000001, 16777217, 1.2345678, 9.153846153846153, b'1000000000000000000000000000000000000000000000000000000000000001',
       '0000', '-838:59:58.999999', '0000-00-00 00:00:00', '2023-10-29 00:30:00.123456', '2023-02-31', 'pad  ', _latin1 x'E980FF', '😀''\\\\', _utf16 x'00E900410042', x'0100', x'00FF27', x'0027225C0A1A00FF', 'it''s', 'x,z',
       '{"a": 1.0, "b": 18446744073709551615, "c": "é"}', ST_GeomFromText('POINT(1 -0.5)', 4326), NULL),
      (1, 60, 0, 0, -0e0, 999.999, -0e0, b'0', 2155, '00:00:00', '9999-12-31 23:59:59.999999', NULL, '0000-00-00', '', '', '', '', '', '', '', '', '', '[]', NULL, '')`);
    const columns = await lab.rows(
      "s0",
      "SELECT COLUMN_NAME AS name, DATA_TYPE AS type FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 's0' AND TABLE_NAME = 'items' AND COLUMN_NAME <> 'buyer_id'",
    );
    const digest = `SELECT ${columns
      .map(({ name, type }) =>
        ["float", "double"].includes(String(type))
          ? `CONCAT(${name} * 1e0) AS ${name}`
          : ["enum", "set", "bit"].includes(String(type))
            ? `CONCAT(${name}+0) AS ${name}`
            : `HEX(${name}) AS ${name}`,
      )
      .join(", ")} FROM items ORDER BY id`;
    const before = await lab.rows("s0", digest);
    expect(before).toHaveLength(2);
    const router = await lab.router({ timeZone: "+05:30" });
    for (const id of [0, 1]) {
      expect(
        (await router.moveRow("shop", { table: "items", primaryKey: { id }, from: 60, to: 6000 })).outcome,
      ).toBe("moved");
    }
    expect(await lab.rows("s1", digest)).toEqual(before);
    expect(await lab.rows("s0", digest)).toEqual([]);
  });

  describe("whose answer is lost", () => {
    const commit = `${flavor === "mysql" ? "\u0001" : "\u0003"}COMMIT`;

    for (const [name, shard] of [
      ["old", "s0"],
      ["new", "s1"],
    ] as const) {
      for (const loss of ["after-delivery", "before-delivery"] as const satisfies readonly Loss[]) {
        test(`at the ${name} owner's commit (${loss}) has happened exactly once`, async () => {
          await using relay = await openRelay(server().port);
          await using router = await lab.router({}, { [shard]: relay.port });
          await router.query("shop", 60, insert, [1, 60, 0]);
          relay.cutAt(commit, loss);
          const { outcome } = await router.moveRow("shop", { ...order(1, 60, 6000), set: { v: 1 } });
          expect(outcome).toBe("moved");
          expect(await orders("s0")).toEqual([]);
          expect(await orders("s1")).toEqual([{ id: 1, user_id: 6000, v: 1 }]);
          expect(await lab.rows("s0", ledger)).toEqual([]);
        });
      }
    }

    test("for good is finished by the same token, or by another router by itself", async () => {
      for (const [id, finish] of [
        [1, async (router: Router) => router.moveRow("shop", { ...order(1, 60, 6000), token: "t1" })],
        [2, async () => undefined],
      ] as const) {
        await using relay = await openRelay(server().port);
        const dying = await lab.router({ holdTimeoutMs: 300, poolSize: 1 }, { s1: relay.port });
        await dying.query("shop", 60, insert, [id, 60, 0]);
        relay.cutAt(commit, "for-good");
        await expect(
          dying.moveRow("shop", { ...order(id, 60, 6000), token: `t${id}` }),
        ).rejects.toMatchObject({
          code: "E_OUTCOME_UNKNOWN",
          next: expect.stringContaining(`t${id}`),
        });
        await dying.close();
        // On its way: at neither shard, but in the ledger.
        expect(await orders("s0")).toEqual([]);
        expect(await lab.rows("s0", ledger)).toEqual([{ token: `t${id}`, attempt: 0, state: "transit" }]);
        await using other = await lab.router();
        await finish(other);
        await eventually("the row has arrived", async () => (await orders("s1")).length === id);
        await eventually("the ledger is clear", async () => (await lab.rows("s0", ledger)).length === 0);
      }
    });
  });

  describe("whose new owner has changed meanwhile", () => {
    const departure = async (state: "arrived" | undefined): Promise<void> => {
      const row = {
        table: "orders",
        columns: [
          ["id", "1"],
          ["user_id", "6000"],
          ["v", "5"],
        ],
      };
      const move = JSON.stringify({ keyspace: "shop", toKey: "6000", rows: [row] });
      await lab.root.query(
        "INSERT INTO s0.shardlift_row_moves (token, attempt, state, to_shard, arrival, move, since) VALUES ('x', 0, 'transit', 's0', 1, ?, UTC_TIMESTAMP() - INTERVAL 1 MINUTE)",
        [move],
      );
      if (state === undefined) return;
      await lab.root.query(
        "INSERT INTO s0.shardlift_row_moves (token, attempt, state, since) VALUES ('x', 1, 'arrived', UTC_TIMESTAMP())",
      );
    };

    test("is fenced off at the former one and arrives at the present one", async () => {
      await departure(undefined);
      await lab.router();
      await eventually("the row has arrived", async () => (await orders("s1")).length === 1);
      await eventually("the ledger is clear", async () => (await lab.rows("s0", ledger)).length === 1);
      expect(await lab.rows("s0", ledger)).toEqual([{ token: "x", attempt: 1, state: "void" }]);
      expect(await lab.rows("s1", ledger)).toEqual([{ token: "x", attempt: 2, state: "arrived" }]);
    });

    test("and has no room for it stays in the ledger, is named, and arrives once there is room", async () => {
      await departure(undefined);
      await lab.root.query("INSERT INTO s1.orders (id, user_id) VALUES (1, 7000)");
      const router = await lab.router();
      await eventually("it is named", async () =>
        router.status().trouble.some((text) => text.includes("row move x")),
      );
      expect(await lab.rows("s0", "SELECT token FROM shardlift_row_moves WHERE attempt = 0")).toHaveLength(1);
      await lab.root.query("DELETE FROM s1.orders");
      await eventually("the row has arrived", async () => (await orders("s1")).length === 1);
      await eventually(
        "it is named no more",
        async () => !router.status().trouble.some((text) => text.includes("row move x")),
      );
    });

    test("is not done again when it had arrived at the former one", async () => {
      await departure("arrived");
      await lab.router();
      await eventually("the ledger is clear", async () => (await lab.rows("s0", ledger)).length === 1);
      expect(await orders("s1")).toEqual([]);
    });
  });

  test("happens exactly once while connections are killed all the time", async () => {
    const routers = [await lab.router({ poolSize: 8 }), await lab.router({ poolSize: 8 })];
    const ids = [1, 2, 3, 4, 5, 6];
    await using setUp = await lab.router();
    for (const id of ids) await setUp.query("shop", 60, insert, [id, 60, 0]);
    const killer = killConnections(lab.root);
    const doubts = new Set<string>();
    /** Asks with one token until there is an answer. */
    const ask = async (id: number, n: number, from: number, to: number): Promise<string> => {
      for (let attempt = 0; attempt < 50; attempt++) {
        const router = routers[(id + attempt) % 2];
        try {
          const result = await router?.moveRow("shop", {
            ...order(id, from, to),
            set: { v: n },
            token: `${id}-${n}`,
          });
          return result?.outcome ?? "none";
        } catch (error) {
          doubts.add((error as { code?: string }).code ?? String(error));
          await delay(5);
        }
      }
      return "no answer";
    };
    const endAt = performance.now() + 4000;
    const walk = async (
      id: number,
    ): Promise<{ id: number; user_id: number; v: number; outcomes: Set<string> }> => {
      const outcomes = new Set<string>();
      let at = 60;
      let v = 0;
      while (performance.now() < endAt) {
        const to = at === 60 ? 6000 : 60;
        outcomes.add(await ask(id, ++v, at, to));
        at = to;
      }
      return { id, user_id: at, v, outcomes };
    };
    const walked = await Promise.all(ids.map(async (id) => walk(id)));
    await killer.stop();
    // Nothing but what the documentation names comes through.
    expect(["E_CONNECT", "E_OUTCOME_UNKNOWN", "E_ROW_MOVE"]).toEqual(expect.arrayContaining([...doubts]));
    const found = [...(await orders("s0")), ...(await orders("s1"))].toSorted(
      (a, b) => Number(a["id"]) - Number(b["id"]),
    );
    expect(found).toEqual(walked.map(({ id, user_id, v }) => ({ id, user_id, v })));
    for (const { outcomes } of walked)
      expect(["moved", "moved-before"]).toEqual(expect.arrayContaining([...outcomes]));
  });
});
