import type { PoolConnection, ResultSetHeader, RowDataPacket } from "mysql2/promise";
import { ShardliftError } from "../errors/error.ts";

/** What a statement gave. `rows` is empty for a write; the counts are zero for a read. */
export interface Result<R = Row> {
  readonly rows: readonly R[];
  readonly affectedRows: number;
  /** The first AUTO_INCREMENT value that was made, in decimal text; "0" when none was. */
  readonly insertId: string;
  readonly shard: string;
}

/** Exact values: BIGINT and DECIMAL as decimal text, dates as the server's text, JSON as text, bytes as Buffer. */
export type Row = Readonly<Record<string, unknown>>;

export type Values = readonly unknown[];

/** SERVER_STATUS_IN_TRANS and SERVER_STATUS_AUTOCOMMIT in the server's OK packet (MySQL protocol, status flags). */
const inTransaction = 1;
const autocommit = 2;

/**
 * One connection to a shard while a piece of work has it. Its owner calls `free` once, whatever happened; a lane whose
 * state is in doubt is spoiled first, and then closed instead of being lent again.
 */
export class Lane {
  readonly shard: string;
  readonly #connection: PoolConnection;
  #spoiled = false;

  constructor(shard: string, connection: PoolConnection) {
    this.shard = shard;
    this.#connection = connection;
  }

  /** Runs one statement. Errors are the driver's own. */
  async run<R = Row>(
    sql: string,
    values?: Values,
  ): Promise<Result<R> & { readonly status: Status | undefined }> {
    const [result] = await this.#connection.query<ResultSetHeader | RowDataPacket[]>(
      sql,
      values === undefined ? [] : [...values],
    );
    if (Array.isArray(result)) {
      return { rows: result as R[], affectedRows: 0, insertId: "0", shard: this.shard, status: undefined };
    }
    return {
      rows: [],
      affectedRows: result.affectedRows,
      insertId: String(result.insertId),
      shard: this.shard,
      status: {
        inTransaction: (result.serverStatus & inTransaction) !== 0,
        autocommit: (result.serverStatus & autocommit) !== 0,
      },
    };
  }

  /** A value as a literal, for statements whose names may themselves hold a question mark. */
  escape(value: unknown): string {
    return this.#connection.escape(value);
  }

  /** Ends the transaction and keeps nothing of it. Never throws: a connection that can not do it is closed instead. */
  async rollback(): Promise<void> {
    if (this.#spoiled) return;
    try {
      await this.run("ROLLBACK");
    } catch {
      // The server rolls back by itself when the connection ends, so the cause adds nothing to the first error.
      this.#spoiled = true;
    }
  }

  /** The connection must not be used again. */
  spoil(): void {
    this.#spoiled = true;
  }

  free(): void {
    if (this.#spoiled) this.#connection.destroy();
    else this.#connection.release();
  }
}

/** What the server says about the session after a statement; the text of a statement proves nothing about it. */
export interface Status {
  readonly inTransaction: boolean;
  readonly autocommit: boolean;
}

/**
 * Refuses statements that would end the transaction, or change a session that others use after this one. A courtesy
 * with a clear message; the server's status flags are looked at as well.
 */
export function refuseSessionStatement(sql: string): void {
  const word = /^(?:\s|--[^\n]*\n|#[^\n]*\n|\/\*(?!!).*?\*\/)*([a-z]+)(?:\s+([a-z]+))?/is.exec(sql);
  const first = word?.[1]?.toUpperCase() ?? "";
  const isPartial = first === "ROLLBACK" && word?.[2]?.toUpperCase() === "TO";
  if (!refused.has(first) || isPartial) return;
  throw new ShardliftError("E_USAGE", `the router does not run ${first} statements`, {
    next:
      first === "COMMIT" || first === "ROLLBACK" || first === "BEGIN" || first === "START"
        ? "use router.transaction: it begins, commits and rolls back by itself"
        : "run it at the shard itself, not through the router",
  });
}

const refused: ReadonlySet<string> = new Set(
  (
    "ALTER BEGIN CALL CHANGE COMMIT CREATE DEALLOCATE DROP EXECUTE FLUSH GRANT HANDLER KILL LOAD LOCK OPTIMIZE PREPARE " +
    "RENAME REPAIR RESET REVOKE ROLLBACK SET SHUTDOWN START STOP TRUNCATE UNLOCK USE XA"
  ).split(" "),
);
