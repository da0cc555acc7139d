import { invariant } from "../../errors/error.ts";
import type { Claim, GateSpec, Gates, GateState, HeldGate, TableShape } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import type { Connector } from "./connect.ts";
import { blockerSession, oldestTransaction } from "./gate-blockers.ts";
import { tryClose } from "./gate-closer.ts";
import { createTriggers, dropTriggers } from "./gate-ddl.ts";
import { changeGateRow, mustBeOurs, readGateRow, type GateContext } from "./gate-row.ts";
import { createTriggerSql, gateTable, gateTriggers, insertGateSql } from "./gate-sql.ts";
import { execute, query, type MysqlConnection } from "./query.ts";

/**
 * The range gate and its mirror at one MySQL or MariaDB server (DESIGN section 4, facts/gate 8). One row says whether
 * the slice is open; triggers on the moved tables ask it.
 * Invariants: every change of the row proves store, job and token in its own transaction; the row is there before the
 * first trigger and goes after the last, so that a trigger without a row (which refuses) is never met by a healthy
 * job; a closed gate opens by `open` alone.
 */
export async function openGates(
  connector: Connector,
  claim: Claim | undefined,
  limits: GateLimits = {},
): Promise<Gates> {
  const connection = await connector.connect("control");
  try {
    const [row] = await query<{ user: string; definer: string }>(
      connection,
      "SELECT USER() AS user, CURRENT_USER() AS definer",
    );
    invariant(row !== undefined, "the server does not name the session's account");
    // The host has no @, a user name may.
    const user = row.user.slice(0, row.user.lastIndexOf("@"));
    return new MysqlGates(
      { connector, claim, tool: { user, definer: row.definer } },
      { ...defaultLimits, ...limits },
    );
  } finally {
    await connector.close(connection);
  }
}

export interface GateLimits {
  /** For the triggers of one `arm` or `disarm`. */
  readonly ddlMs?: number;
  /** For one change of the gate's row. */
  readonly rowMs?: number;
}

const defaultLimits: Required<GateLimits> = { ddlMs: 60_000, rowMs: 30_000 };

class MysqlGates implements Gates {
  readonly #context: GateContext;
  readonly #limits: Required<GateLimits>;

  constructor(context: GateContext, limits: Required<GateLimits>) {
    this.#context = context;
    this.#limits = limits;
  }

  async arm(spec: GateSpec): Promise<void> {
    const claim = this.#claim();
    const row = await this.#with(async (connection) => await readGateRow(connection, claim.job));
    const asWanted =
      row !== undefined &&
      row.storeId === claim.storeId &&
      row.token === claim.token &&
      row.role === spec.role &&
      row.afterEpoch === spec.afterEpoch;
    // An untouched row spares MariaDB's old snapshots a needless error 1020 (facts/gate 1.3).
    if (!asWanted) await this.#writeRow(spec, claim);
    await createTriggers(this.#context, gateTriggers(spec, claim.job, this.#context.tool.user), {
      totalMs: this.#limits.ddlMs,
    });
  }

  preview(spec: GateSpec): string[] {
    // A dry run has no job yet.
    const claim = this.#context.claim ?? { storeId: "STORE", job: "JOB", token: 0 };
    const triggers = gateTriggers(spec, claim.job, this.#context.tool.user);
    return [insertGateSql(spec, claim), ...triggers.map(createTriggerSql)];
  }

  async state(job: string): Promise<GateState | undefined> {
    const row = await this.#with(async (connection) => await readGateRow(connection, job));
    if (row === undefined) return undefined;
    const { storeId: _, ...state } = row;
    return state;
  }

  async tryClose(
    spec: GateSpec,
    budgetMs: number,
  ): Promise<HeldGate | { readonly blockers: readonly string[] }> {
    return await tryClose(this.#context, this.#claim(), spec, budgetMs);
  }

  async open(job: string): Promise<void> {
    const claim = this.#claim();
    invariant(job === claim.job, `the runner of job ${claim.job} opens no gate of job ${job}`);
    await changeGateRow(this.#context, job, this.#limits.rowMs, async (connection, row) => {
      if (mustBeOurs(row, claim).state === "open") return;
      await writeOne(connection, `UPDATE ${gateTable} SET state = 'open' WHERE job = ? AND token = ?`, claim);
    });
  }

  async disarm(spec: GateSpec): Promise<void> {
    const claim = this.#claim();
    const row = await this.#with(async (connection) => await readGateRow(connection, claim.job));
    // DDL can not carry a token: look before, so that a stale runner does not open what another one has closed.
    if (row !== undefined) mustBeOurs(row, claim);
    await dropTriggers(this.#context, gateTriggers(spec, claim.job, this.#context.tool.user), {
      totalMs: this.#limits.ddlMs,
    });
    if (row === undefined) return;
    await changeGateRow(this.#context, claim.job, this.#limits.rowMs, async (connection, locked) => {
      if (locked === undefined) return;
      mustBeOurs(locked, claim);
      await writeOne(connection, `DELETE FROM ${gateTable} WHERE job = ? AND token = ?`, claim);
    });
  }

  async oldestTransactionMs(tables: readonly TableShape[]): Promise<number> {
    const { connector, tool } = this.#context;
    return await this.#with(
      async (connection) =>
        await oldestTransaction(connection, { flavor: connector.facts.flavor, toolUser: tool.user, tables }),
    );
  }

  /** Adds the row, or brings an earlier runner's row under this claim; its state stays as it is. */
  async #writeRow(spec: GateSpec, claim: Claim): Promise<void> {
    await changeGateRow(this.#context, claim.job, this.#limits.rowMs, async (connection, row) => {
      await assertClaim(connection, claim);
      if (row === undefined) {
        await execute(connection, insertGateSql(spec, claim));
        return;
      }
      invariant(
        row.role === spec.role,
        `job ${claim.job} has a ${row.role} at this server and can not arm a ${spec.role}`,
      );
      // The lease has proved that ours is the newest token; an older one was left by a runner that is gone.
      mustBeOurs(row.token < claim.token ? { ...row, token: claim.token } : row, claim);
      await execute(connection, `UPDATE ${gateTable} SET token = ?, after_epoch = ? WHERE job = ?`, [
        claim.token,
        spec.afterEpoch,
        claim.job,
      ]);
    });
  }

  #claim(): Claim {
    const { claim } = this.#context;
    invariant(claim !== undefined, "a session for reading only has changed a gate");
    return claim;
  }

  async #with<T>(body: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    const { connector } = this.#context;
    const connection = await connector.connect("control", blockerSession);
    try {
      return await body(connection);
    } finally {
      await connector.close(connection);
    }
  }
}

async function writeOne(connection: MysqlConnection, sql: string, claim: Claim): Promise<void> {
  const { affectedRows } = await execute(connection, sql, [claim.job, claim.token]);
  invariant(affectedRows === 1, `the locked gate row of job ${claim.job} was matched ${affectedRows} times`);
}
