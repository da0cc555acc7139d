import { invariant, ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim, GateState } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import type { Connector } from "./connect.ts";
import { isConnectionLost, isInterrupted, isLockConflict, isMissingObject } from "./errors.ts";
import { gateTable } from "./gate-sql.ts";
import { execute, inTransaction, query, type Bindable, type MysqlConnection } from "./query.ts";
import type { ServerFacts } from "./server-facts.ts";

/**
 * The gate's row: read it, lock it, prove that it is still this runner's.
 * Invariant: nothing here waits without a bound. Writers of the slice hold shared locks on the row, also those that
 * were refused and have not ended their transaction, so that every exclusive lock may time out or be chosen as a
 * deadlock's victim; that is normal and the caller tries again (facts/gate 3).
 */
export interface GateRow extends GateState {
  readonly storeId: string;
}

/** What every part of the gate works with. */
export interface GateContext {
  readonly connector: Connector;
  /** Absent in a session for reading only. */
  readonly claim: Claim | undefined;
  readonly tool: {
    /** As USER() names it: who passes the gate. */
    readonly user: string;
    /** As CURRENT_USER() names it: who must be the definer of our triggers. */
    readonly definer: string;
  };
  readonly limits: GateLimits;
}

export interface GateLimits {
  /** For the triggers of one `arm` or `disarm`. */
  readonly ddlMs: number;
  /** For one change of the gate's row. */
  readonly rowMs: number;
  /** For reading back a commit whose answer was lost. Longer than the closer's wait_timeout of 2 s. */
  readonly confirmMs: number;
}

export async function readGateRow(connection: MysqlConnection, job: string): Promise<GateRow | undefined> {
  try {
    return decodeRow(await query<RawRow>(connection, `${selectRow} WHERE job = ?`, [job]));
  } catch (error) {
    // Nothing was ever installed at this server.
    if (isMissingObject(error)) return undefined;
    throw error;
  }
}

/** A read that waits for whoever holds the row exclusively: what it shows is committed and is not about to change. */
export async function readGateRowLocked(
  connection: MysqlConnection,
  job: string,
): Promise<GateRow | undefined> {
  return decodeRow(await query<RawRow>(connection, `${selectRow} WHERE job = ? LOCK IN SHARE MODE`, [job]));
}

/**
 * Takes the row exclusively inside the connection's transaction, waiting `waitMs` at most. New writers queue behind
 * the waiting request on both servers, so that it can not starve, and for the same reason it must be short.
 */
export async function lockGateRow(
  connection: MysqlConnection,
  flavor: ServerFacts["flavor"],
  job: string,
  waitMs: number,
): Promise<GateRow | undefined> {
  // Both bound lock waits, measured (facts/gate 3): 3024 after 101 ms on MySQL, 1969 on MariaDB.
  const sql =
    flavor === "mysql"
      ? selectRow.replace("SELECT", `SELECT /*+ MAX_EXECUTION_TIME(${Math.ceil(waitMs)}) */`)
      : `SET STATEMENT max_statement_time = ${(waitMs / 1000).toFixed(3)} FOR ${selectRow}`;
  return decodeRow(await query<RawRow>(connection, `${sql} WHERE job = ? FOR UPDATE`, [job]));
}

/**
 * Makes the locked row this runner's, or throws E_JOB_HELD. Call it after `assertClaim` in the same transaction: the
 * lease has then proved that no token is newer than ours, so an older one in the row was left by a runner that is gone
 * (its connections were ended at the takeover), and a newer one means that we are the stale runner.
 */
export async function takeGateRow(
  connection: MysqlConnection,
  row: GateRow | undefined,
  claim: Claim,
): Promise<GateRow> {
  mustNotBeForeign(row, claim);
  if (row.token === claim.token) return row;
  await writeOne(connection, `UPDATE ${gateTable} SET token = ? WHERE job = ? AND token = ?`, [
    claim.token,
    claim.job,
    row.token,
  ]);
  return { ...row, token: claim.token };
}

