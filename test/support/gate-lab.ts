/**
 * What the gate's suites share: a server with two moved tables and the tool's own, gates as runners of a job see
 * them, and writers as applications are.
 */
import type { Connection } from "mysql2/promise";
import type { Claim } from "../../src/engines/engine.ts";
import type { GateLimits } from "../../src/engines/mysql/gate-row.ts";
import { createLedgerTable, ledgerDatabase } from "../../src/engines/mysql/ledger-schema.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { database, joinJob, type Runner } from "./gate-spec.ts";
import { connect, passwords } from "./servers.ts";

/** Empty tables, and the tool's tables without any job. */
export async function resetTables(server: LocalServer): Promise<void> {
  await using root = await connect(server, "root", { database });
  await root.query("DROP TABLE IF EXISTS orders, items, elsewhere");
  await root.query(
    "CREATE TABLE orders (id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL, v BIGINT NOT NULL, u BIGINT NULL UNIQUE, KEY (user_id)) ENGINE=InnoDB",
  );
  await root.query(
    "CREATE TABLE items (id BIGINT PRIMARY KEY, buyer_id BIGINT NOT NULL, v BIGINT NOT NULL) ENGINE=InnoDB",
  );
  await root.query("CREATE TABLE elsewhere (id BIGINT PRIMARY KEY, v BIGINT NOT NULL) ENGINE=InnoDB");
  await root.query(`DROP DATABASE IF EXISTS ${ledgerDatabase}`);
  await root.query(`CREATE DATABASE ${ledgerDatabase}`);
  for (const table of ["lease", "gate"]) await root.query(createLedgerTable(table));
}

interface RunnerOptions {
  readonly token?: number;
  readonly limits?: Partial<GateLimits>;
  /** Another way to the server than its own port. */
  readonly port?: number;
}

/** A runner of the job that has taken it over: the lease carries its token. */
export async function takeJob(server: LocalServer, options: RunnerOptions = {}): Promise<Runner> {
  const claim: Claim = { storeId: "store-1", job: "split-1", token: options.token ?? 7 };
  await using root = await connect(server, "root");
  await root.query(
    `INSERT INTO ${ledgerDatabase}.lease (job, store_id, token) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE token = VALUES(token)`,
    [claim.job, claim.storeId, claim.token],
  );
  return await joinJob(toolAddress(server, options.port), claim, options.limits);
}

export function toolAddress(server: LocalServer, port = server.port): Parameters<typeof joinJob>[0] {
  return { host: server.host, port, password: passwords.shardlift };
}

export async function openApp(server: LocalServer): Promise<Connection> {
  const app = await connect(server, "app", { database });
  // The server may end it in a test of just that.
  app.on("error", () => undefined);
  return app;
}

export interface Refused {
  readonly errno?: number;
  readonly sqlState?: string;
  readonly message: string;
}

/** Runs a statement that must fail, and returns the server's error. */
export async function refusalOf(connection: Connection, sql: string): Promise<Refused> {
  try {
    await connection.query(sql);
  } catch (error) {
    return error as Refused;
  }
  throw new Error(`was not refused: ${sql}`);
}

/**
 * Waits until the condition holds; the bound is for a machine that is busy with other things. It looks rarely enough
 * for InnoDB's tables in information_schema, which show nothing new to who asks more often than every 100 ms.
 */
export async function eventually(
  what: string,
  condition: () => Promise<boolean>,
  boundMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 150));
    if (await condition()) return;
    if (performance.now() > deadline) throw new Error(`did not happen within ${boundMs} ms: ${what}`);
  }
}
