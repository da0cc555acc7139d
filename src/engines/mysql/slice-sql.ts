import { invariant } from "../../errors/error.ts";
import { isKeyValue, type KeyType, type KeyValue } from "../../model/key.ts";
import { normalizeSlice, type Interval, type Slice } from "../../model/slice.ts";
import { quoteIdentifier } from "./quote.ts";
import { columnNamed, type MysqlTable } from "./table.ts";

/**
 * The predicate "this row lies in the slice", the same text for the copy, the tail, the gate and the verification
 * (facts/hard-cases, K17: the server compares, and all four must agree).
 * Invariant: for every row, the predicate holds exactly when `sliceContains` holds for its shard key. That rests on
 * the column being NOT NULL and of a type with one exact order (preflight) and on `time_zone='+00:00'` in our own
 * sessions. Half-open, always in parentheses when it is more than one word, so it may stand inside any AND.
 */
export function sliceWhere(table: MysqlTable, slice: Slice, alias?: string): string {
  const parts = normalizeSlice(table.keyType, slice).map((interval) => intervalSql(table, interval, alias));
  if (parts.length === 0) return "FALSE";
  if (parts.includes("TRUE")) return "TRUE";
  return `(${parts.map((part) => `(${part})`).join(" OR ")})`;
}

function intervalSql(table: MysqlTable, { from, to }: Interval, alias: string | undefined): string {
  const ends: string[] = [];
  const column = keyColumn(table, alias);
  if (from.at === "KEY") ends.push(`${column.sql} >= ${column.literal(from.key)}`);
  if (to.at === "KEY") ends.push(`${column.sql} < ${column.literal(to.key)}`);
  return ends.length === 0 ? "TRUE" : ends.join(" AND ");
}

/** The shard-key column and the form in which its bounds are written. */
function keyColumn(
  table: MysqlTable,
  alias: string | undefined,
): { readonly sql: string; readonly literal: (key: KeyValue) => string } {
  const plain = `${alias === undefined ? "" : `${aliasSql(alias)}.`}${quoteIdentifier(table.shardKey)}`;
  const inTrigger = alias === "NEW" || alias === "OLD";
  if (inTrigger && columnNamed(table, table.shardKey).dataType === "timestamp") {
    // A trigger runs in the time zone of the application's session, where a TIMESTAMP shows another text. The
    // seconds since 1970 are the stored value itself (manual, Date and Time Functions, UNIX_TIMESTAMP). For the zero
    // date MariaDB gives NULL and MySQL 0 (measured).
    return { sql: `COALESCE(UNIX_TIMESTAMP(${plain}), 0)`, literal: epochSeconds };
  }
  return { sql: plain, literal: (key) => keyLiteral(table.keyType, key) };
}

/** NEW and OLD are words of the trigger language, not names, and must not be quoted. */
function aliasSql(alias: string): string {
  return alias === "NEW" || alias === "OLD" ? alias : quoteIdentifier(alias);
}

/** A shard-key value as an exact literal: nothing passes through a float or a collation. */
export function keyLiteral(type: KeyType, key: KeyValue): string {
  invariant(isKeyValue(type, key), `not a shard key of type ${type}: ${key}`);
  if (type === "binary") return `x'${key.slice(2)}'`;
  return type === "temporal" ? `'${key}'` : key;
}

/** Microseconds are appended as text: a Date keeps milliseconds only. */
function epochSeconds(key: KeyValue): string {
  invariant(isKeyValue("temporal", key), `not a shard key of type temporal: ${key}`);
  // The zero date counts as 0 and lies below the least real TIMESTAMP, 1970-01-01 00:00:01.
  if (key.startsWith("0000-00-00")) return "0";
  const [date = "", time = "00:00:00"] = key.split(" ");
  const [whole = "", fraction = ""] = time.split(".");
  const seconds = Date.parse(`${date}T${whole}Z`) / 1000;
  invariant(Number.isSafeInteger(seconds), `no moment in time: ${key}`);
  if (seconds <= 0) return "0.5";
  return fraction === "" ? String(seconds) : `${seconds}.${fraction}`;
}