export function mustNotBeForeign(row: GateRow | undefined, claim: Claim): asserts row is GateRow {
  const why = whyForeign(row, claim);
  if (why !== undefined) throw new ShardliftError("E_JOB_HELD", why);
}

function whyForeign(row: GateRow | undefined, claim: Claim): string | undefined {
  if (row === undefined) {
    return `job ${claim.job} has no gate at this server: it was never armed, or another runner has removed it`;
  }
  if (row.storeId !== claim.storeId) {
    return `the gate of job ${claim.job} belongs to the control store ${row.storeId}, not to ${claim.storeId}`;
  }
  if (row.token > claim.token) {
    return `the gate of job ${claim.job} carries token ${row.token}, this runner has ${claim.token}`;
  }
  return undefined;
}

/** One row or stop: the row is locked, so anything else is a bug. */
export async function writeOne(
  connection: MysqlConnection,
  sql: string,
  values: readonly Bindable[],
): Promise<void> {
  const { affectedRows } = await execute(connection, sql, values);
  invariant(affectedRows === 1, `a locked gate row was matched ${affectedRows} times: ${sql}`);
}

/**
 * Changes the row in a transaction of its own that proves the claim, again and again until the locks allow it, also
 * over a lost connection. `change` gets the row as it is under the lock; it may run several times, also after a commit
 * whose answer was lost.
 */
export async function changeGateRow(
  { connector, limits }: GateContext,
  claim: Claim,
  change: (connection: MysqlConnection, row: GateRow | undefined) => Promise<void>,
): Promise<void> {
  const deadline = performance.now() + limits.rowMs;
  for (;;) {
    try {
      await changeOnce(connector, claim, change);
      return;
    } catch (error) {
      if (!mayTryAgain(error)) throw error;
      if (performance.now() > deadline) throw timedOut(claim.job, limits.rowMs, error);
    }
    await sleep(20 + Math.random() * 60, connector.signal);
  }
}

async function changeOnce(
  connector: Connector,
  claim: Claim,
  change: (connection: MysqlConnection, row: GateRow | undefined) => Promise<void>,
): Promise<void> {
  const connection = await connector.connect("control", { innodb_lock_wait_timeout: 1 });
  try {
    await inTransaction(connection, async () => {
      await assertClaim(connection, claim);
      await change(connection, await lockGateRow(connection, connector.facts.flavor, claim.job, attemptMs));
    });
  } finally {
    await connector.close(connection);
  }
}

function mayTryAgain(error: unknown): boolean {
  if (error instanceof ShardliftError) return error.code === "E_CONNECT" && error.retryable;
  return isLockConflict(error) || isInterrupted(error) || isConnectionLost(error);
}

/** Long enough for a refused transaction to end, short enough not to hold up those that queue behind us. */
const attemptMs = 250;

function timedOut(job: string, totalMs: number, cause: unknown): ShardliftError {
  return new ShardliftError(
    "E_TIMEOUT",
    `the gate of job ${job} could not be changed within ${totalMs} ms: its row stays locked by writers`,
    { cause, retryable: true },
  );
}

const selectRow = `SELECT job, CAST(store_id AS CHAR) AS storeId, CAST(token AS CHAR) AS token, role, state, CAST(after_epoch AS CHAR) AS afterEpoch FROM ${gateTable}`;

type RawRow = Readonly<Record<"job" | "storeId" | "token" | "role" | "state" | "afterEpoch", string>>;

function decodeRow([raw]: readonly RawRow[]): GateRow | undefined {
  if (raw === undefined) return undefined;
  const { role, state } = raw;
  const token = Number(raw.token);
  const afterEpoch = Number(raw.afterEpoch);
  invariant(
    Number.isSafeInteger(token) && Number.isSafeInteger(afterEpoch),
    `gate row of ${raw.job}: numbers too large`,
  );
  invariant(role === "gate" || role === "mirror", `gate row of ${raw.job}: role ${role}`);
  invariant(state === "open" || state === "closed", `gate row of ${raw.job}: state ${state}`);
  return { job: raw.job, storeId: raw.storeId, token, role, state, afterEpoch };
}
