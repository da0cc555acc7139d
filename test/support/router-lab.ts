/**
 * Two shards and a control store for the router's suites. The gate's triggers are the real ones; closing, copying and
 * flipping are done by hand here, so that a test can stop between any two steps.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Connection, ConnectionOptions, RowDataPacket } from "mysql2/promise";
import { claimKey } from "../../src/control/keys.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import type { ControlStore } from "../../src/control/store.ts";
import type { Claim, GateSpec } from "../../src/engines/engine.ts";
import { createTriggerSql, gateTriggers, insertGateSql } from "../../src/engines/mysql/gate-sql.ts";
import { createLedgerTable, ledgerDatabase } from "../../src/engines/mysql/ledger-schema.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import type { Slice } from "../../src/model/slice.ts";
import { type Router, type RouterSettings, startRouter } from "../../src/router/core.ts";
import { createRowMoveTable } from "../../src/router/row-ledger.ts";
import type { Intent } from "../../src/routing/intent.ts";
import { RoutingStore } from "../../src/routing/routing-store.ts";
import { tableShape } from "./gate-spec.ts";
import { connect, passwords } from "./servers.ts";

/** Databases of the two shards; one server is enough, since nothing is ever joined over them. */
export const shards = ["s0", "s1"] as const;
export type Shard = (typeof shards)[number];

/** `[5000, MAX)` goes from s0 to s1. */
const slice: Slice = [{ from: boundAt("5000"), to: MAX }];
const stays: Slice = [{ from: MIN, to: boundAt("5000") }];
const tables = [tableShape("orders", "user_id"), tableShape("items", "buyer_id")];

export function mapOf(epoch: number, upperOwner: Shard): RoutingMap {
  return {
    epoch,
    keyspaces: {
      shop: {
        function: "range",
        keyType: "integer",
        tables: { orders: { key: "user_id" }, items: { key: "buyer_id" } },
        ranges:
          upperOwner === "s0"
            ? [{ from: MIN, to: MAX, shard: "s0" }]
            : [
                { from: MIN, to: boundAt("5000"), shard: "s0" },
                { from: boundAt("5000"), to: MAX, shard: "s1" },
              ],
      },
    },
  };
}

export interface Lab extends AsyncDisposable {
  readonly store: ControlStore;
  readonly storePath: string;
  readonly routing: RoutingStore;
  /** As root, without a database. */
  readonly root: Connection;
  router(settings?: Partial<RouterSettings>, ports?: Partial<Record<Shard, number>>): Promise<Router>;
  /** On a store that the test has put something around. */
  routerOn(store: ControlStore, settings?: Partial<RouterSettings>): Promise<Router>;
  connectRoot(shard: Shard, options?: ConnectionOptions): Promise<Connection>;
  rows(shard: Shard, sql: string): Promise<RowDataPacket[]>;
  /** Arms gate and mirror: state open and closed. */
  arm(): Promise<void>;
  announce(phase: Intent["phase"], forMs: number): Promise<readonly Intent[]>;
  withdraw(): Promise<void>;
  /** Takes the gate exclusively: writers of the slice wait from here on. */
  hold(): Promise<HeldByHand>;
  /** Compare-and-swap of the map. */
  flip(): Promise<void>;
  openMirror(): Promise<void>;
  openGate(): Promise<void>;
}

