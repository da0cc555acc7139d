import { invariant, ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim, GateState } from "../engine.ts";
import type { Connector } from "./connect.ts";
import { isInterrupted, isLockConflict, isMissingObject } from "./errors.ts";
import { gateTable } from "./gate-sql.ts";
import { execute, kill, query, type MysqlConnection } from "./query.ts";
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

/** Throws E_JOB_HELD unless the row is there and carries the claim. Returns it. */
export function mustBeOurs(row: GateRow | undefined, claim: Claim): GateRow {
  if (row === undefined) {
    throw new ShardliftError(
      "E_JOB_HELD",
      `job ${claim.job} has no gate row at this server: it was never armed, or another runner has removed it`,
    );
  }
  if (row.storeId !== claim.storeId) {
    throw new ShardliftError(
      "E_JOB_HELD",
      `the gate of job ${claim.job} belongs to the control store ${row.storeId}, not to ${claim.storeId}`,
    );
  }
  if (row.token !== claim.token) {
    throw new ShardliftError(
      "E_JOB_HELD",
      `the gate of job ${claim.job} carries token ${row.token}, this runner has ${claim.token}`,
    );
  }
  return row;
}

/**
 * Changes the row in a transaction of its own, again and again until the locks allow it. `change` gets the row as it
 * is under the lock, proves its right to it and writes; it may run several times.
 */
export async function changeGateRow(
  { connector }: GateContext,
  job: string,
  totalMs: number,
  change: (connection: MysqlConnection, row: GateRow | undefined) => Promise<void>,
): Promise<void> {
  const deadline = performance.now() + totalMs;
  const connection = await connector.connect("control", { innodb_lock_wait_timeout: 1 });
  try {
    for (;;) {
      try {
        await execute(connection, "BEGIN");
        await change(connection, await lockGateRow(connection, connector.facts.flavor, job, attemptMs));
        await execute(connection, "COMMIT");
        return;
      } catch (error) {
        await execute(connection, "ROLLBACK").catch(() => kill(connection, error));
        if (!isLockConflict(error) && !isInterrupted(error)) throw error;
        if (performance.now() > deadline) throw timedOut(job, totalMs, error);
      }
      await sleep(20 + Math.random() * 60, connector.signal);
    }
  } finally {
    await connector.close(connection);
  }
}

/** Long enough for a refused transaction to end, short enough not to hold up those that queue behind us. */
const attemptMs = 250;

function timedOut(job: string, totalMs: number, cause: unknown): ShardliftError {
  return new ShardliftError(
    "E_TIMEOUT",
    `the gate of job ${job} could not be changed within ${totalMs} ms: its row stays locked by writers`,
    {
      cause,
      retryable: true,
    },
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
