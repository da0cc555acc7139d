import { createHash } from "node:crypto";
import { ShardliftError } from "../../errors/error.ts";
import type { Claim } from "../engine.ts";
import { execute, query, type MysqlConnection } from "./query.ts";

/**
 * Marks each connection of a job's runner, so that a later runner can end exactly these and know that they are gone
 * (facts/pitfalls 19: DDL can not carry a token). The mark is a named lock of the server (GET_LOCK): it lives as long
 * as the connection, so unlike a recorded connection id it can not be stale after a crash and never names a
 * stranger's connection after a server restart. It writes nothing.
 * Invariant: a connection under a claim holds one mark of (store, job, token). Nothing else in this process may call
 * GET_LOCK or RELEASE_ALL_LOCKS on it.
 */

/** More connections than one runner ever needs at one server. */
const slots = 64;

/** Lock names have at most 64 characters on MySQL (manual, Locking Functions). */
function markName(claim: Claim, slot: number): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([claim.storeId, claim.job, claim.token]))
    .digest("hex");
  return `shardlift:${hash.slice(0, 40)}:${slot}`;
}

export async function takeConnectionMark(connection: MysqlConnection, claim: Claim): Promise<void> {
  for (let slot = 0; slot < slots; slot += 1) {
    const [row] = await query<{ got: string | null }>(
      connection,
      "SELECT CAST(GET_LOCK(?, 0) AS CHAR) AS got",
      [markName(claim, slot)],
    );
    if (row?.got === "1") return;
  }
  throw new ShardliftError("E_BUG", `job ${claim.job} has more than ${slots} connections to one server`);
}

/**
 * Ends every connection that carries a mark of the claim and waits until the server has let go of all: a mark is
 * released after the connection's transaction was rolled back and its statement has ended.
 */
export async function endMarkedConnections(
  connection: MysqlConnection,
  claim: Claim,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  const deadline = Date.now() + options.timeoutMs;
  for (;;) {
    options.signal.throwIfAborted();
    const holders = await markHolders(connection, claim);
    if (holders.length === 0) return;
    if (Date.now() > deadline) {
      throw new ShardliftError(
        "E_TIMEOUT",
        `connections ${holders.join(", ")} of an earlier runner of job ${claim.job} do not end`,
        { next: `KILL them by hand (KILL ${holders[0]}), then run \`shardlift resume\`.` },
      );
    }
    // KILL of a connection of one's own account needs no right; 1094: it has gone meanwhile.
    for (const id of holders) {
      await execute(connection, `KILL CONNECTION ${id}`).catch((error: { errno?: number }) => {
        if (error.errno !== 1094) throw error;
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function markHolders(connection: MysqlConnection, claim: Claim): Promise<string[]> {
  const names = Array.from({ length: slots }, (_, slot) => markName(claim, slot));
  const [row] = await query<Record<string, string | null>>(
    connection,
    `SELECT ${names.map((_, slot) => `CAST(IS_USED_LOCK(?) AS CHAR) AS s${slot}`).join(", ")}`,
    names,
  );
  return [...new Set(Object.values(row ?? {}).filter((id) => id !== null))];
}
