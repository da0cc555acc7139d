import { invariant } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim, GateSpec, Gates, GateState, HeldGate, TableShape } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import type { Connector } from "./connect.ts";
import { askAgainMs, blockerSession, oldestTransaction } from "./gate-blockers.ts";
import { tryClose } from "./gate-closer.ts";

import {
  changeGateRow,
  readGateRow,
  takeGateRow,
  writeOne,
  type GateContext,
  type GateLimits,
} from "./gate-row.ts";
import { createTriggerSql, gateTable, insertGateSql } from "./gate-sql.ts";
import { createTriggers, dropTriggers, triggersOf } from "./gate-triggers.ts";
import { execute, inTransaction, query, type MysqlConnection } from "./query.ts";
import { reconnecting } from "./reconnect.ts";

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
  limits: Partial<GateLimits> = {},
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
    return new MysqlGates({
      connector,
      claim,
      tool: { user, definer: row.definer },
      limits: { ...defaultLimits, ...limits },
    });
  } finally {
    await connector.close(connection);
  }
}

const defaultLimits: GateLimits = { ddlMs: 60_000, rowMs: 30_000, confirmMs: 15_000 };

/** Shown where a plan has no job yet. */
const notYetAJob: Claim = { storeId: "STORE", job: "JOB", token: 0 };

class MysqlGates implements Gates {
  readonly #context: GateContext;
  #askedTransactions = -askAgainMs;

  constructor(context: GateContext) {
    this.#context = context;
  }

  async arm(spec: GateSpec, limitMs = Number.POSITIVE_INFINITY): Promise<void> {
    const claim = this.#claim();
    const { limits } = this.#context;
    const context = { ...this.#context, limits: { ...limits, ddlMs: Math.min(limits.ddlMs, limitMs) } };
    const row = await this.#with(async (connection) => await readGateRow(connection, claim.job));
    const asWanted =
      row !== undefined &&
      row.storeId === claim.storeId &&
      row.token === claim.token &&
      row.role === spec.role &&
      row.afterEpoch === spec.afterEpoch;
    // An untouched row spares MariaDB's old snapshots a needless error 1020 (facts/gate 1.3). The claim is proved in
    // any case: what follows is DDL, which can not carry it.
    if (asWanted) await this.#proveClaim(claim);
    else await this.#writeRow(spec, claim);
    await createTriggers(context, triggersOf(context, claim, spec), {
      // Between DROP and CREATE writes pass: harmless while the gate is open anyway.
      mayReplace: spec.role === "mirror" || row?.state !== "closed",
    });
  }

  preview(spec: GateSpec, claim = this.#context.claim ?? notYetAJob): string[] {
    const triggers = triggersOf(this.#context, claim, spec);
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
    await changeGateRow(this.#context, claim, async (connection, row) => {
      const { state } = await takeGateRow(connection, row, claim);
      if (state === "open") return;
      await writeOne(connection, `UPDATE ${gateTable} SET state = 'open' WHERE job = ? AND token = ?`, [
        claim.job,
        claim.token,
      ]);
    });
  }

  async disarm(spec: GateSpec): Promise<void> {
    const claim = this.#claim();
    const row = await this.#with(async (connection) => await readGateRow(connection, claim.job));
    // DDL can not carry a token: look before, so that a stale runner does not open what another one has closed.
    if (row !== undefined) {
      await changeGateRow(this.#context, claim, async (connection, locked) => {
        if (locked !== undefined) await takeGateRow(connection, locked, claim);
      });
    }
    await dropTriggers(this.#context, triggersOf(this.#context, claim, spec));
    if (row === undefined) return;
    await changeGateRow(this.#context, claim, async (connection, locked) => {
      if (locked === undefined) return;
      await takeGateRow(connection, locked, claim);
      await writeOne(connection, `DELETE FROM ${gateTable} WHERE job = ? AND token = ?`, [
        claim.job,
        claim.token,
      ]);
    });
  }

  async oldestTransactionMs(tables: readonly TableShape[]): Promise<number> {
    const { connector, tool } = this.#context;
    const early = this.#askedTransactions + askAgainMs - performance.now();
    if (early > 0) await sleep(early, connector.signal);
    this.#askedTransactions = performance.now();
    return await this.#with(
      async (connection) =>
        await oldestTransaction(connection, {
          flavor: connector.facts.flavor,
          toolUser: tool.user,
          database: connector.endpoint.database,
          tables: tables.map(({ name }) => name),
        }),
    );
  }

  /** Adds the row, or brings an earlier runner's row under this claim; its state stays as it is. */
  async #writeRow(spec: GateSpec, claim: Claim): Promise<void> {
    await changeGateRow(this.#context, claim, async (connection, row) => {
      if (row === undefined) {
        await execute(connection, insertGateSql(spec, claim));
        return;
      }
      const { role, afterEpoch } = await takeGateRow(connection, row, claim);
      invariant(
        role === spec.role,
        `job ${claim.job} has a ${role} at this server and can not arm a ${spec.role}`,
      );
      if (afterEpoch === spec.afterEpoch) return;
      await writeOne(connection, `UPDATE ${gateTable} SET after_epoch = ? WHERE job = ? AND token = ?`, [
        spec.afterEpoch,
        claim.job,
        claim.token,
      ]);
    });
  }

  async #proveClaim(claim: Claim): Promise<void> {
    await this.#with(async (connection) => {
      await inTransaction(connection, () => assertClaim(connection, claim));
    });
  }

  #claim(): Claim {
    const { claim } = this.#context;
    invariant(claim !== undefined, "a session for reading only has changed a gate");
    return claim;
  }

  /** Looks only, so that it may be done again over a lost connection. */
  async #with<T>(body: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    const { connector } = this.#context;
    return await reconnecting(connector.signal, async () => {
      const connection = await connector.connect("control", blockerSession);
      try {
        return await body(connection);
      } finally {
        await connector.close(connection);
      }
    });
  }
}
