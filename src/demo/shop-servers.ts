import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type Connection, createConnection } from "mysql2/promise";
import { type LocalServer, startLocalServer } from "../lib/local-server.ts";
import type { ServerFlavor } from "../lib/server-binary.ts";
import { createRowMoveTable } from "../router/router.ts";
import type { ShardAddress } from "./independent-check.ts";
import { createShopTables, type Seed } from "./shop-schema.ts";

export const shardNames = ["s0", "s1"] as const;
export type ShardName = (typeof shardNames)[number];
export const database = "shop";

/** Two servers: all rows on `s0`, and an empty database on `s1`. */
export interface ShopServers extends AsyncDisposable {
  readonly version: string;
  readonly servers: Readonly<Record<ShardName, LocalServer>>;
  /** Of the tool's account `shardlift` and of the application's account `app`. */
  readonly passwords: { readonly shardlift: string; readonly app: string };
  /** As the application reaches them. */
  readonly addresses: ReadonlyMap<ShardName, ShardAddress>;
}

/** Starts both servers with accounts and databases. Dispose ends them for certain; their data is the caller's. */
export async function startShopServers(options: {
  readonly flavor: ServerFlavor;
  readonly folder: string;
  readonly signal: AbortSignal;
}): Promise<ShopServers> {
  await using stack = new AsyncDisposableStack();
  const starting = shardNames.map(async (name) => startOne(options, name));
  for (const started of await Promise.allSettled(starting)) {
    if (started.status === "fulfilled") stack.use(started.value);
  }
  const [s0, s1] = await Promise.all(starting);
  if (s0 === undefined || s1 === undefined) throw new Error("two servers were started and one is missing");
  const passwords = { shardlift: newPassword(), app: newPassword() };
  await Promise.all([prepare(s0, passwords), prepare(s1, passwords)]);
  const kept = stack.move();
  const address = ({ port }: LocalServer): ShardAddress => ({
    port,
    user: "app",
    password: passwords.app,
    database,
  });
  return {
    version: s0.version,
    servers: { s0, s1 },
    passwords,
    addresses: new Map([
      ["s0", address(s0)],
      ["s1", address(s1)],
    ]),
    [Symbol.asyncDispose]: async () => kept.disposeAsync(),
  };
}

async function startOne(
  { flavor, folder, signal }: Parameters<typeof startShopServers>[0],
  name: ShardName,
): Promise<LocalServer> {
  const server = await startLocalServer({ flavor, directory: join(folder, name), signal });
  server[Symbol.asyncDispose] = async () => {
    // At once: an orderly end takes MySQL two seconds, and whoever looks at the data later gets it recovered.
    await server.kill("SIGKILL");
    await server.stop();
  };
  return server;
}

/** Loads the shop into `s0`. */
export async function loadShop(servers: ShopServers, seed: Seed, signal: AbortSignal): Promise<void> {
  await using root = await createConnection({ ...servers.servers.s0.rootConnection, database });
  await createShopTables(root);
  await seed.fill(root, signal);
}

async function prepare(server: LocalServer, passwords: ShopServers["passwords"]): Promise<void> {
  await using root = await createConnection(server.rootConnection);
  await root.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
  // Where the router remembers moves of rows from one user to another.
  await root.query(createRowMoveTable.replace("shardlift_row_moves", `${database}.shardlift_row_moves`));
  await createAccounts(root, server.flavor, passwords);
}

async function createAccounts(
  root: Connection,
  flavor: ServerFlavor,
  passwords: ShopServers["passwords"],
): Promise<void> {
  for (const user of ["shardlift", "app"] as const) {
    await root.query(`CREATE USER ${user}@'127.0.0.1' IDENTIFIED BY '${passwords[user]}'`);
  }
  await root.query(`GRANT ${toolGrants[flavor]} ON *.* TO shardlift@'127.0.0.1'`);
  await root.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${database}.* TO app@'127.0.0.1'`);
}

const commonGrants =
  "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, LOCK TABLES, " +
  "CREATE TEMPORARY TABLES, PROCESS, REPLICATION SLAVE";

/** The least that the tool needs: to move rows, read the log, see and end sessions, and see prepared XA transactions. */
export const toolGrants: Readonly<Record<ServerFlavor, string>> = {
  mariadb: `${commonGrants}, BINLOG MONITOR, REPLICA MONITOR, CONNECTION ADMIN`,
  mysql: `${commonGrants}, REPLICATION CLIENT, CONNECTION_ADMIN, XA_RECOVER_ADMIN`,
};

function newPassword(): string {
  return randomBytes(16).toString("hex");
}
