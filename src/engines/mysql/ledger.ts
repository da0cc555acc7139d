import { invariant } from "../../errors/error.ts";
import type { Slice } from "../../model/slice.ts";
import type { Checkpoint, Claim, KeyInterval, Ledger, Position, TableShape } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import type { Connector } from "./connect.ts";
import type { ControlPool } from "./control-pool.ts";
import { isLockConflict, isMissingObject } from "./errors.ts";
import { takeClaim } from "./ledger-claim.ts";
import { deleteSliceRows, dropCreatedTable } from "./ledger-clean.ts";
import { createLedger, dropLedger, ledgerTablesHere, withInstallLock } from "./ledger-install.ts";
import { ledgerDatabase, ledgerTables } from "./ledger-schema.ts";
import { execute, inTransaction, query, type MysqlConnection } from "./query.ts";
import { mysqlTable } from "./table.ts";

/**
 * The job's own rows at one server (tables: ledger-schema.ts). Progress lives at the target, beside the data it speaks
 * of, so that both commit together (rule 7).
 * Invariant: what is written here is written under the claim, in the transaction that proves it. Reading needs no
 * claim; a server where nothing was ever installed reads as empty.
 */
export class MysqlLedger implements Ledger {
  readonly #pool: ControlPool;
  readonly #claim: Claim | undefined;
  readonly #connector: Connector;

  constructor(pool: ControlPool, claim: Claim | undefined, connector: Connector) {
    this.#pool = pool;
    this.#claim = claim;
    this.#connector = connector;
  }

  install(): Promise<void> {
    return this.#pool.use((connection) => withInstallLock(connection, () => createLedger(connection)));
  }

  /**
   * Installs what is missing first. The install lock is not held while the old runner is ended, which may take long;
   * should another job's uninstall come in between, it starts over.
   */
  async claim(): Promise<void> {
    const limits = { signal: this.#connector.signal, timeoutMs: 60_000 };
    // A frozen runner may stand on the lease row: each try at it is short.
    const connection = await this.#connector.connect("control", { innodb_lock_wait_timeout: 1 });
    await using _closing = { [Symbol.asyncDispose]: () => this.#connector.close(connection) };
    for (let attempt = 1; ; attempt += 1) {
      await this.install();
      try {
        await takeClaim(connection, this.#mustHaveClaim(), limits);
        return;
      } catch (error) {
        if (!isMissingObject(error) || attempt === 3) throw error;
      }
    }
  }

  async claims(): Promise<Claim[]> {
    const rows = await this.#read<{ storeId: string; job: string; token: string }>(
      `SELECT store_id AS storeId, job, token FROM ${ledgerDatabase}.lease ORDER BY job`,
    );
    return rows.map(({ storeId, job, token }) => ({ storeId, job, token: Number(token) }));
  }

  async checkpoint(source: string): Promise<Checkpoint | undefined> {
    const [row] = await this.#read<{ position: Position; sourceServer: string; savedAt: string }>(
      `SELECT position, source_server AS sourceServer, CAST(saved_at AS CHAR) AS savedAt
         FROM ${ledgerDatabase}.checkpoint WHERE job = ? AND source = ?`,
      [this.#mustHaveClaim().job, source],
    );
    // The session's time zone is UTC.
    return row === undefined ? undefined : { ...row, savedAt: `${row.savedAt.replace(" ", "T")}Z` };
  }

  /** May run twice: the same position is saved again. An earlier try whose outcome is open holds the row's lock. */
  saveCheckpoint(source: string, position: Position, sourceServer: string): Promise<void> {
    const claim = this.#mustHaveClaim();
    return this.#writeAgain(async (connection) => {
      await execute(
        connection,
        `INSERT INTO ${ledgerDatabase}.checkpoint (job, source, position, source_server, saved_at)
         VALUES (?, ?, ?, ?, CURRENT_TIMESTAMP(6))
         ON DUPLICATE KEY UPDATE position = ?, source_server = ?, saved_at = CURRENT_TIMESTAMP(6)`,
        [claim.job, source, position, sourceServer, position, sourceServer],
      );
    });
  }

