import { ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim } from "../engine.ts";
import { endMarkedConnections } from "./connection-mark.ts";
import { isDenied, isLockConflict, isMissingObject } from "./errors.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, inTransaction, query, type MysqlConnection } from "./query.ts";

/**
 * Takes a job over at one server (facts/pitfalls 18, 19): the end of the old runners' connections, the token, once
 * more the end of what they have opened meanwhile, and only then does the new runner look at anything. When this
 * returns, no transaction of an older token is open or can commit, and no DDL of an older runner is under way; one
 * that connects later is refused (`mustNotBeOvertaken`).
 * There may be several old runners: one that dies between its token and the end of its predecessor's connections
 * leaves both. So each writes its own token down first, and only the end of all connections removes it again.
 */
export async function takeClaim(
  connection: MysqlConnection,
  claim: Claim,
  limits: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  const deadline = Date.now() + limits.timeoutMs;
  for (;;) {
    limits.signal.throwIfAborted();
    mustNotBeHeld(await readLease(connection, claim.job), claim);
    try {
      await execute(connection, `INSERT IGNORE INTO ${ledgerDatabase}.runner (job, token) VALUES (?, ?)`, [
        claim.job,
        claim.token,
      ]);
      // They may stand on the lease row, frozen in a transaction.
      await endEarlier(connection, claim, limits);
      await writeToken(connection, claim);
      await endEarlier(connection, claim, limits);
      await execute(connection, `DELETE FROM ${ledgerDatabase}.runner WHERE job = ? AND token < ?`, [
        claim.job,
        claim.token,
      ]);
      return;
    } catch (error) {
      if (!isLockConflict(error) || Date.now() > deadline) throw error;
      await sleep(50, limits.signal);
    }
  }
}

/** Ends the connections of every lower token that is on record. */
async function endEarlier(
  connection: MysqlConnection,
  claim: Claim,
  limits: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  const rows = await query<{ token: string }>(
    connection,
    `SELECT CAST(token AS CHAR) AS token FROM ${ledgerDatabase}.runner WHERE job = ? AND token < ?
     UNION SELECT CAST(token AS CHAR) FROM ${ledgerDatabase}.lease WHERE job = ? AND token < ?`,
    [claim.job, claim.token, claim.job, claim.token],
  );
  for (const { token } of rows) {
    await endMarkedConnections(connection, { ...claim, token: Number(token) }, limits);
  }
}

/**
 * Refuses a new connection of a runner that was overtaken. The connection must carry its mark already: then either the
 * takeover has seen the mark and ends the connection, or this sees the takeover's token. Without it a runner that was
 * asleep between its proof and a DDL statement would run that on a connection which nobody ends.
 */
export async function mustNotBeOvertaken(connection: MysqlConnection, claim: Claim): Promise<void> {
  let lease: Claim | undefined;
  try {
    lease = await readLease(connection, claim.job);
  } catch (error) {
    // Nothing was installed at this server yet, or the account has no right to look: then it can not write either.
    if (isMissingObject(error) || isDenied(error)) return;
    throw error;
  }
  if (lease?.storeId === claim.storeId) mustNotBeHeld(lease, claim);
}

/** `WHERE token <= ?` under the row's lock: a runner that was overtaken between the look and the write changes nothing. */
async function writeToken(connection: MysqlConnection, claim: Claim): Promise<void> {
  await inTransaction(connection, async () => {
    await execute(
      connection,
      `INSERT INTO ${ledgerDatabase}.lease (job, store_id, token) VALUES (?, ?, ?)
       ON DUPLICATE KEY UPDATE token = IF(store_id = ?, GREATEST(token, ?), token)`,
      [claim.job, claim.storeId, claim.token, claim.storeId, claim.token],
    );
    const now = await readLease(connection, claim.job, "FOR UPDATE");
    mustNotBeHeld(now, claim);
  });
}

async function readLease(connection: MysqlConnection, job: string, lock = ""): Promise<Claim | undefined> {
  const [row] = await query<{ storeId: string; token: string }>(
    connection,
    `SELECT store_id AS storeId, token FROM ${ledgerDatabase}.lease WHERE job = ? ${lock}`,
    [job],
  );
  return row === undefined ? undefined : { storeId: row.storeId, job, token: Number(row.token) };
}

function mustNotBeHeld(lease: Claim | undefined, claim: Claim): void {
  if (lease === undefined) return;
  if (lease.storeId !== claim.storeId) {
    throw new ShardliftError(
      "E_JOB_HELD",
      `job ${claim.job} at this server belongs to the control store ${lease.storeId}, not to ${claim.storeId}`,
      { next: "Use the control store that the job was started with; two stores must never drive one job." },
    );
  }
  if (lease.token > claim.token) {
    throw new ShardliftError(
      "E_JOB_HELD",
      `job ${claim.job} was taken over: this runner has token ${claim.token}, the server knows ${lease.token}`,
    );
  }
}
