import { invariant, ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Claim, GateSpec, HeldGate } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import { isConnectionLost, isDenied, isInterrupted, isLockConflict } from "./errors.ts";
import { blockerSession, gateBlockers } from "./gate-blockers.ts";

import {
  lockGateRow,
  mustNotBeForeign,
  readGateRowLocked,
  takeGateRow,
  writeOne,
  type GateContext,
  type GateRow,
} from "./gate-row.ts";
import { gateTable, type GateTrigger } from "./gate-sql.ts";
import { triggersOf, whyTriggersDiffer } from "./gate-triggers.ts";
import { execute, kill, query, type MysqlConnection } from "./query.ts";
import { quoteTable } from "./quote.ts";

/**
 * Takes the gate's row exclusively and holds it: the pause of the slice's writers begins and ends here.
 *
 * Two connections. The *closer* owns the transaction and says nothing while the gate is held: after 2 s of silence
 * the server ends it (`wait_timeout`), so a tool that has died or hangs lets go by itself, and a ping would undo that
 * (facts/gate 8). The *monitor* asks everything else; both are open before the row is locked, since a server under
 * load may not let a new one in (hard-cases C09).
 *
 * No DDL may slip in between: MySQL's instance backup lock stops DDL and nobody else; where the account lacks
 * BACKUP_ADMIN, and on MariaDB, the closer's transaction holds shared metadata locks, taken before the row, so that a
 * running DDL is met before a writer waits for us (facts/gate 6).
 *
 * Invariant: until `commit` has begun, whatever breaks leaves the gate as it was.
 */
export async function tryClose(
  context: GateContext,
  claim: Claim,
  spec: GateSpec,
  budgetMs: number,
): Promise<HeldGate | { readonly blockers: readonly string[] }> {
  try {
    return await attemptOnce(context, claim, spec, budgetMs);
  } catch (error) {
    if (!isConnectionLost(error) || context.connector.signal.aborted) throw error;
    throw notClosed(claim, "a connection was lost on the way", error);
  }
}

async function attemptOnce(
  context: GateContext,
  claim: Claim,
  spec: GateSpec,
  budgetMs: number,
): Promise<HeldGate | { readonly blockers: readonly string[] }> {
  const { connector } = context;
  const { flavor } = connector.facts;
  const triggers = triggersOf(context, claim, spec);
  await using opened = new AsyncDisposableStack();
  const monitor = await connector.connect("control", { ...blockerSession, lock_wait_timeout: 1 });
  opened.defer(() => connector.close(monitor));
  const closer = await connector.connect("control", closerSession[flavor]);
  opened.defer(() => connector.close(closer));

  const preparedBefore = await preparedSoFar(monitor, flavor);
  try {
    const holdsDdl = flavor === "mysql" && (await lockInstance(monitor));
    await execute(closer, "BEGIN");
    if (!holdsDdl) await shareTables(closer, triggers);
    // Its shared lock on the lease makes a takeover wait for this transaction, or end it.
    await assertClaim(closer, claim);
  } catch (error) {
    if (!isLockConflict(error)) throw error;
    return { blockers: ["a DDL statement on a moved table, or another runner's takeover"] };
  }
  const row = await lockOrName(context, claim, { monitor, closer, budgetMs });
  if (row !== undefined && "blockers" in row) return row;
  await takeGateRow(closer, row, claim);
  return new LockedGate({ context, claim, triggers, closer, monitor, preparedBefore, opened: opened.move() });
}

const closerSession = {
  // The server's least lock_wait_timeout is 1 s on MySQL; MariaDB can refuse at once. READ COMMITTED is every
  // session's level.
  mysql: { wait_timeout: 2, innodb_lock_wait_timeout: 1, lock_wait_timeout: 1 },
  mariadb: { wait_timeout: 2, innodb_lock_wait_timeout: 1, lock_wait_timeout: 0 },
} as const;

