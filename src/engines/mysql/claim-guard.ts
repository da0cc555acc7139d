import { createHash } from "node:crypto";
import { invariant, ShardliftError } from "../../errors/error.ts";
import type { Claim, KeyInterval } from "../engine.ts";
import { isDuplicateKey } from "./errors.ts";
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

export interface Chunk {
  readonly source: string;
  readonly table: string;
  readonly interval: KeyInterval;
}

/**
 * Takes a chunk's place in the progress, as the first write of the transaction that loads it (after `assertClaim`).
 * While an earlier transaction with this chunk is undecided (its COMMIT was sent and its answer lost), this waits for
 * it. Throws E_COMMIT_UNKNOWN when the chunk turns out to be loaded: loading it again would only collide with its own
 * rows, and the caller reads the progress.
 */
export async function reserveChunk(connection: MysqlConnection, claim: Claim, chunk: Chunk): Promise<void> {
  const { source, table, interval } = chunk;
  const place = placeOf(claim, chunk);
  const hi = interval.to ?? null;
  try {
    await execute(
      connection,
      `INSERT INTO ${ledgerDatabase}.chunk (job, source, tbl, lo, hi, row_count, place) VALUES (?, ?, ?, ?, ?, 0, ?)`,
      [claim.job, source, table, interval.from ?? null, hi, place],
    );
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    const [loaded] = await query<{ hi: string | Buffer | null }>(
      connection,
      `SELECT hi AS hi FROM ${ledgerDatabase}.chunk WHERE place = ?`,
      [place],
    );
    const end = loaded?.hi ?? null;
    const asAsked = loaded !== undefined && (end === null ? null : String(end)) === hi;
    throw new ShardliftError(
      "E_COMMIT_UNKNOWN",
      asAsked
        ? `the chunk of table ${table} from ${interval.from ?? "the beginning"} is loaded already`
        : `the chunk of table ${table} from ${interval.from ?? "the beginning"} was loaded meanwhile up to another end`,
      // Up to another end: what this runner believes to be copied is out of date, only a new start reads it anew.
      { cause: error, retryable: asAsked },
    );
  }
}

/** Completes the chunk's row before the commit. */
export async function recordChunkRows(
  connection: MysqlConnection,
  claim: Claim,
  chunk: Chunk,
  rows: number,
): Promise<void> {
  // Matched, not changed: an empty chunk keeps its 0 (FOUND_ROWS is the driver's default).
  const { affectedRows } = await execute(
    connection,
    `UPDATE ${ledgerDatabase}.chunk SET row_count = ? WHERE place = ?`,
    [rows, placeOf(claim, chunk)],
  );
  invariant(
    affectedRows === 1,
    `the progress row of a chunk of ${chunk.table} was matched ${affectedRows} times`,
  );
}

function placeOf({ job }: Claim, { source, table, interval }: Chunk): Uint8Array {
  return createHash("sha256")
    .update(JSON.stringify([job, source, table, interval.from ?? null]))
    .digest();
}
