/**
 * A server's log under test: its own database, a log reader of the product, and a follower that gathers what the
 * reader delivers.
 */
import { type Connection, createConnection } from "mysql2/promise";
import type { KeyBatch, LogScope, Position } from "../../src/engines/engine.ts";
import { Connector } from "../../src/engines/mysql/connect.ts";
import { shapeOf } from "../../src/engines/mysql/describe.ts";
import { createLedgerTable, ledgerDatabase } from "../../src/engines/mysql/ledger-schema.ts";
import { MysqlChangeLog, type LogOptions } from "../../src/engines/mysql/log/change-log.ts";
import { readTableFacts } from "../../src/engines/mysql/table-facts.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { wholeSlice, type Slice } from "../../src/model/slice.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";

export const job = "log-test";
const patienceMs = 60_000;

export interface LogLab extends AsyncDisposable {
  readonly database: string;
  readonly connector: Connector;
  /** Several statements a query; big numbers and times as text. */
  readonly root: Connection;
  describe(table: string, shardKey?: string): Promise<MysqlTable>;
  /** A further session of the application. */
  session(): Promise<Connection>;
  /** Commits a barrier row by hand; each greater than the last, since a row that does not change is not logged. */
  barrier(n: number): Promise<void>;
  changeLog(options?: Partial<LogOptions>): MysqlChangeLog;
  /** Follows the tables from now on, or from a position. */
  follow(tables: readonly MysqlTable[], options?: FollowOptions): Promise<Follower>;
}

export interface FollowOptions {
  readonly from?: Position;
  readonly slice?: Slice;
  readonly log?: MysqlChangeLog;
  readonly options?: Partial<LogOptions>;
}

/** Makes the database anew. `port`: another way to the server for the log reader alone. */
export async function openLogLab(
  server: LocalServer,
  database: string,
  port: number = server.port,
): Promise<LogLab> {
  const session = async (): Promise<Connection> =>
    createConnection({
      ...server.rootConnection,
      database,
      multipleStatements: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
      dateStrings: true,
      jsonStrings: true,
      charset: "utf8mb4",
    });
  await using owner = await createConnection({ ...server.rootConnection, multipleStatements: true });
  await owner.query(
    `DROP DATABASE IF EXISTS \`${database}\`; CREATE DATABASE \`${database}\`;
     CREATE DATABASE IF NOT EXISTS ${ledgerDatabase}; ${createLedgerTable("barrier")};
     DELETE FROM ${ledgerDatabase}.barrier`,
  );
  const root = await session();
  const aborter = new AbortController();
  const connector = await Connector.open(
    {
      shard: "s0",
      hosts: [{ host: server.host, port }],
      user: "root",
      password: "",
      database,
    },
    { signal: aborter.signal },
  );
  const followers: Follower[] = [];
  const changeLog = (options: Partial<LogOptions> = {}): MysqlChangeLog =>
    new MysqlChangeLog(connector, { firstRetryMs: 20, ...options });
  return {
    database,
    connector,
    root,
    session,
    changeLog,
    barrier: async (n) => {
      await root.query(
        `INSERT INTO ${ledgerDatabase}.barrier (job, n, mark) VALUES (?, ?, NULL) ON DUPLICATE KEY UPDATE n = ?`,
        [job, n, n],
      );
    },
    describe: async (table, shardKey) => {
      const connection = await connector.connect("control");
      try {
        const facts = await readTableFacts(connection, database, table);
        if (facts === undefined) throw new Error(`no table ${table}`);
        const shape = shapeOf({ name: table, shardKey: shardKey ?? "id" }, facts);
        if (!("detail" in shape)) throw new Error(`${table}: ${shape.join(", ")}`);
        return shape;
      } finally {
        await connector.close(connection);
      }
    },
    follow: async (tables, options = {}) => {
      const log = options.log ?? changeLog(options.options);
      const scope = { job, tables, slice: options.slice ?? wholeSlice };
      const follower = new Follower(log, options.from ?? (await log.head()), scope);
      followers.push(follower);
      return follower;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(followers.map((follower) => follower.stop()));
      await connector.closeAll();
      await root.end().catch(() => root.destroy());
      aborter.abort();
    },
  };
}

/** Pulls batches as fast as they come and remembers them. */
export class Follower {
  readonly log: MysqlChangeLog;
  readonly batches: KeyBatch[] = [];
  readonly #aborter = new AbortController();
  readonly #done: Promise<void>;
  #error: unknown;

  constructor(log: MysqlChangeLog, from: Position, scope: LogScope) {
    this.log = log;
    this.#done = this.#run(from, scope);
  }

  /** Every key of a table in the order of delivery. */
  keys(table: string): string[] {
    return this.batches.flatMap(({ changes }) =>
      changes.filter((change) => change.table === table).flatMap(({ keys }) => keys),
    );
  }

  get position(): Position | undefined {
    return this.batches.findLast((batch) => batch.position !== undefined)?.position;
  }

  get barrier(): number | undefined {
    return this.batches.at(-1)?.barrier;
  }

  /** Waits until the barrier was delivered; fails with what the reader has thrown. */
  async reached(n: number): Promise<void> {
    await this.until(() => (this.barrier ?? 0) >= n, `barrier ${n}`);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = Date.now() + patienceMs;
    while (!condition()) {
      if (this.#error !== undefined) throw this.#error;
      if (Date.now() > deadline) throw new Error(`${what} did not come in ${patienceMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Waits for the reader to stop by itself and returns its error. */
  async failure(): Promise<unknown> {
    await this.until(() => this.#error !== undefined, "the end of the reading").catch(() => {});
    return this.#error ?? new Error("the reading went on");
  }

  async stop(): Promise<void> {
    this.#aborter.abort(new Error("the test has ended"));
    await this.#done;
  }

  async #run(from: Position, scope: LogScope): Promise<void> {
    try {
      for await (const batch of this.log.since(from, scope, this.#aborter.signal)) this.batches.push(batch);
    } catch (error) {
      this.#error = error;
    }
  }
}