export interface HeldByHand {
  /** Brings the target up to date with the source. */
  copy(): Promise<void>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

export async function openLab(server: LocalServer, first: RoutingMap = mapOf(1, "s0")): Promise<Lab> {
  const directory = await mkdtemp(join(tmpdir(), "shardlift-router-"));
  const storePath = join(directory, "control.db");
  const store = await openSqliteStore(storePath);
  const routing = new RoutingStore(store);
  await routing.initialise(first);
  const root = await connect(server, "root");
  await resetShards(root);
  let claim: Claim | undefined;
  const claimed = async (): Promise<Claim> => (claim ??= await takeJob(store));

  const shard = (name: Shard, port = server.port) => ({
    host: server.host,
    port,
    user: "app",
    password: passwords.app,
    database: name,
  });
  const opened: Router[] = [];
  const routerOn = async (
    at: ControlStore,
    settings: Partial<RouterSettings> = {},
    ports: Partial<Record<Shard, number>> = {},
  ): Promise<Router> => {
    const router = await startRouter(at, {
      shards: { s0: shard("s0", ports.s0), s1: shard("s1", ports.s1) },
      poolSize: 8,
      ...settings,
    });
    opened.push(router);
    return router;
  };

  return {
    store,
    storePath,
    routing,
    root,
    router: async (settings, ports) => routerOn(await openSqliteStore(storePath), settings, ports),
    routerOn,
    connectRoot: async (name, options) => connect(server, "root", { database: name, ...options }),
    rows: async (name, sql) => {
      await using connection = await connect(server, "root", { database: name });
      const [rows] = await connection.query<RowDataPacket[]>(sql);
      return rows;
    },
    arm: async () => arm(root, await claimed()),
    announce: async (phase, forMs) =>
      routing.announce(await claimed(), {
        phase,
        forMs,
        moves: [{ keyspace: "shop", slice, fromShard: "s0", toShard: "s1" }],
      }),
    withdraw: async () => routing.withdraw(await claimed()),
    hold: async () => hold(server),
    flip: async () => {
      const outcome = await routing.flip({
        claim: await claimed(),
        expectEpoch: 1,
        next: mapOf(2, "s1"),
        deadlineMs: 2000,
      });
      if (outcome.kind !== "flipped") throw outcome.cause;
    },
    openMirror: async () => setGate(root, mirrorJob, "open"),
    openGate: async () => setGate(root, job, "open"),
    [Symbol.asyncDispose]: async () => {
      for (const router of opened) await router.close();
      await store.close();
      await root.end();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const job = "split-1";
/** Gate and mirror are on one server here, and a server has one gate row per job. */
const mirrorJob = "split-1-mirror";

async function takeJob(store: ControlStore): Promise<Claim> {
  const result = await store.txn(
    [{ key: claimKey(job), rev: 0 }],
    [{ put: claimKey(job), value: Buffer.from("{}") }],
  );
  if (!result.ok) throw new Error("the job is claimed already");
  return { storeId: store.storeId, job, token: result.rev };
}

async function resetShards(root: Connection): Promise<void> {
  await root.query(`DROP DATABASE IF EXISTS ${ledgerDatabase}`);
  await root.query(`CREATE DATABASE ${ledgerDatabase}`);
  await root.query(createLedgerTable("gate"));
  for (const name of shards) {
    for (const table of ["orders", "items", "shardlift_row_moves"]) {
      await root.query(`DROP TABLE IF EXISTS ${name}.${table}`);
    }
    await root.query(
      `CREATE TABLE ${name}.orders (id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL, v BIGINT NOT NULL DEFAULT 0, note VARCHAR(100) NULL, KEY (user_id)) ENGINE=InnoDB`,
    );
    await root.query(
      `CREATE TABLE ${name}.items (id BIGINT, buyer_id BIGINT NOT NULL, v BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (buyer_id, id)) ENGINE=InnoDB`,
    );
    await root.query(createRowMoveTable.replace("shardlift_row_moves", `${name}.shardlift_row_moves`));
  }
}

async function arm(root: Connection, claim: Claim): Promise<void> {
  const gates: readonly (readonly [string, Shard, GateSpec])[] = [
    [job, "s0", { role: "gate", tables, slice, owned: stays, afterEpoch: 1 }],
    [mirrorJob, "s1", { role: "mirror", tables, slice, owned: [], afterEpoch: 1 }],
  ];
  for (const [name, database, spec] of gates) {
    await root.query(insertGateSql(spec, { ...claim, job: name }));
    for (const trigger of gateTriggers(spec, { job: name, tool: "shardlift", database })) {
      await root.query(createTriggerSql(trigger));
    }
  }
}

async function hold(server: LocalServer): Promise<HeldByHand> {
  const closer = await connect(server, "root");
  await closer.query("SET SESSION innodb_lock_wait_timeout = 20");
  for (;;) {
    await closer.query("BEGIN");
    try {
      await closer.query(`UPDATE ${ledgerDatabase}.gate SET state = 'closed' WHERE job = ?`, [job]);
      break;
    } catch (error) {
      // The closer is the usual victim of a deadlock (facts: gate.md 3).
      if ((error as { errno?: number }).errno !== 1213) throw error;
      await closer.query("ROLLBACK");
    }
  }
  return {
    copy: async () => {
      await using tool = await connect(server, "shardlift");
      // INSERT … SELECT would lock the rows that it reads, and their writers wait for the gate.
      await tool.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
      for (const [table, key] of [
        ["orders", "user_id"],
        ["items", "buyer_id"],
      ] as const) {
        await tool.query(`DELETE FROM s1.${table} WHERE ${key} >= 5000`);
        await tool.query(`INSERT INTO s1.${table} SELECT * FROM s0.${table} WHERE ${key} >= 5000`);
      }
    },
    commit: async () => {
      await closer.query("COMMIT");
      await closer.end();
    },
    rollback: async () => {
      await closer.query("ROLLBACK");
      await closer.end();
    },
  };
}

async function setGate(root: Connection, name: string, state: "closed" | "open"): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await root.query(`UPDATE ${ledgerDatabase}.gate SET state = ? WHERE job = ?`, [state, name]);
      return;
    } catch (error) {
      if (attempt === 50 || ![1205, 1213].includes((error as { errno?: number }).errno ?? 0)) throw error;
    }
  }
}