async function lockInstance(monitor: MysqlConnection): Promise<boolean> {
  try {
    await execute(monitor, "LOCK INSTANCE FOR BACKUP");
    return true;
  } catch (error) {
    if (isDenied(error)) return false;
    throw error;
  }
}

/** A table that was read stays locked against DDL to the end of the transaction. */
async function shareTables(closer: MysqlConnection, triggers: readonly GateTrigger[]): Promise<void> {
  const names = new Set(triggers.map(({ database, table }) => quoteTable(database, table)));
  for (const name of names) await query(closer, `SELECT 1 AS one FROM ${name} LIMIT 0`);
}

interface Attempt {
  readonly monitor: MysqlConnection;
  readonly closer: MysqlConnection;
  readonly budgetMs: number;
}

/** One bounded wait for the row. Who is in the way is asked while we wait: afterwards MariaDB does not know it. */
async function lockOrName(
  { connector }: GateContext,
  claim: Claim,
  { monitor, closer, budgetMs }: Attempt,
): Promise<GateRow | undefined | { readonly blockers: readonly string[] }> {
  const { flavor } = connector.facts;
  let naming: Promise<string[]> | undefined;
  const timer = setTimeout(() => {
    naming = gateBlockers(monitor, flavor, { job: claim.job, connectionId: closer.threadId });
    // Reported below if it is needed; the attempt itself does not depend on it.
    naming.catch(() => undefined);
  }, budgetMs / 2);
  try {
    return await lockGateRow(closer, flavor, claim.job, budgetMs);
  } catch (error) {
    if (!isLockConflict(error) && !isInterrupted(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const names = await naming?.catch((denied: unknown) => [`not known who: ${String(denied)}`]);
    return {
      blockers: names === undefined || names.length === 0 ? [`the server ended the try: ${reason}`] : names,
    };
  } finally {
    clearTimeout(timer);
  }
}

interface Held {
  readonly context: GateContext;
  readonly claim: Claim;
  readonly triggers: readonly GateTrigger[];
  readonly closer: MysqlConnection;
  readonly monitor: MysqlConnection;
  readonly preparedBefore: string;
  readonly opened: AsyncDisposableStack;
}

class LockedGate implements HeldGate {
  readonly #held: Held;
  #ended = false;
  #lost: Error | undefined;

  constructor(held: Held) {
    this.#held = held;
    held.closer.once("error", (error: Error) => {
      this.#lost ??= error;
    });
    held.closer.once("end", () => {
      this.#lost ??= new Error("the server closed the connection");
    });
  }

  async whyNotTight(): Promise<string | undefined> {
    const { context, monitor, triggers, preparedBefore } = this.#held;
    if (this.#ended) return "the gate is not held any more";
    if (context.connector.facts.flavor === "mariadb") {
      const xa = await whyPrepared(monitor, preparedBefore);
      if (xa !== undefined) return xa;
    }
    const differ = await whyTriggersDiffer(monitor, triggers, context.tool.definer);
    if (differ !== undefined) return differ;
    // Asked last: it covers the time that the questions above took.
    return this.#lost === undefined
      ? undefined
      : `the server has ended the gate's connection: ${this.#lost.message}`;
  }

  async commit(): Promise<void> {
    invariant(!this.#ended, "the gate is committed once, while it is held");
    this.#ended = true;
    const { closer, claim, context, opened } = this.#held;
    try {
      await this.#write();
      await execute(closer, "COMMIT").catch(async (error: unknown) => {
        // Where the server has refused the commit the transaction may still hold the row.
        kill(closer, error);
        await confirmClosed(context, claim, error);
      });
    } finally {
      await opened.disposeAsync();
    }
  }

  /** Up to here nothing is decided: an error means that the server rolls back, or has done so. */
  async #write(): Promise<void> {
    const { closer, claim } = this.#held;
    try {
      await writeOne(closer, `UPDATE ${gateTable} SET state = 'closed' WHERE job = ? AND token = ?`, [
        claim.job,
        claim.token,
      ]);
    } catch (cause) {
      if (!isConnectionLost(cause)) throw cause;
      throw notClosed(claim, "its connection was lost before the commit", cause);
    }
  }

  async rollback(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const { closer, opened } = this.#held;
    try {
      // A lost connection is rolled back by the server, at the latest after wait_timeout.
      await execute(closer, "ROLLBACK").catch((error: unknown) => {
        if (!isConnectionLost(error)) throw error;
      });
    } finally {
      await opened.disposeAsync();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.rollback();
  }
}

/**
 * The answer to COMMIT is missing. A locking read waits until the server has decided the old transaction, so what it
 * shows is final: the old connection can not commit any more once we have read "open".
 */
async function confirmClosed({ connector, limits }: GateContext, claim: Claim, lost: unknown): Promise<void> {
  const deadline = performance.now() + limits.confirmMs;
  for (;;) {
    try {
      const connection = await connector.connect("control", { innodb_lock_wait_timeout: 1 });
      try {
        const row = await readGateRowLocked(connection, claim.job);
        mustNotBeForeign(row, claim);
        if (row.state === "closed") return;
        throw notClosed(claim, "its connection was lost in the commit, and the server rolled it back", lost);
      } finally {
        await connector.close(connection);
      }
    } catch (error) {
      if (error instanceof ShardliftError && ["E_CUTOVER_NOT_DONE", "E_JOB_HELD"].includes(error.code))
        throw error;
      if (connector.signal.aborted || performance.now() > deadline) throw unknown(claim, lost, error);
    }
    await sleep(100, connector.signal).catch((error: unknown) => {
      throw unknown(claim, lost, error);
    });
  }
}

function notClosed(claim: Claim, why: string, cause: unknown): ShardliftError {
  return new ShardliftError("E_CUTOVER_NOT_DONE", `the gate of job ${claim.job} was not closed: ${why}`, {
    cause,
    retryable: true,
  });
}

function unknown(claim: Claim, lost: unknown, error: unknown): ShardliftError {
  return new ShardliftError(
    "E_GATE_LOST",
    `the closing of the gate of job ${claim.job} was sent, and whether it is closed could not be read back`,
    {
      cause: new AggregateError([lost, error]),
      next: `At the old shard: SELECT state FROM ${gateTable} WHERE job = '${claim.job}' LOCK IN SHARE MODE; then run \`shardlift resume\`.`,
    },
  );
}

/**
 * MariaDB lets go of shared locks at XA PREPARE, so a writer of the slice can be neither finished nor waiting for us
 * (facts/gate 1.2: leaks in 6 of 6 cases). Three looks, in this order, leave no gap: a PREPARE that still runs, one
 * that has ended and is undecided, and the counter for one that was decided meanwhile.
 */
async function whyPrepared(monitor: MysqlConnection, before: string): Promise<string | undefined> {
  const running = await query<{ id: string }>(
    monitor,
    "SELECT CAST(ID AS CHAR) AS id FROM information_schema.PROCESSLIST WHERE INFO LIKE '%XA PREPARE%' AND ID <> CONNECTION_ID()",
  );
  if (running.length > 0) return `connection ${running[0]?.id} prepares an XA transaction`;
  const prepared = await query<{ data: string }>(monitor, "XA RECOVER");
  if (prepared.length > 0)
    return `${prepared.length} XA transactions are prepared and undecided: ${prepared
      .map(({ data }) => data)
      .slice(0, 5)
      .join(", ")}`;
  const now = await preparedSoFar(monitor, "mariadb");
  return now === before
    ? undefined
    : `XA transactions were prepared while the gate was being closed (${before} before, ${now} now)`;
}

async function preparedSoFar(monitor: MysqlConnection, flavor: "mysql" | "mariadb"): Promise<string> {
  // MySQL keeps the lock until the verdict (facts/gate 1.2), nothing to count.
  if (flavor === "mysql") return "0";
  const [row] = await query<{ Value: string }>(monitor, "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'");
  invariant(row !== undefined, "the server has no counter Com_xa_prepare");
  return row.Value;
}
