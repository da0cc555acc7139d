import { setTimeout as pause } from "node:timers/promises";
import { ShardliftError } from "../../errors/error.ts";
import { errnoOf, isDenied } from "./errors.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { query, type MysqlConnection } from "./query.ts";
import type { ServerFacts } from "./server-facts.ts";

/**
 * Who is in the gate's way: names for the operator, and the age of the oldest transaction. Only for waiting and for
 * messages; no decision about data rests on it.
 * MySQL is asked through performance_schema, which needs SELECT on it. information_schema.INNODB_TRX and PROCESSLIST
 * hold the running statements in utf8mb3, and while one with a character of four bytes runs, MySQL answers no question
 * about them, not even about other columns (error 3854; 50 of 60 tries, measured on 9.7). They are the way out where
 * performance_schema may not be read or does not record transactions; then every transaction counts. MariaDB puts `?`
 * in such a place and answers.
 * Needs PROCESS. Ages out of INNODB_TRX have the resolution of `trx_started`, a second, rounded upwards; for them the
 * connection must be in the server's own time zone, which is what `trx_started` is written in (measured on both
 * servers with TZ=Asia/Tokyo): `blockerSession`.
 */
export const blockerSession = { time_zone: "SYSTEM" } as const;

/**
 * The servers answer from a copy that is made anew only when nobody has read it for 100 ms (InnoDB's own constant):
 * who asks more often is shown the same old answer for ever (measured, both servers).
 */
export const askAgainMs = 150;

export interface BlockerScope {
  readonly flavor: ServerFacts["flavor"];
  /** The tool's own transactions do not count. */
  readonly toolUser: string;
  readonly database: string;
  readonly tables: readonly string[];
}

/** Oldest transaction that has touched one of the tables, in ms; 0 without one. MariaDB: of all transactions. */
export async function oldestTransaction(connection: MysqlConnection, scope: BlockerScope): Promise<number> {
  if (scope.tables.length === 0) return 0;
  const [oldest] = await explained(transactions(connection, scope, 1));
  return oldest?.ageMs ?? 0;
}

/** The transactions that keep DDL on the tables waiting, oldest first. */
export async function tableBlockers(connection: MysqlConnection, scope: BlockerScope): Promise<string[]> {
  let found: Holder[];
  try {
    found = await explained(transactions(connection, scope, namesShown));
  } catch (error) {
    // Only names are missing then, and the caller has an error of its own to report.
    if (!isUnspeakable(error)) throw error;
    return ["not known who: a session runs a statement that MySQL can not show"];
  }
  if (found.length > 0) return found.map(describe);
  return ["no open transaction is seen; look for LOCK TABLES, a running DDL statement or a backup"];
}

/**
 * Who holds the gate's row. On MariaDB the answer exists only while somebody waits for it
 * (information_schema.INNODB_LOCKS lists locks in a wait only), so ask during the wait.
 */
export async function gateBlockers(
  connection: MysqlConnection,
  flavor: ServerFacts["flavor"],
  waiting: { readonly job: string; readonly connectionId: number },
): Promise<string[]> {
  const found =
    flavor === "mysql" ? mysqlGateHolders(connection, waiting.job) : mariadbGateHolders(connection, waiting);
  return (await explained(found)).map(describe);
}

const namesShown = 5;

interface Holder {
  /** Null: a prepared transaction whose client has gone. */
  readonly id: string | null;
  readonly account: string | null;
  readonly ageMs: number;
}

interface RawHolder {
  readonly id: string | null;
  readonly account: string | null;
  readonly ageMs: string;
}

async function holders(
  connection: MysqlConnection,
  sql: string,
  values: Parameters<typeof query>[2],
): Promise<Holder[]> {
  return (await query<RawHolder>(connection, sql, values)).map(holderOf);
}

function holderOf({ id, account, ageMs }: RawHolder): Holder {
  return { id, account, ageMs: Number(ageMs) };
}

async function transactions(
  connection: MysqlConnection,
  scope: BlockerScope,
  limit: number,
): Promise<Holder[]> {
  if (scope.flavor === "mysql" && (await recordsTransactions(connection))) {
    return await mysqlTransactionsOn(connection, scope, limit);
  }
  return await despiteStatements(() =>
    holders(
      connection,
      `SELECT NULLIF(CAST(t.trx_mysql_thread_id AS CHAR), '0') AS id, CONCAT(p.USER, '@', p.HOST) AS account, ${age} AS ageMs
         FROM information_schema.INNODB_TRX t LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
        WHERE COALESCE(p.USER, '') <> ? ORDER BY t.trx_started LIMIT ${limit}`,
      [scope.toolUser],
    ),
  );
}

/**
 * Metadata locks are kept to the end of a transaction, so they tell which tables it has touched. A prepared
 * transaction keeps them when its client has gone (measured: its thread is then in no other table).
 */
async function mysqlTransactionsOn(
  connection: MysqlConnection,
  scope: BlockerScope,
  limit: number,
): Promise<Holder[]> {
  const ask = (): Promise<Owner[]> =>
    query<Owner>(
      connection,
      `${ownersSql(
        `SELECT DISTINCT OWNER_THREAD_ID AS owner FROM performance_schema.metadata_locks
          WHERE OBJECT_TYPE = 'TABLE' AND OBJECT_SCHEMA = ? AND OBJECT_NAME IN (?) AND LOCK_STATUS = 'GRANTED'`,
      )} WHERE COALESCE(th.PROCESSLIST_USER, '') <> ? AND (e.THREAD_ID IS NULL OR e.STATE = 'ACTIVE') ${oldestFirst} LIMIT ${limit}`,
      [scope.database, scope.tables, scope.toolUser],
    );
  let found = await ask();
  if (found.some(({ id }) => id === null)) {
    // The tables are read one after another: a client that left in between is no prepared transaction.
    const before = new Set(found.map(({ owner }) => owner));
    found = (await ask()).filter(({ id, owner }) => id !== null || before.has(owner));
  }
  return found.map(holderOf);
}

