import { ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { TableShape } from "../engine.ts";
import { blockerSession, oldestTransaction, tableBlockers, type BlockerScope } from "./gate-blockers.ts";
import type { GateContext } from "./gate-row.ts";
import { createTriggerSql, dropTriggerSql, type GateTrigger } from "./gate-sql.ts";
import { errnoOf, isConnectionLost, isDenied, isInterrupted, isLockConflict } from "./errors.ts";
import { execute, query, queryArrays, type MysqlConnection } from "./query.ts";
import { quoteTable } from "./quote.ts";
import type { MysqlTable } from "./table.ts";

/**
 * Creates and drops the gate's triggers without stopping the application. A DDL statement that waits for its metadata
 * lock stops every later statement on the table, reads too, for as long as it waits: so it may hardly wait at all
 * (facts/gate 4). MariaDB can try a lock without waiting; on MySQL a waiting statement is killed after 50 ms.
 * Invariant: readers of the table are held up by one try for some 50 ms at most, and the whole ends within its time.
 */
export interface DdlLimits {
  /** For all statements together; then E_GATE_NOT_ARMED with the blockers' names. */
  readonly totalMs: number;
}

/** A trigger that stands at the server under one of our names. */
interface StandingTrigger {
  readonly name: string;
  readonly table: string;
  readonly event: string;
  readonly timing: string;
  readonly definer: string;
  readonly body: string;
}

/** Brings the tables to exactly these triggers. Equal ones stay, others of the same name are replaced. */
export async function createTriggers(
  context: GateContext,
  triggers: readonly GateTrigger[],
  limits: DdlLimits,
): Promise<void> {
  await using ddl = await openDdl(context, triggers, limits);
  for (const trigger of triggers) {
    const standing = await readTrigger(ddl.connection, trigger.table, trigger.name);
    if (standing !== undefined) {
      if ((await whyDifferent(ddl.connection, standing, trigger, context.tool.definer)) === undefined)
        continue;
      await ddl.run(dropTriggerSql(trigger));
    }
    // 1359: a try whose answer was an interruption has created it nevertheless; the check below looks at its text.
    await ddl.run(createTriggerSql(trigger), [1359]);
  }
  const problem = await whyTriggersDiffer(ddl.connection, triggers, context.tool.definer);
  if (problem !== undefined)
    throw new ShardliftError("E_GATE_NOT_ARMED", `the gate is not armed: ${problem}`, { retryable: true });
}

export async function dropTriggers(
  context: GateContext,
  triggers: readonly GateTrigger[],
  limits: DdlLimits,
): Promise<void> {
  await using ddl = await openDdl(context, triggers, limits);
  for (const trigger of triggers) {
    if ((await readTrigger(ddl.connection, trigger.table, trigger.name)) !== undefined)
      await ddl.run(dropTriggerSql(trigger));
  }
}

/** What is missing or not as it should be; undefined when every trigger stands with our text and definer. */
export async function whyTriggersDiffer(
  connection: MysqlConnection,
  triggers: readonly GateTrigger[],
  definer: string,
): Promise<string | undefined> {
  for (const trigger of triggers) {
    const standing = await readTrigger(connection, trigger.table, trigger.name);
    const reason =
      standing === undefined ? "is missing" : await whyDifferent(connection, standing, trigger, definer);
    if (reason !== undefined)
      return `trigger ${trigger.name} (${trigger.event} on ${trigger.table.name}) ${reason}`;
  }
  return undefined;
}

async function readTrigger(
  connection: MysqlConnection,
  table: MysqlTable,
  name: string,
): Promise<StandingTrigger | undefined> {
  const { database } = table.detail;
  // Equality on schema and table lets MariaDB open this one table instead of every table of the schema.
  const rows = await query<StandingTrigger>(
    connection,
    `SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS \`table\`, EVENT_MANIPULATION AS event, ACTION_TIMING AS timing,
            DEFINER AS definer, ACTION_STATEMENT AS body
       FROM information_schema.TRIGGERS
      WHERE TRIGGER_SCHEMA = ? AND EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? AND TRIGGER_NAME = ?`,
    [database, database, table.name, name],
  );
  return rows[0];
}

async function whyDifferent(
  connection: MysqlConnection,
  standing: StandingTrigger,
  wanted: GateTrigger,
  definer: string,
): Promise<string | undefined> {
  if (standing.timing !== "AFTER" || standing.event !== wanted.event)
    return `fires ${standing.timing} ${standing.event}`;
  if (standing.definer !== definer) return `has the definer ${standing.definer}, not ${definer}`;
  if (standing.body === wanted.body) return undefined;
  // MySQL shows doubled quotes and backticks wrongly here (measured on 9.7: `k``x` reads `kk`xx`); SHOW CREATE
  // TRIGGER has the text as it was written.
  const { database } = wanted.table.detail;
  const [row] = await queryArrays(connection, `SHOW CREATE TRIGGER ${quoteTable(database, wanted.name)}`);
  return String(row?.[2]).endsWith(` FOR EACH ROW ${wanted.body}`) ? undefined : "has another text than ours";
}

/** Runs DDL statements one after the other under one time limit. */
interface Ddl extends AsyncDisposable {
  readonly connection: MysqlConnection;
  /** Errors with one of the numbers in `asDone` count as success. */
  run(sql: string, asDone?: readonly number[]): Promise<void>;
}

async function openDdl(
  context: GateContext,
  triggers: readonly GateTrigger[],
  { totalMs }: DdlLimits,
): Promise<Ddl> {
  const { connector, tool } = context;
  const { flavor } = connector.facts;
  const deadline = performance.now() + totalMs;
  const tables: readonly TableShape[] = [...new Set(triggers.map(({ table }) => table))];
  const scope: BlockerScope = { flavor, toolUser: tool.user, tables };
  await using opened = new AsyncDisposableStack();
  // MySQL's least value is 1 s: that is what the watch is for.
  const connection = await connector.connect("control", { lock_wait_timeout: flavor === "mariadb" ? 0 : 1 });
  opened.defer(() => connector.close(connection));
  const watch = await connector.connect("control", blockerSession);
  opened.defer(() => connector.close(watch));
  const tries =
    flavor === "mariadb"
      ? mariadbTries(connection, deadline - totalMs / 2)
      : mysqlTries(connection, watch, connector.signal);
  let waited = false;

  const run = async (sql: string, asDone: readonly number[] = []): Promise<void> => {
    if (!waited)
      await waitForOldTransactions(
        watch,
        scope,
        performance.now() + Math.min(5000, totalMs / 3),
        connector.signal,
      );
    waited = true;
    for (;;) {
      try {
        await tries(sql);
        return;
      } catch (error) {
        if (asDone.includes(errnoOf(error) ?? 0)) return;
        if (!isLockConflict(error) && !isInterrupted(error)) throw notArmed(error);
        if (performance.now() > deadline) throw await tooLong(watch, scope, totalMs, error);
      }
      await sleep(20 + Math.random() * 60, connector.signal);
    }
  };
  const owned = opened.move();
  return { connection, run, [Symbol.asyncDispose]: () => owned.disposeAsync() };
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
  while (performance.now() < until && (await oldestTransaction(watch, scope)) > 2000) await sleep(50, signal);
}

async function tooLong(
  watch: MysqlConnection,
  scope: BlockerScope,
  totalMs: number,
  cause: unknown,
): Promise<ShardliftError> {
  const names = await tableBlockers(watch, scope);
  return new ShardliftError(
    "E_GATE_NOT_ARMED",
    `no lock on ${scope.tables.map(({ name }) => name).join(", ")} for the gate's triggers within ${totalMs} ms; in the way: ${names.join("; ")}`,
    { cause, retryable: true },
  );
}

function notArmed(cause: unknown): ShardliftError {
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