  async loadedChunks(source: string): Promise<{ table: string; interval: KeyInterval; rows: number }[]> {
    const rows = await this.#read<{ tbl: string; lo: string | null; hi: string | null; rowCount: string }>(
      `SELECT tbl, lo, hi, row_count AS rowCount FROM ${ledgerDatabase}.chunk WHERE job = ? AND source = ? ORDER BY id`,
      [this.#mustHaveClaim().job, source],
    );
    return rows.map(({ tbl, lo, hi, rowCount }) => ({
      table: tbl,
      interval: { from: lo ?? undefined, to: hi ?? undefined },
      rows: Number(rowCount),
    }));
  }

  deleteSlice(shape: TableShape, slice: Slice, signal: AbortSignal): Promise<number> {
    return this.#pool.use((connection) =>
      deleteSliceRows(connection, this.#mustHaveClaim(), mysqlTable(shape), slice, signal),
    );
  }

  dropCreated(shape: TableShape, slice: Slice): Promise<void> {
    return this.#pool.use((connection) =>
      dropCreatedTable(connection, this.#mustHaveClaim(), mysqlTable(shape), slice),
    );
  }

  /** The lease row goes in the last transaction: until then a takeover by another runner is noticed. */
  async uninstall(): Promise<void> {
    const claim = this.#mustHaveClaim();
    await this.#pool.use((connection) =>
      withInstallLock(connection, async () => {
        const tables = await ledgerTablesHere(connection);
        if (tables === undefined || !tables.has("lease")) return;
        await inTransaction(connection, async () => {
          if ((await leaseOf(connection, claim.job)) === undefined) return;
          await assertClaim(connection, claim);
          for (const table of Object.keys(ledgerTables)) {
            await execute(connection, `DELETE FROM ${ledgerDatabase}.${table} WHERE job = ?`, [claim.job]);
          }
        });
        const others = await query(connection, `SELECT job FROM ${ledgerDatabase}.lease LIMIT 1`);
        if (others.length === 0) await dropLedger(connection);
      }),
    );
  }

  leftovers(): Promise<string[]> {
    return this.#pool.again(async (connection) => {
      const tables = await ledgerTablesHere(connection);
      const found = tables === undefined ? [] : [`database ${ledgerDatabase}`];
      for (const table of [...(tables ?? [])].toSorted()) {
        found.push(`table ${ledgerDatabase}.${table}`);
        if (table in ledgerTables) found.push(...(await rowsOf(connection, table)));
      }
      const triggers = await query<{ db: string; name: string; tbl: string }>(
        connection,
        `SELECT TRIGGER_SCHEMA AS db, TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS tbl
           FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'shardlift\\_%' ORDER BY 1, 2`,
      );
      return [...found, ...triggers.map(({ db, name, tbl }) => `trigger ${db}.${name} on ${db}.${tbl}`)];
    });
  }

  /** Nothing installed reads as no rows. */
  #read<T extends object>(sql: string, values: readonly string[] = []): Promise<T[]> {
    return this.#pool.again(async (connection) => {
      try {
        return await query<T>(connection, sql, values);
      } catch (error) {
        if (isMissingObject(error)) return [];
        throw error;
      }
    });
  }

  #writeAgain(body: (connection: MysqlConnection) => Promise<void>): Promise<void> {
    const write = (connection: MysqlConnection): Promise<void> =>
      inTransaction(connection, async () => {
        await assertClaim(connection, this.#mustHaveClaim());
        await body(connection);
      });
    return this.#pool.again(write, isLockConflict);
  }

  #mustHaveClaim(): Claim {
    invariant(this.#claim !== undefined, "a session without a claim asks for a job's rows");
    return this.#claim;
  }
}

async function leaseOf(connection: MysqlConnection, job: string): Promise<object | undefined> {
  const [row] = await query(connection, `SELECT job FROM ${ledgerDatabase}.lease WHERE job = ?`, [job]);
  return row;
}

async function rowsOf(connection: MysqlConnection, table: string): Promise<string[]> {
  const rows = await query<{ job: string; n: string }>(
    connection,
    `SELECT job, COUNT(*) AS n FROM ${ledgerDatabase}.${table} GROUP BY job ORDER BY job`,
  );
  return rows.map(({ job, n }) => `${n} rows of job ${job} in ${ledgerDatabase}.${table}`);
}