/** False where the instruments are off (their tables would say "nobody") or we may not read them. */
async function recordsTransactions(connection: MysqlConnection): Promise<boolean> {
  try {
    const [row] = await query<{ seen: string }>(
      connection,
      `SELECT CAST(@@GLOBAL.performance_schema = 1
              AND 2 = (SELECT COUNT(*) FROM performance_schema.setup_instruments
                        WHERE ENABLED = 'YES' AND (NAME = 'wait/lock/metadata/sql/mdl' OR NAME = 'transaction' AND TIMED = 'YES'))
              AND 3 = (SELECT COUNT(*) FROM performance_schema.setup_consumers WHERE ENABLED = 'YES'
                        AND NAME IN ('global_instrumentation', 'thread_instrumentation', 'events_transactions_current'))
              AND EXISTS (SELECT 1 FROM performance_schema.metadata_locks) AS CHAR) AS seen`,
    );
    return row?.seen === "1";
  } catch (error) {
    if (isDenied(error)) return false;
    throw error;
  }
}

async function mysqlGateHolders(connection: MysqlConnection, job: string): Promise<Holder[]> {
  const found = await query<Owner>(
    connection,
    `${ownersSql(
      `SELECT DISTINCT THREAD_ID AS owner FROM performance_schema.data_locks
        WHERE OBJECT_SCHEMA = ? AND OBJECT_NAME = 'gate' AND LOCK_TYPE = 'RECORD' AND LOCK_STATUS = 'GRANTED'
          AND LOCK_DATA = ?`,
    )} ${oldestFirst} LIMIT ${namesShown}`,
    // The server shows the key of the locked row as a literal.
    [ledgerDatabase, `'${job}'`],
  );
  return found.map(holderOf);
}

interface Owner extends RawHolder {
  readonly owner: string;
}

/**
 * Threads with the age of their transaction. A thread that records none counts by its present state, and one that is
 * gone as old as the server: nobody knows its age, and it will not end by itself.
 */
function ownersSql(owners: string): string {
  return `SELECT CAST(o.owner AS CHAR) AS owner, CAST(th.PROCESSLIST_ID AS CHAR) AS id,
                 CONCAT(th.PROCESSLIST_USER, '@', th.PROCESSLIST_HOST) AS account,
                 CAST(COALESCE(e.TIMER_WAIT DIV 1000000000, th.PROCESSLIST_TIME * 1000,
                   (SELECT VARIABLE_VALUE * 1000 FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime')) AS CHAR) AS ageMs
            FROM (${owners}) AS o
            LEFT JOIN performance_schema.threads th ON th.THREAD_ID = o.owner
            LEFT JOIN performance_schema.events_transactions_current e ON e.THREAD_ID = o.owner`;
}

const oldestFirst = "ORDER BY th.THREAD_ID IS NULL DESC, e.TIMER_WAIT DESC";

async function mariadbGateHolders(
  connection: MysqlConnection,
  waiting: { readonly connectionId: number },
): Promise<Holder[]> {
  return await holders(
    connection,
    `SELECT DISTINCT NULLIF(CAST(t.trx_mysql_thread_id AS CHAR), '0') AS id, CONCAT(p.USER, '@', p.HOST) AS account, ${age} AS ageMs
       FROM information_schema.INNODB_LOCK_WAITS w
       JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id AND r.trx_mysql_thread_id = ?
       JOIN information_schema.INNODB_TRX t ON t.trx_id = w.blocking_trx_id
       LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
      ORDER BY t.trx_started LIMIT ${namesShown}`,
    [waiting.connectionId],
  );
}

const age = "CAST(GREATEST(TIMESTAMPDIFF(MICROSECOND, t.trx_started, NOW(6)), 0) DIV 1000 AS CHAR)";

function describe({ id, account, ageMs }: Holder): string {
  if (id === null) return "a prepared XA transaction without a client (see XA RECOVER)";
  return `connection ${id} (${account ?? "unknown account"}), transaction open for ${(ageMs / 1000).toFixed(1)} s`;
}

/** Three seconds: a statement that runs longer may run for hours. */
const triesDespiteStatements = 20;

async function despiteStatements<T>(ask: () => Promise<T>): Promise<T> {
  for (let left = triesDespiteStatements; ; left -= 1) {
    try {
      return await ask();
    } catch (error) {
      if (!isUnspeakable(error)) throw error;
      if (left === 0) {
        throw new ShardliftError(
          "E_PREFLIGHT",
          "MySQL does not tell of open transactions while a session runs a statement with characters of four bytes",
          {
            cause: error,
            next: "GRANT SELECT ON performance_schema.* to shardlift's account, and let it record transactions: UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_transactions_current'.",
            retryable: true,
          },
        );
      }
    }
    await pause(askAgainMs);
  }
}

/** 3854: a running statement has a character that utf8mb3 does not know. */
function isUnspeakable(error: unknown): boolean {
  return errnoOf(error) === 3854 || (error instanceof ShardliftError && errnoOf(error.cause) === 3854);
}

async function explained<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!isDenied(error)) throw error;
    throw new ShardliftError("E_PREFLIGHT", "the account may not see other sessions' transactions", {
      cause: error,
      next: "GRANT PROCESS ON *.* to shardlift's account; on MySQL also GRANT SELECT ON performance_schema.*.",
    });
  }
}
