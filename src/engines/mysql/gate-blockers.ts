import { ShardliftError } from "../../errors/error.ts";
import { isDenied } from "./errors.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { query, type MysqlConnection } from "./query.ts";
import type { ServerFacts } from "./server-facts.ts";

/**
 * Who is in the gate's way: names for the operator, and the age of the oldest transaction. Only for waiting and for
 * messages; no decision about data rests on it.
 * Needs PROCESS (both servers) and, to see which transactions touch the tables, SELECT on performance_schema (MySQL;
 * without it every transaction counts). Ages have the resolution of `trx_started`, a second, rounded upwards.
 * The connection must be in the server's own time zone, which is what `trx_started` is written in (measured on both
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
  const found = await explained(transactions(connection, scope, namesShown));
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
  const rows = await query<RawHolder>(connection, sql, values);
  return rows.map((row) => ({ ...row, ageMs: Number(row.ageMs) }));
}

async function transactions(
  connection: MysqlConnection,
  scope: BlockerScope,
  limit: number,
): Promise<Holder[]> {
  if (scope.flavor === "mysql" && (await seesMetadataLocks(connection))) {
    return await mysqlTransactionsOn(connection, scope, limit);
  }
  return await holders(
    connection,
    `SELECT NULLIF(CAST(t.trx_mysql_thread_id AS CHAR), '0') AS id, CONCAT(p.USER, '@', p.HOST) AS account, ${age} AS ageMs
       FROM information_schema.INNODB_TRX t LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
      WHERE COALESCE(p.USER, '') <> ? ORDER BY t.trx_started LIMIT ${limit}`,
    [scope.toolUser],
  );
}

/** Metadata locks are kept to the end of a transaction, so they tell which tables it has touched. */
async function mysqlTransactionsOn(
  connection: MysqlConnection,
  scope: BlockerScope,
  limit: number,
): Promise<Holder[]> {
  const touches = `m.OBJECT_TYPE = 'TABLE' AND m.OBJECT_SCHEMA = ? AND m.OBJECT_NAME IN (?) AND m.LOCK_STATUS = 'GRANTED'`;
  return await holders(
    connection,
    `SELECT NULLIF(CAST(t.trx_mysql_thread_id AS CHAR), '0') AS id,
            CONCAT(th.PROCESSLIST_USER, '@', th.PROCESSLIST_HOST) AS account, ${age} AS ageMs
       FROM information_schema.INNODB_TRX t
       LEFT JOIN performance_schema.threads th ON th.PROCESSLIST_ID = t.trx_mysql_thread_id
      WHERE COALESCE(th.PROCESSLIST_USER, '') <> ?
        AND (th.THREAD_ID IS NULL OR EXISTS (
              SELECT 1 FROM performance_schema.metadata_locks m WHERE m.OWNER_THREAD_ID = th.THREAD_ID AND ${touches}))
      ORDER BY t.trx_started LIMIT ${limit}`,
    [scope.toolUser, scope.database, scope.tables],
  );
}

/** False where the instrument is off (its table is then empty and would say "nobody") or we may not read it. */
async function seesMetadataLocks(connection: MysqlConnection): Promise<boolean> {
  try {
    const [row] = await query<{ seen: string }>(
      connection,
      `SELECT CAST(@@GLOBAL.performance_schema = 1 AND EXISTS (
                SELECT 1 FROM performance_schema.setup_instruments
                 WHERE NAME = 'wait/lock/metadata/sql/mdl' AND ENABLED = 'YES')
              AND EXISTS (SELECT 1 FROM performance_schema.metadata_locks) AS CHAR) AS seen`,
    );
    return row?.seen === "1";
  } catch (error) {
    if (isDenied(error)) return false;
    throw error;
  }
}

async function mysqlGateHolders(connection: MysqlConnection, job: string): Promise<Holder[]> {
  return await holders(
    connection,
    `SELECT CAST(th.PROCESSLIST_ID AS CHAR) AS id, CONCAT(th.PROCESSLIST_USER, '@', th.PROCESSLIST_HOST) AS account, ${age} AS ageMs
       FROM performance_schema.data_locks l
       JOIN information_schema.INNODB_TRX t ON t.trx_id = l.ENGINE_TRANSACTION_ID
       LEFT JOIN performance_schema.threads th ON th.THREAD_ID = l.THREAD_ID
      WHERE l.OBJECT_SCHEMA = ? AND l.OBJECT_NAME = 'gate' AND l.LOCK_TYPE = 'RECORD' AND l.LOCK_STATUS = 'GRANTED'
        AND l.LOCK_DATA = ?
      ORDER BY t.trx_started LIMIT ${namesShown}`,
    // The server shows the key of the locked row as a literal.
    [ledgerDatabase, `'${job}'`],
  );
}

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
  const who =
    id === null
      ? "a prepared XA transaction without a client"
      : `connection ${id} (${account ?? "unknown account"})`;
  return `${who}, transaction open for ${(ageMs / 1000).toFixed(1)} s`;
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
