/**
 * What the gate's suites share: a server with two moved tables and the tool's own, gates as runners of a job see
 * them, and writers as applications are.
 */
import type { Connection, RowDataPacket } from "mysql2/promise";
import { afterEach, beforeEach } from "vitest";
import type { Claim, Gates, GateSpec } from "../../src/engines/engine.ts";
import type { GateLimits } from "../../src/engines/mysql/gate-row.ts";
import { createLedgerTable, ledgerDatabase } from "../../src/engines/mysql/ledger-schema.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import type { ServerFlavor } from "../../src/lib/server-binary.ts";
import { close, database, gateSpec, joinJob, type Runner } from "./gate-spec.ts";
import { connect, passwords, useServer } from "./servers.ts";

/** Empty tables, and the tool's tables without any job. */
async function resetTables(server: LocalServer): Promise<void> {
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
  // mysql2 keeps every text that it has prepared; the server has room for 16,382 of all clients.
  const app = await connect(server, "app", { database, maxPreparedStatements: 20 });
  // The server may end it in a test of just that.
  app.on("error", () => undefined);
  return app;
}

/** A server of the surrounding suite; before each test the seeded tables, a runner, and two clients. */
export class GateLab {
  readonly server: () => LocalServer;
  #runner: Runner | undefined;
  #app: Connection | undefined;
  #root: Connection | undefined;

  constructor(server: () => LocalServer) {
    this.server = server;
  }

  get gates(): Gates {
    return given(this.#runner).gates;
  }
  get claim(): Claim {
    return given(this.#runner).claim;
  }
  /** The application's account. */
  get app(): Connection {
    return given(this.#app);
  }
  get root(): Connection {
    return given(this.#root);
  }

  async start(): Promise<void> {
    await resetTables(this.server());
    this.#runner = await takeJob(this.server());
    this.#app = await openApp(this.server());
    this.#root = await connect(this.server(), "root", { database });
    await this.root.query(seed);
  }

  async stop(): Promise<void> {
    await this.#runner?.[Symbol.asyncDispose]();
    this.#app?.destroy();
    this.#root?.destroy();
  }

  /** Arms and closes, as a cutover does. */
  async closeFor(spec: GateSpec = gateSpec): Promise<void> {
    await this.gates.arm(spec);
    await using held = await close(this.gates, spec);
    const problem = await held.whyNotTight();
    if (problem !== undefined) throw new Error(problem);
    await held.commit();
  }

  async rows(sql: string): Promise<RowDataPacket[]> {
    const [rows] = await this.root.query<RowDataPacket[]>(sql);
    return rows;
  }

  async orders(): Promise<RowDataPacket[]> {
    return await this.rows("SELECT * FROM orders ORDER BY id");
  }

  async triggerNames(): Promise<string[]> {
    const rows = await this.rows(
      "SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY name",
    );
    return rows.map((row) => String(row["name"]));
  }

  async isWriterWaiting(): Promise<boolean> {
    const rows = await this.rows(
      "SELECT trx_id AS id FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'",
    );
    return rows.length > 0;
  }
}

export function useGateLab(flavor: ServerFlavor): GateLab {
  const lab = new GateLab(useServer(flavor, { databases: [database] }));
  beforeEach(() => lab.start());
  afterEach(() => lab.stop());
  return lab;
}

/** Rows of `orders`: two in the slice, two outside. */
const seed = "INSERT INTO orders VALUES (1, 10, 0, NULL), (2, 150, 0, 22), (3, 50, 0, 33), (4, 160, 0, NULL)";

/** Every way to change a row of the slice, or to bring one in or out. */
export const sliceWrites: Readonly<Record<string, string>> = {
  "an INSERT": "INSERT INTO orders VALUES (5, 100, 0, NULL)",
  "a multi-row INSERT with one row in the slice":
    "INSERT INTO orders VALUES (6, 1, 0, NULL), (7, 170, 0, NULL)",
  "an INSERT … SELECT": "INSERT INTO orders SELECT id + 100, user_id, v, NULL FROM orders",
  "an INSERT IGNORE": "INSERT IGNORE INTO orders VALUES (5, 100, 0, NULL)",
  "an UPDATE in the slice": "UPDATE orders SET v = 1 WHERE id = 2",
  "an UPDATE over the whole table": "UPDATE orders SET v = v + 1",
  "an UPDATE IGNORE": "UPDATE IGNORE orders SET v = 1 WHERE id = 2",
  "an UPDATE that brings a row in": "UPDATE orders SET user_id = 100 WHERE id = 1",
  "an UPDATE that takes a row out": "UPDATE orders SET user_id = 1 WHERE id = 2",
  "a multi-table UPDATE": "UPDATE orders o JOIN orders p ON p.id = o.id SET o.v = 1 WHERE p.id = 2",
  "a DELETE": "DELETE FROM orders WHERE id = 2",
  "a REPLACE of a row in the slice": "REPLACE INTO orders VALUES (2, 1, 0, NULL)",
  "a REPLACE that removes a row of the slice by another key": "REPLACE INTO orders VALUES (9, 1, 0, 22)",
  "an INSERT … ON DUPLICATE KEY UPDATE of a row in the slice":
    "INSERT INTO orders VALUES (2, 1, 0, NULL) ON DUPLICATE KEY UPDATE v = 1",
};

function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the lab is used outside a test");
  return value;
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
