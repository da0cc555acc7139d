import { ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import { errnoOf, isConnectionLost, isDenied, isInterrupted, isLockConflict } from "./errors.ts";
import {
  askAgainMs,
  blockerSession,
  oldestTransaction,
  tableBlockers,
  type BlockerScope,
} from "./gate-blockers.ts";
import type { GateContext } from "./gate-row.ts";
import { execute, query, type MysqlConnection } from "./query.ts";

/**
 * Runs DDL (the gate's, and the raise of a counter) without stopping the application. A DDL statement that waits for its metadata lock stops every
 * later statement on the table, reads too, for as long as it waits: so it may hardly wait at all (facts/gate 4).
 * MariaDB can try a lock without waiting; on MySQL a waiting statement is killed after 50 ms.
 * Invariant: readers of the table are held up by one try for some 50 ms at most, and all statements of one `Ddl` end
 * within `ddlMs`, else an error names who is in the way. What has been done by then stays done: triggers ask
 * an open gate and are harmless.
 */
export interface Ddl extends AsyncDisposable {
  /** For questions: not the connection that has no time to wait. */
  readonly reader: MysqlConnection;
  /** Errors with one of the numbers in `asDone` count as success. */
  run(sql: string, asDone?: readonly number[]): Promise<void>;
}

export type DdlContext = Pick<GateContext, "connector"> & {
  readonly tool: Pick<GateContext["tool"], "user">;
  readonly limits: Pick<GateContext["limits"], "ddlMs">;
};

/** What the caller's errors are called. */
export interface DdlFailures {
  /** What the lock is needed for. */
  readonly what: string;
  readonly tooLong: (message: string, cause: unknown) => ShardliftError;
  readonly failed: (cause: unknown) => unknown;
}

export async function openDdl(
  context: DdlContext,
  tables: readonly string[],
  failures: DdlFailures = gateFailures,
): Promise<Ddl> {
  const { connector, tool, limits } = context;
  const { flavor } = connector.facts;
  await using opened = new AsyncDisposableStack();
  // MySQL's least value is 1 s: that is what the watch is for.
  const worker = await connector.connect("control", { lock_wait_timeout: flavor === "mariadb" ? 0 : 1 });
  opened.defer(() => connector.close(worker));
  const watch = await connector.connect("control", blockerSession);
  opened.defer(() => connector.close(watch));

  const scope: BlockerScope = { flavor, toolUser: tool.user, database: connector.endpoint.database, tables };
  const started = performance.now();
  const { signal } = connector;
  const tryOnce =
    flavor === "mariadb"
      ? mariadbTries(worker, started + Math.min(10_000, limits.ddlMs / 2))
      : mysqlTries(worker, watch, signal);
  let waited = false;

  const run = async (sql: string, asDone: readonly number[] = []): Promise<void> => {
    if (!waited)
      await waitForOldTransactions(watch, scope, started + Math.min(5000, limits.ddlMs / 3), signal);
    waited = true;
    for (;;) {
      try {
        await tryOnce(sql);
        return;
      } catch (error) {
        if (asDone.includes(errnoOf(error) ?? 0)) return;
        if (!isLockConflict(error) && !isInterrupted(error)) throw failures.failed(error);
        if (performance.now() > started + limits.ddlMs) {
          const waited = `no lock on ${tables.join(", ")} within ${limits.ddlMs} ms`;
          const names = await tableBlockers(watch, scope);
          throw failures.tooLong(`${waited} for ${failures.what}; in the way: ${names.join("; ")}`, error);
        }
      }
      await sleep(20 + Math.random() * 60, signal);
    }
  };
  const owned = opened.move();
  return { reader: watch, run, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

type Try = (sql: string) => Promise<unknown>;

/**
 * A lock that is free at once, or nothing. Under steady short writers that can fail for seconds (52 tries, measured),
 * so from `queueFrom` on a try may queue for 50 ms, which costs the readers as much.
 */
function mariadbTries(connection: MysqlConnection, queueFrom: number): Try {
  let queues = false;
  return async (sql) => {
    if (!queues && performance.now() > queueFrom) {
      await execute(connection, "SET SESSION lock_wait_timeout = 1, max_statement_time = 0.05");
      queues = true;
    }
    await execute(connection, sql);
  };
}

/**
 * Looks every 50 ms whether the statement waits for its lock and kills it then; a single shot can miss (measured:
 * 1.27 s of standstill). A statement that works is left alone, else a slow disk would let no try end.
 */
function mysqlTries(connection: MysqlConnection, watch: MysqlConnection, signal: AbortSignal): Try {
  return async (sql) => {
    const over = new AbortController();
    const killing = killWhileItWaits(connection, watch, AbortSignal.any([signal, over.signal]));
    try {
      await execute(connection, sql);
    } finally {
      over.abort();
      await killing.catch((error: unknown) => {
        if (error !== over.signal.reason) throw error;
      });
    }
  };
}

async function killWhileItWaits(
  target: MysqlConnection,
  watch: MysqlConnection,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await sleep(50, signal);
    const [row] = await query<{ state: string | null }>(
      watch,
      "SELECT STATE AS state FROM performance_schema.processlist WHERE ID = ?",
      [target.threadId],
    );
    // The statement may have ended meanwhile, and the next one must not be hit.
    signal.throwIfAborted();
    if (/^Waiting for .*lock/i.test(row?.state ?? "")) await execute(watch, `KILL QUERY ${target.threadId}`);
  }
}

/** Trying is useless and costs the readers 50 ms each time while an old transaction is open. Then it is tried anyway. */
async function waitForOldTransactions(
  watch: MysqlConnection,
  scope: BlockerScope,
  until: number,
  signal: AbortSignal,
): Promise<void> {
  while (performance.now() < until && (await oldestTransaction(watch, scope)) > 2000)
    await sleep(askAgainMs, signal);
}

const gateFailures: DdlFailures = {
  what: "the gate's triggers",
  tooLong: (message, cause) => new ShardliftError("E_GATE_NOT_ARMED", message, { cause, retryable: true }),
  failed: notArmed,
};

/** DDL that failed, or that left something else than ours. */
export function notArmed(cause: unknown): ShardliftError {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!isDenied(cause)) {
    return new ShardliftError("E_GATE_NOT_ARMED", `a trigger of the gate could not be changed: ${message}`, {
      cause,
      retryable: isConnectionLost(cause),
    });
  }
  // 1419: TRIGGER alone is not enough where the binary log is on (facts/gate 4).
  const next =
    errnoOf(cause) === 1419
      ? "SET GLOBAL log_bin_trust_function_creators = 1; then run `shardlift resume`."
      : "GRANT TRIGGER on the shard's database and SELECT, INSERT, UPDATE, DELETE on `_shardlift`.* to shardlift's account.";
  return new ShardliftError("E_GATE_NOT_ARMED", `a trigger of the gate could not be created: ${message}`, {
    cause,
    next,
  });
}
