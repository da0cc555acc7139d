import { invariant, ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim, KeyId, LoadRequest, RecopyRequest, RowStream, TableShape, Writer } from "../engine.ts";
import { assertClaim, recordChunkRows, reserveChunk } from "./claim-guard.ts";
import { ConnectionPool, rowSessionVariables } from "./connection-pool.ts";
import type { Connector } from "./connect.ts";
import { isConnectionLost, isLockConflict } from "./errors.ts";
import { execute, kill, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { rowForm } from "./row-columns.ts";
import { writeError } from "./row-errors.ts";
import { mysqlRows } from "./row-stream.ts";
import { mysqlTable } from "./table.ts";
import { DuplicateRows, mustBeWhole } from "./writer-answer.ts";
import { deleteKeys, type RowWrite } from "./writer-delete.ts";
import { startBlocks } from "./writer-blocks.ts";
import { patchJson } from "./writer-json.ts";
import { loadRows, loadStatement } from "./writer-load.ts";
import { RaceLost, writeSpooled } from "./unique-conflicts.ts";

/**
 * Writes rows at the target: one transaction with the claim, the deletes, the rows and the progress (rules 4, 6, 7).
 * A chunk's progress row is the first write and unique, so that no chunk is ever loaded twice.
 *
 * The straight path deletes and loads, and trusts no count: a skipped row, any warning or a difference rolls back.
 * When a unique key was in the way, the rows are read again into a temporary table and the conflict is settled there
 * (unique-conflicts.ts). Deadlocks and lock timeouts run the whole transaction again, with the rows read anew.
 */
export class MysqlWriter implements Writer {
  readonly #pool: ConnectionPool;
  readonly #connector: Connector;
  readonly #claim: Claim;

  constructor(connector: Connector, claim: Claim) {
    this.#connector = connector;
    this.#pool = new ConnectionPool(connector, "write", rowSessionVariables);
    this.#claim = claim;
  }

  async load(request: LoadRequest, rows: RowStream): Promise<void> {
    const { shape, source, interval } = request;
    const chunk = { source, table: shape.name, interval };
    const progress = {
      reserve: (connection: MysqlConnection) => reserveChunk(connection, this.#claim, chunk),
      complete: (connection: MysqlConnection) =>
        recordChunkRows(connection, this.#claim, chunk, rows.rowCount()),
    };
    await this.#write({ ...this.#rowWrite(request, rows), progress }, false);
  }

  async recopy(request: RecopyRequest, rows: RowStream): Promise<void> {
    const { keys, shape, mayReplace } = request;
    invariant(keys.length > 0, "a recopy of no keys");
    await this.#write({ ...this.#rowWrite(request, rows), asked: keys }, mayReplace && isReplaceable(shape));
  }

  #rowWrite(request: LoadRequest | RecopyRequest, rows: RowStream): RowWrite {
    const table = mysqlTable(request.shape);
    const { endpoint, facts } = this.#connector;
    return {
      table,
      form: rowForm(table, facts.flavor),
      slice: request.slice,
      shard: endpoint.shard,
      rows: mysqlRows(rows),
      displaced: request.displaced,
    };
  }

  async #write(write: RowWrite, replace: boolean): Promise<void> {
    try {
      await this.#whenFree(write, (connection) => this.#straight(connection, write, replace));
    } catch (error) {
      if (!(error instanceof DuplicateRows)) throw error;
      await this.#whenFree(write, (connection) =>
        writeSpooled(connection, write, (body) => this.#transaction(connection, write, body)),
      );
    }
  }

  async #straight(connection: MysqlConnection, write: RowWrite, replace: boolean): Promise<void> {
    const { table, form, rows, asked } = write;
    // The source starts reading while the target proves the claim and deletes.
    await using blocks = startBlocks(rows.blocks);
    await this.#transaction(connection, write, async () => {
      if (asked !== undefined && !replace) await deleteKeys(connection, write, asked);
      if (!(await blocks.empty())) {
        const statement = loadStatement(quoteIdentifier(table.name), form, replace);
        const answer = await loadRows(connection, statement, blocks);
        await mustBeWhole(connection, write, answer);
      }
      await patchJson(connection, write);
      if (asked !== undefined && replace) await deleteKeys(connection, write, withoutFound(asked, rows.keys));
      await write.progress?.complete(connection);
    });
  }

  async #transaction(
    connection: MysqlConnection,
    { progress }: RowWrite,
    body: () => Promise<void>,
  ): Promise<void> {
    await execute(connection, "BEGIN");
    try {
      await assertClaim(connection, this.#claim);
      await progress?.reserve(connection);
      await body();
    } catch (error) {
      await execute(connection, "ROLLBACK").catch(() => kill(connection, error));
      throw error;
    }
    await this.#commit(connection);
  }

  async #commit(connection: MysqlConnection): Promise<void> {
    try {
      await execute(connection, "COMMIT");
    } catch (error) {
      if (!isConnectionLost(error)) throw error;
      kill(connection, error);
      // It may have happened: whoever goes on reads the progress row first (rule 7).
      throw new ShardliftError(
        "E_COMMIT_UNKNOWN",
        `the answer to a commit at shard ${this.#connector.endpoint.shard} was lost`,
        {
          cause: error,
          retryable: true,
        },
      );
    }
  }

  /** Runs a whole transaction, again when another one was in the way. */
  async #whenFree(write: RowWrite, body: (connection: MysqlConnection) => Promise<void>): Promise<void> {
    const { table, shard } = write;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#pool.use(body);
      } catch (error) {
        if (error instanceof DuplicateRows) throw error;
        if (!isLockConflict(error) && !(error instanceof RaceLost))
          throw writeError(shard, table.name, error);
        if (attempt === maxAttempts) throw busy(write, error);
        // Two transactions that have just met must not start again in step.
        await sleep(2 ** attempt * (5 + Math.random() * 10), this.#connector.signal);
      }
    }
  }
}

/**
 * Whether REPLACE can hit nothing but the row itself: no unique key besides the primary one; keys that this process
 * equates as the server does ('a' may be asked for and 'A' read, rule 5: then all asked keys are deleted); and the
 * shard key in the key, else a row outside the slice could hold it.
 */
function isReplaceable({ secondaryUniqueKeys, keyOrder, primaryKey, shardKey }: TableShape): boolean {
  return secondaryUniqueKeys.length === 0 && keyOrder === "client" && primaryKey.includes(shardKey);
}

/** Each takes at most innodb_lock_wait_timeout; the caller tries again with a new barrier after that. */
const maxAttempts = 5;

function busy({ table, shard }: RowWrite, cause: unknown): ShardliftError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ShardliftError("E_TARGET_BUSY", `table ${table.name} at shard ${shard}: ${reason}`, {
    cause,
    retryable: true,
  });
}

function withoutFound(asked: readonly KeyId[], found: readonly KeyId[]): KeyId[] {
  const present = new Set(found);
  return asked.filter((key) => !present.has(key));
}
