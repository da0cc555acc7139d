import { ShardliftError } from "../../errors/error.ts";
import { createLedgerTable, ledgerDatabase, ledgerTables } from "./ledger-schema.ts";
import { execute, query, type MysqlConnection } from "./query.ts";

/**
 * Makes and removes the `_shardlift` database. A named lock of the server keeps an uninstall of one job from dropping
 * what another job is just installing; it is released with the connection at the latest.
 */
export async function withInstallLock<T>(connection: MysqlConnection, body: () => Promise<T>): Promise<T> {
  const [row] = await query<{ got: string | null }>(
    connection,
    "SELECT CAST(GET_LOCK('shardlift:install', 30) AS CHAR) AS got",
  );
  if (row?.got !== "1") {
    throw new ShardliftError("E_TIMEOUT", "another shardlift is installing its tables at this server", {
      retryable: true,
    });
  }
  try {
    return await body();
  } finally {
    await query(connection, "SELECT RELEASE_LOCK('shardlift:install') AS released");
  }
}

/** Looks first: even a CREATE that finds the table in its place would be written to the log and sent to replicas. */
export async function createLedger(connection: MysqlConnection): Promise<void> {
  const present = await ledgerTablesHere(connection);
  if (present === undefined) await execute(connection, `CREATE DATABASE IF NOT EXISTS ${ledgerDatabase}`);
  for (const table of Object.keys(ledgerTables)) {
    if (present?.has(table) !== true) await execute(connection, createLedgerTable(table));
  }
}

/** Drops what `createLedger` made, and the database unless somebody keeps something else in it. */
export async function dropLedger(connection: MysqlConnection): Promise<void> {
  const names = Object.keys(ledgerTables).map((table) => `${ledgerDatabase}.${table}`);
  await execute(connection, `DROP TABLE IF EXISTS ${names.join(", ")}`);
  if ((await ledgerTablesHere(connection))?.size === 0) {
    await execute(connection, `DROP DATABASE IF EXISTS ${ledgerDatabase}`);
  }
}

/** The tables in `_shardlift`, ours or not; undefined without the database. */
export async function ledgerTablesHere(connection: MysqlConnection): Promise<Set<string> | undefined> {
  const databases = await query(
    connection,
    "SELECT SCHEMA_NAME AS name FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
    [ledgerDatabase],
  );
  if (databases.length === 0) return undefined;
  const tables = await query<{ name: string }>(
    connection,
    "SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?",
    [ledgerDatabase],
  );
  return new Set(tables.map((table) => table.name));
}
