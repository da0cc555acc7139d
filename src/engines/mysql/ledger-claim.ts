import { ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim } from "../engine.ts";
import { endMarkedConnections } from "./connection-mark.ts";
import { isLockConflict } from "./errors.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, inTransaction, query, type MysqlConnection } from "./query.ts";

/**
 * Takes a job over at one server (facts/pitfalls 18, 19): the token first, then the end of the old runner's
 * connections, and only then does the new runner look at anything. When this returns, no transaction of an older
 * token is open or can commit, and no DDL of an older runner is under way.
 */
export async function takeClaim(
  connection: MysqlConnection,
  claim: Claim,
  limits: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  const deadline = Date.now() + limits.timeoutMs;
  for (;;) {
    limits.signal.throwIfAborted();
    const before = await readLease(connection, claim.job);
    mustNotBeHeld(before, claim);
    try {
      await writeToken(connection, claim);
      if (before !== undefined && before.token < claim.token)
        await endMarkedConnections(connection, before, limits);
      return;
    } catch (error) {
      if (!isLockConflict(error) || Date.now() > deadline) throw error;
      // The old runner stands in a transaction and may be frozen. Its work is lost either way: end it, try again.
      if (before !== undefined && before.token < claim.token)
        await endMarkedConnections(connection, before, limits);
      await sleep(50, limits.signal);
    }
  }
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
