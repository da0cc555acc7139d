import { ShardliftError } from "../../errors/error.ts";
import type { Claim, KeyInterval } from "../engine.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, query, type MysqlConnection } from "./query.ts";

/**
 * Proves inside the current transaction that this runner still holds the job (facts/pitfalls 18): the shared lock on
 * the lease row makes a takeover wait for this transaction, and a takeover that came first shows its token here. Call
 * it before the first write of every transaction at a server, on the connection that writes; several writers of one
 * runner hold it side by side. Throws E_JOB_HELD, and then the caller rolls back.
 */
export async function assertClaim(connection: MysqlConnection, claim: Claim): Promise<void> {
  const rows = await query<{ token: string; storeId: string | Buffer }>(
    connection,
    `SELECT token, store_id AS storeId FROM ${ledgerDatabase}.lease WHERE job = ? LOCK IN SHARE MODE`,
    [claim.job],
  );
  const row = rows[0];
  if (row !== undefined && row.token === String(claim.token) && String(row.storeId) === claim.storeId) return;
  throw new ShardliftError(
    "E_JOB_HELD",
    row === undefined
      ? `job ${claim.job} has no lease row at this server any more`
      : `job ${claim.job} was taken over: this runner has token ${claim.token}, the server knows ${row.token}`,
  );
}

/** Saves that a chunk is loaded, in the transaction that loads it. Call after `assertClaim`. */
export async function recordChunk(
  connection: MysqlConnection,
  claim: Claim,
  chunk: {
    readonly source: string;
    readonly table: string;
    readonly interval: KeyInterval;
    readonly rows: number;
  },
): Promise<void> {
  await execute(
    connection,
    `INSERT INTO ${ledgerDatabase}.chunk (job, source, tbl, lo, hi, row_count) VALUES (?, ?, ?, ?, ?, ?)`,
    [
      claim.job,
      chunk.source,
      chunk.table,
      chunk.interval.from ?? null,
      chunk.interval.to ?? null,
      chunk.rows,
    ],
  );
}
