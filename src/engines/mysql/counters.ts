import { ShardliftError } from "../../errors/error.ts";
import { query, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * The AUTO_INCREMENT counter of a table in the connection's database.
 * Invariant: what is read is what the server would hand out next, not a statistic: on MySQL the session has
 * information_schema_stats_expiry=0 (without it the figure may be a day old, facts/pitfalls 20); MariaDB is exact.
 */
export async function readAutoIncrement(
  connection: MysqlConnection,
  table: MysqlTable,
): Promise<{ readonly next: bigint; readonly max: bigint } | undefined> {
  const column = table.detail.columns.find((candidate) => candidate.autoIncrement);
  if (column === undefined) return undefined;
  const [row] = await query<{ next: string | null }>(
    connection,
    "SELECT CAST(AUTO_INCREMENT AS CHAR) AS next FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
    [table.name],
  );
  // NULL: nothing was handed out yet.
  return { next: BigInt(row?.next ?? 1), max: greatestValue(column) };
}

/** FLOAT and DOUBLE counters (MariaDB allows them) are exact only up to 2^24 and 2^53. */
function greatestValue(column: MysqlColumn): bigint {
  const bits = integerBits[column.dataType] ?? 24;
  return 2n ** BigInt(column.unsigned && column.dataType in integerBits ? bits : bits - 1) - 1n;
}

const integerBits: Readonly<Record<string, number>> = {
  tinyint: 8,
  smallint: 16,
  mediumint: 24,
  int: 32,
  bigint: 64,
};

/**
 * Raises the counter to at least `value`; a smaller value would lower it (manual, ALTER TABLE), so it is not sent.
 * `alter` runs the ALTER TABLE without keeping the table's readers waiting (gate-ddl.ts).
 */
export async function raiseAutoIncrement(
  connection: MysqlConnection,
  table: MysqlTable,
  value: bigint,
  alter: (sql: string) => Promise<void>,
): Promise<void> {
  const before = await readAutoIncrement(connection, table);
  if (before === undefined || before.next >= value) return;
  if (value <= before.max) {
    await alter(`ALTER TABLE ${quoteIdentifier(table.name)} AUTO_INCREMENT = ${value}`);
    const after = await readAutoIncrement(connection, table);
    if (after !== undefined && after.next >= value) return;
  }
  throw new ShardliftError(
    "E_COUNTER_FULL",
    `table ${table.name}: the AUTO_INCREMENT counter stands at ${before.next} and can not be raised to ${value} (the column holds up to ${before.max})`,
  );
}
