import { invariant, ShardliftError } from "../../errors/error.ts";
import type { KeyValue } from "../../model/key.ts";
import type { Slice } from "../../model/slice.ts";
import type { Catalog, Claim, KeyId, TableShape, TableSpec } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import type { Connector } from "./connect.ts";
import type { ControlPool } from "./control-pool.ts";
import { raiseAutoIncrement, readAutoIncrement } from "./counters.ts";
import { withoutKeys } from "./create-table.ts";
import { shapeOf } from "./describe.ts";
import { openDdl } from "./gate-ddl.ts";
import { compareKeyIds, formatKey } from "./key-codec.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, inTransaction, query, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { writeError } from "./row-errors.ts";
import { sliceWhere } from "./slice-sql.ts";
import { findSplitPoints } from "./split-points.ts";
import { structureDifferences } from "./structure.ts";
import { readTableFacts } from "./table-facts.ts";
import { mysqlTable, type MysqlTable } from "./table.ts";

/**
 * Tables of the session's own database: what they look like, how many rows of a slice they hold, and making them at
 * a target. All names are meant in this server's database, also for a shape that was described at another server.
 * What changes something needs a claim and stamps what it makes, so that abort can tell it from the owner's own.
 */
export class MysqlCatalog implements Catalog {
  readonly #pool: ControlPool;
  readonly #connector: Connector;
  readonly #claim: Claim | undefined;

  constructor(pool: ControlPool, connector: Connector, claim: Claim | undefined) {
    this.#pool = pool;
    this.#connector = connector;
    this.#claim = claim;
  }

