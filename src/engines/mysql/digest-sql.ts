import { keySelectList } from "./key-codec.ts";
import { quoteIdentifier } from "./quote.ts";
import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * The hash of a row as SQL: 64 bits of SHA-256 over all columns, the generated ones too. The same text on both
 * servers, in sessions with NAMES binary and time_zone '+00:00'.
 *
 * Invariant: two rows that differ in any stored byte give different texts to hash, so a difference stays hidden only
 * with the chance of a SHA-256 prefix. Therefore no collation or charset takes part (everything is bytes), FLOAT is
 * hashed as the double that it stands for, ENUM and SET by number, and the fields can not run into each other:
 *
 *   numbers, times and hashes never hold the separator 0x01; each string is followed, at the end, by its length;
 *   CONCAT_WS leaves NULL out, and one digit a nullable column says which ones were NULL.
 *
 * Values above `inlineBytes` go in as hashes: a text above max_allowed_packet would make everything NULL
 * (hard-cases, D31), and a NULL would vanish from BIT_XOR. Should one appear all the same, the statement fails.
 */
export function rowHash(table: MysqlTable): string {
  const { columns } = table.detail;
  const lengths = columns.filter(isString).map((column) => `LENGTH(${quoteIdentifier(column.name)})`);
  const nulls = columns
    .filter(({ nullable }) => nullable)
    .map(({ name }) => `ISNULL(${quoteIdentifier(name)})`);
  const flags = nulls.length === 0 ? [] : [`CONCAT(${nulls.join(",")})`];
  return `SHA2(CONCAT_WS(X'01',${[...columns.map(field), ...lengths, ...flags].join(",")}),256)`;
}

/** The first 64 bits as a number for BIT_XOR. */
export function rowHashNumber(table: MysqlTable): string {
  const number = `CAST(CONV(LEFT(${rowHash(table)},16),16,10) AS UNSIGNED)`;
  // A hash of NULL must not be skipped in silence: the sum is above BIGINT UNSIGNED, which is an error (1690) on both
  // servers in every sql_mode. It names a column so that no optimizer works it out beforehand.
  const [key = ""] = table.primaryKey;
  return `IFNULL(${number},18446744073709551615+(LENGTH(${quoteIdentifier(key)})>=0))`;
}

/** The bucket of a row's key; `bucketCount` is a power of two. CRC32 only spreads here, it proves nothing. */
export function keyBucket(table: MysqlTable, bucketCount: number): string {
  return `(CRC32(CONCAT_WS(',',${keySelectList(table).join(",")}))&${bucketCount - 1})`;
}

/** Longer strings go in as their own hash; a row of 100 such columns still stays far below 1 MiB. */
const inlineBytes = 512;

function field(column: MysqlColumn): string {
  const name = quoteIdentifier(column.name);
  if (isString(column)) {
    const bytes = `CAST(${name} AS BINARY)`;
    const short = column.octetLength !== undefined && column.octetLength <= inlineBytes;
    return short ? bytes : `IF(LENGTH(${name})>${inlineBytes},SHA2(${name},256),${bytes})`;
  }
  switch (column.dataType) {
    case "float":
    case "double":
      return `${name}*1e0`;
    case "enum":
    case "set":
    case "bit":
      return `CAST(${name} AS UNSIGNED)`;
    default:
      // Text of numbers and times is exact. What is left (JSON of MySQL, GEOMETRY, VECTOR, UUID …) has one text or
      // byte form at a server, and its hash can hold no separator.
      return textTypes.has(column.dataType) ? name : `SHA2(${name},256)`;
  }
}

function isString(column: MysqlColumn): boolean {
  return stringTypes.has(column.dataType);
}

const stringTypes: ReadonlySet<string> = new Set([
  "char",
  "varchar",
  "tinytext",
  "text",
  "mediumtext",
  "longtext",
  "binary",
  "varbinary",
  "tinyblob",
  "blob",
  "mediumblob",
  "longblob",
]);

const textTypes: ReadonlySet<string> = new Set([
  "tinyint",
  "smallint",
  "mediumint",
  "int",
  "bigint",
  "decimal",
  "year",
  "date",
  "time",
  "datetime",
  "timestamp",
]);