  async describe(tables: readonly TableSpec[]): Promise<TableShape[]> {
    const described = await this.#pool.again(async (connection) => {
      const results: (TableShape | string)[] = [];
      for (const spec of tables) results.push(await this.#describe(connection, spec));
      return results;
    });
    const problems = described.filter((result) => typeof result === "string");
    if (problems.length > 0) throw new ShardliftError("E_PREFLIGHT", problems.join("\n"));
    return described.filter((result) => typeof result !== "string");
  }

  async #describe(connection: MysqlConnection, spec: TableSpec): Promise<TableShape | string> {
    const { database, shard } = this.#connector.endpoint;
    const facts = await readTableFacts(connection, database, spec.name);
    if (facts === undefined) return `shard ${shard} has no table ${database}.${spec.name}`;
    if (facts.createSql === "") return `shard ${shard}: ${database}.${spec.name} is a view`;
    const shape = shapeOf(spec, facts);
    return "name" in shape
      ? shape
      : `shard ${shard}: table ${database}.${spec.name} can not be moved: ${shape.join("; ")}`;
  }

  async existing(tables: readonly string[]): Promise<Set<string>> {
    if (tables.length === 0) return new Set();
    const rows = await this.#pool.again((connection) =>
      query<{ name: string }>(
        connection,
        "SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME IN (?)",
        [this.#connector.endpoint.database, tables],
      ),
    );
    return new Set(rows.map((row) => row.name));
  }

  async create(shape: TableShape, { deferIndexes }: { readonly deferIndexes: boolean }): Promise<void> {
    const table = mysqlTable(shape);
    const deferred = deferIndexes ? table.detail.deferrableIndexes.map((index) => index.name) : [];
    await this.#pool.use(async (connection) => {
      // A crash may have come after the CREATE: a table with our stamp is taken over, any other is not ours. While the
      // stamp is not complete somebody else may have been quicker, so then only an empty one is.
      const facts = await readTableFacts(connection, this.#connector.endpoint.database, table.name);
      const stamp = await this.#stampOf(connection, table.name);
      const isTaken =
        facts !== undefined &&
        stamp !== "complete" &&
        (stamp === undefined || (await hasRows(connection, table.name)));
      if (isTaken) throw this.#notOurs(table.name);
      if (facts === undefined) {
        this.#mustBeReadable(table);
        await this.#stamp(connection, table.name, false);
        await execute(connection, withoutKeys(table.detail.createSql, new Set(deferred)));
      }
      await this.#mustMatch(connection, shape);
      await this.#stamp(connection, table.name, true);
    });
  }

  async adopt(shape: TableShape): Promise<void> {
    const own = await this.#pool.use(async (connection) => {
      if ((await this.#stampOf(connection, shape.name)) !== undefined) return true;
      await this.#mustMatch(connection, shape);
      return false;
    });
    // A crash, or a structure that came out wrong, has left it half made. It is there, so nothing is left out any more.
    if (own) await this.create(shape, { deferIndexes: false });
  }

  async buildDeferredIndexes(shape: TableShape): Promise<void> {
    const table = mysqlTable(shape);
    await this.#pool.use(async (connection) => {
      // A table that was here before the job keeps the indexes that its owner gave it.
      if ((await this.#stampOf(connection, table.name)) === undefined) return;
      const facts = await readTableFacts(connection, this.#connector.endpoint.database, table.name);
      const present = new Set(facts?.indexes.map((index) => index.name));
      const clauses = table.detail.deferrableIndexes
        .filter((index) => !present.has(index.name))
        .map((index) => index.clause);
      if (clauses.length === 0) return;
      await assertClaim(connection, this.#mustHaveClaim());
      await execute(connection, `ALTER TABLE ${quoteIdentifier(table.name)} ${clauses.join(", ")}`);
    });
  }

  countRows(shape: TableShape, slice: Slice, limit: number): Promise<number> {
    return this.#count(shape, sliceWhere(mysqlTable(shape), slice), limit);
  }

  countOutside(shape: TableShape, slice: Slice, limit: number): Promise<number> {
    return this.#count(shape, `NOT ${sliceWhere(mysqlTable(shape), slice)}`, limit);
  }

  splitPoints(shape: TableShape, slice: Slice, count: number): Promise<KeyValue[]> {
    return this.#pool.again((connection) => findSplitPoints(connection, mysqlTable(shape), slice, count));
  }

  autoIncrement(shape: TableShape): Promise<{ readonly next: bigint; readonly max: bigint } | undefined> {
    return this.#pool.again((connection) => readAutoIncrement(connection, mysqlTable(shape)));
  }

  async raiseAutoIncrement(shape: TableShape, value: bigint): Promise<void> {
    const claim = this.#mustHaveClaim();
    const table = mysqlTable(shape);
    await this.#pool.again((connection) => assertClaim(connection, claim));
    const connector = this.#connector;
    const tool = { user: connector.endpoint.user };
    // The application works on this table already: an ALTER that waits would stop it (facts/gate 4).
    await using ddl = await openDdl({ connector, tool, limits: { ddlMs: counterMs } }, [table.name], {
      what: "its AUTO_INCREMENT counter",
      tooLong: (message, cause) => new ShardliftError("E_TARGET_BUSY", message, { cause, retryable: true }),
      failed: (cause) => writeError(connector.endpoint.shard, table.name, cause),
    });
    await raiseAutoIncrement(ddl.reader, table, value, (sql) => ddl.run(sql));
  }

  compareKeys(shape: TableShape, a: KeyId, b: KeyId): number {
    return compareKeyIds(mysqlTable(shape), a, b);
  }

  formatKey(shape: TableShape, key: KeyId): string {
    return formatKey(mysqlTable(shape), key);
  }

  async #count(shape: TableShape, where: string, limit: number): Promise<number> {
    invariant(Number.isSafeInteger(limit) && limit > 0, `a count up to ${limit}`);
    const [row] = await this.#pool.again((connection) =>
      query<{ n: string }>(
        connection,
        `SELECT COUNT(*) AS n FROM (SELECT 1 FROM ${quoteIdentifier(shape.name)} WHERE ${where} LIMIT ${limit}) AS part`,
      ),
    );
    return Number(row?.n ?? 0);
  }

  /** The copy reads and writes columns by name and compares rows by text: both tables must agree on all of that. */
  async #mustMatch(connection: MysqlConnection, shape: TableShape): Promise<void> {
    const there = await this.#describe(connection, { name: shape.name, shardKey: shape.shardKey });
    const differences =
      typeof there === "string" ? [there] : structureDifferences(mysqlTable(shape), mysqlTable(there));
    if (differences.length === 0) return;
    throw new ShardliftError(
      "E_STRUCTURE_DIFFERS",
      `shard ${this.#connector.endpoint.shard}: table ${shape.name} does not look like its source: ${differences.join("; ")}`,
    );
  }

  /** What can not be read exactly can not be created; a table that is made by hand is compared by preflight. */
  #mustBeReadable(table: MysqlTable): void {
    const [first, ...more] = table.detail.unreadable ?? [];
    if (first === undefined) return;
    throw new ShardliftError(
      "E_PREFLIGHT",
      `table ${table.name} can not be created from what its server shows: ${[first, ...more].map(({ what }) => what).join(", ")}`,
      {
        next: "Create the table at the target by hand, with the statement that it was created with, and start again.",
      },
    );
  }

  /** `begun`: this job is about to create the table; `complete`: it has. */
  async #stampOf(connection: MysqlConnection, table: string): Promise<"begun" | "complete" | undefined> {
    const [row] = await query<{ complete: number }>(
      connection,
      `SELECT complete AS complete FROM ${ledgerDatabase}.created WHERE job = ? AND tbl = ?`,
      [this.#mustHaveClaim().job, table],
    );
    if (row === undefined) return undefined;
    return row.complete === 1 ? "complete" : "begun";
  }

  async #stamp(connection: MysqlConnection, table: string, complete: boolean): Promise<void> {
    const claim = this.#mustHaveClaim();
    await inTransaction(connection, async () => {
      await assertClaim(connection, claim);
      await execute(
        connection,
        `INSERT INTO ${ledgerDatabase}.created (job, tbl, complete) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE complete = ?`,
        [claim.job, table, complete, complete],
      );
    });
  }

  #mustHaveClaim(): Claim {
    invariant(this.#claim !== undefined, "a session without a claim changes a table");
    return this.#claim;
  }

  #notOurs(table: string): ShardliftError {
    const { shard, database } = this.#connector.endpoint;
    return new ShardliftError(
      "E_PREFLIGHT",
      `shard ${shard} already has a table ${database}.${table}, made by somebody else`,
      {
        next: "Look at the table; plan again, and the job will use it as it is if it has the same columns.",
      },
    );
  }
}

/** For one counter. It is raised before the first try of a cutover, so nobody waits for it. */
const counterMs = 15_000;

async function hasRows(connection: MysqlConnection, table: string): Promise<boolean> {
  const rows = await query(connection, `SELECT 1 AS one FROM ${quoteIdentifier(table)} LIMIT 1`);
  return rows.length > 0;
}
