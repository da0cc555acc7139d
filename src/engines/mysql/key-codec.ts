import { invariant } from "../../errors/error.ts";
import type { KeyId, KeyInterval } from "../engine.ts";
import { quoteIdentifier } from "./quote.ts";
import { columnNamed, type MysqlColumn, type MysqlTable } from "./table.ts";

/**
 * Primary keys as text, and back into SQL. A KeyId is the parts of the primary key joined by `,`; no part can contain
 * one. The same row must give the same text wherever it is read: `keySelectList` makes the server print it,
 * `log/key-decoding.ts` makes it from the log's bytes, and a contract test holds the two together on real servers.
 *
 * - integers, YEAR, BIT, ENUM (index), SET (bits): decimal text;
 * - DECIMAL: plain text with all digits of the scale;
 * - BINARY (padded), VARBINARY, CHAR (without trailing spaces), VARCHAR, BLOB, TEXT: `0x` and lower-case hex of the
 *   stored bytes in the column's own character set;
 * - DATE, TIME, DATETIME, TIMESTAMP (in UTC): the server's text with all digits of the column's fraction.
 *
 * All SQL made here assumes time_zone='+00:00' and no strict mode (zero dates are legal keys).
 */

export type KeyKind = "integer" | "decimal" | "number" | "bytes" | "text" | "datetime" | "time";

const kinds: Readonly<Record<string, KeyKind>> = {
  tinyint: "integer",
  smallint: "integer",
  mediumint: "integer",
  int: "integer",
  bigint: "integer",
  decimal: "decimal",
  year: "number",
  bit: "number",
  enum: "number",
  set: "number",
  binary: "bytes",
  varbinary: "bytes",
  tinyblob: "bytes",
  blob: "bytes",
  mediumblob: "bytes",
  longblob: "bytes",
  char: "text",
  varchar: "text",
  tinytext: "text",
  text: "text",
  mediumtext: "text",
  longtext: "text",
  date: "datetime",
  datetime: "datetime",
  timestamp: "datetime",
  time: "time",
};

/** How a column's value is written in a KeyId; undefined when its type can not be part of a key. */
export function keyKindOf(column: MysqlColumn): KeyKind | undefined {
  return kinds[column.dataType];
}

/** Why a column can not be part of a primary key that shardlift moves; undefined when it can. For preflight. */
export function whyNotKeyColumn(column: MysqlColumn): string | undefined {
  if (keyKindOf(column) === undefined) return `a key of type ${column.columnType} has no exact text form`;
  if (column.columnType.includes("mariadb-5.3")) {
    // Its bytes in the log have another layout that TABLE_MAP does not describe (facts/hard-cases, D33).
    return `column ${column.name} has the temporal format of MariaDB 5.3; rebuild the table with mysql56_temporal_format=ON`;
  }
  if (column.dataType === "set" && memberCount(column) > exactSetMembers) {
    return `SET column ${column.name} has more than ${exactSetMembers} members; servers compare it as a DOUBLE`;
  }
  return undefined;
}

/** A SET is compared with a number as DOUBLE (measured on both servers): bits above 2^52 are lost. */
const exactSetMembers = 52;

/** Members of an ENUM or SET; a quote inside a member is doubled in COLUMN_TYPE. */
function memberCount(column: MysqlColumn): number {
  return column.columnType.match(/'(?:[^']|'')*'/g)?.length ?? 0;
}

/** `client` only if every part has one exact order that this process knows (DESIGN rule 5). */
export function keyOrderOf(table: MysqlTable): "client" | "server" {
  return keyColumns(table).some((column) => kindOf(column) === "text") ? "server" : "client";
}

export function keyColumns(table: MysqlTable): readonly MysqlColumn[] {
  return table.primaryKey.map((name) => columnNamed(table, name));
}

export function keyFromParts(parts: readonly string[]): KeyId {
  return parts.join(",");
}

export function keyParts(table: MysqlTable, key: KeyId): readonly string[] {
  const parts = key.split(",");
  invariant(parts.length === table.primaryKey.length, `"${key}" is not a key of table ${table.name}`);
  return parts;
}

// ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Orders two keys as the server does; `client` tables only. */
export function compareKeyIds(table: MysqlTable, a: KeyId, b: KeyId): number {
  return keyComparator(table)(a, b);
}

/** The same as a function for one table: looks at the types once. For sorts and searches. */
export function keyComparator(table: MysqlTable): (a: KeyId, b: KeyId) => number {
  const comparators = keyColumns(table).map((column) => partComparator(column));
  const [only] = comparators;
  invariant(only !== undefined, `table ${table.name} has no primary key`);
  if (comparators.length === 1) return only;
  return (a, b) => {
    const left = keyParts(table, a);
    const right = keyParts(table, b);
    for (const [index, compare] of comparators.entries()) {
      const order = compare(left[index] ?? "", right[index] ?? "");
      if (order !== 0) return order;
    }
    return 0;
  };
}

function partComparator(column: MysqlColumn): (a: string, b: string) => number {
  const kind = kindOf(column);
  switch (kind) {
    case "integer":
    case "number":
    case "decimal":
      return compareNumbers;
    // Bytes compare like their lower-case hex, a prefix first; zero-filled dates like their text.
    case "bytes":
    case "datetime":
      return compareText;
    case "time":
      return (a, b) => compareNumbers(timeDigits(a), timeDigits(b));
    case "text":
      invariant(false, `only the server can order column ${column.name}`);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Two plain numbers with the same number of fraction digits and no leading zeros: the longer one is the greater. */
function compareNumbers(a: string, b: string): number {
  const aNegative = a.startsWith("-");
  if (aNegative !== b.startsWith("-")) return aNegative ? -1 : 1;
  const [left, right] = aNegative ? [b, a] : [a, b];
  return left.length === right.length ? compareText(left, right) : left.length - right.length;
}

/** `-100:05:07.25` as `-1000507.25`, so that times compare like numbers of one scale. */
function timeDigits(text: string): string {
  const digits = text.replaceAll(":", "");
  // Two-digit hours give leading zeros up to the third digit; the server never writes fewer than two.
  return digits.startsWith("-") ? `-${digits.slice(1).padStart(15, "0")}` : digits.padStart(15, "0");
}

// ── SQL ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Expressions, one per part of the key, that make the server print the part in canonical text. */
export function keySelectList(table: MysqlTable, alias?: string): readonly string[] {
  return keyColumns(table).map((column) => {
    const name = qualified(column, alias);
    switch (kindOf(column)) {
      case "integer":
      case "decimal":
        // ZEROFILL prints leading zeros, and only unsigned columns have it.
        if (!/zerofill/i.test(column.columnType)) return name;
        return kindOf(column) === "integer"
          ? `CAST(${name} AS UNSIGNED)`
          : `CAST(${name} AS DECIMAL(${column.precision ?? 65},${column.scale ?? 0}))`;
      case "number":
        // CAST and not `+0`: an ENUM or SET plus 0 is a DOUBLE, which loses bits of a SET above 53 members.
        return `CAST(${name} AS UNSIGNED)`;
      case "bytes":
      case "text":
        // LOWER does nothing to binary strings, and HEX gives one when the session's charset is binary.
        return `CONCAT('0x',LOWER(CONVERT(HEX(${name}) USING latin1)))`;
      case "datetime":
      case "time":
        return name;
    }
  });
}

/** Exact SQL literals, one per part. */
export function keyToLiterals(table: MysqlTable, key: KeyId): string[] {
  const parts = keyParts(table, key);
  return keyColumns(table).map((column, index) => partLiteral(column, parts[index] ?? ""));
}

function partLiteral(column: MysqlColumn, part: string): string {
  switch (kindOf(column)) {
    case "integer":
    case "number":
    case "decimal":
      // Nothing but digits may pass unquoted: keys come back from journals and ledgers.
      invariant(/^-?\d+(\.\d+)?$/.test(part), `"${part}" is not a number for column ${column.name}`);
      return part;
    case "bytes":
    case "text": {
      invariant(/^0x([0-9a-f]{2})*$/.test(part), `"${part}" are not bytes for column ${column.name}`);
      // X'' and not 0x: an empty value has no 0x form.
      const introducer = kindOf(column) === "text" ? `_${charsetOf(column)} ` : "";
      return `${introducer}X'${part.slice(2)}'`;
    }
    case "datetime":
    case "time":
      invariant(/^-?[\d:. -]+$/.test(part), `"${part}" is not a time for column ${column.name}`);
      return `'${part}'`;
  }
}

function charsetOf(column: MysqlColumn): string {
  const charset = column.charset ?? "";
  invariant(/^[a-z0-9_]+$/i.test(charset), `column ${column.name} has no character set`);
  return charset;
}

/**
 * A condition that is true for exactly the given keys (in the server's own equality). Shaped so that both servers
 * use it as index ranges (by EXPLAIN): keys with the same leading parts share them, and lists stay below
 * in_predicate_conversion_threshold (1000), from which on MariaDB turns them into a join. At most a few thousand keys:
 * at 5,000 composite ones MariaDB's optimiser gives up and scans the table.
 */
export function whereKeys(table: MysqlTable, keys: readonly KeyId[], alias?: string): string {
  invariant(keys.length > 0, "a condition for no keys");
  const names = keyColumns(table).map((column) => qualified(column, alias));
  const lastName = names.at(-1) ?? "";
  const groups = new Map<string, string[]>();
  for (const key of keys) {
    const literals = keyToLiterals(table, key);
    const last = literals.pop() ?? "";
    const prefix = literals.map((literal, index) => `${names[index]}=${literal} AND `).join("");
    const group = groups.get(prefix);
    if (group === undefined) groups.set(prefix, [last]);
    else group.push(last);
  }
  const terms: string[] = [];
  for (const [prefix, values] of groups) {
    for (let from = 0; from < values.length; from += listLength) {
      const list = values.slice(from, from + listLength);
      const last = list.length === 1 ? `${lastName}=${list[0]}` : `${lastName} IN (${list.join(",")})`;
      terms.push(`${prefix}${last}`);
    }
  }
  return terms.length === 1 ? `(${terms[0]})` : `((${terms.join(") OR (")}))`;
}

/** Elements of one IN list; see `whereKeys`. */
const listLength = 900;

/**
 * A condition for the keys in `[from, to)`. Expanded, never a row constructor: those are full index scans on both
 * servers (facts/copy-and-log, 5).
 */
export function whereInterval(table: MysqlTable, interval: KeyInterval, alias?: string): string {
  const conditions: string[] = [];
  if (interval.from !== undefined) conditions.push(bound(table, interval.from, ">", alias));
  if (interval.to !== undefined) conditions.push(bound(table, interval.to, "<", alias));
  return conditions.length === 0 ? "TRUE" : `(${conditions.join(" AND ")})`;
}

/** `a>1 OR (a=1 AND (b>2 OR (b=2 AND c>=3)))`, with the harmless `a>=1 AND` that shows the optimiser the range. */
function bound(table: MysqlTable, key: KeyId, side: "<" | ">", alias: string | undefined): string {
  const columns = keyColumns(table);
  const literals = keyToLiterals(table, key);
  const at = columns.length - 1;
  let condition = "";
  for (const [back, column] of columns.toReversed().entries()) {
    const name = qualified(column, alias);
    const literal = literals[at - back] ?? "";
    // The lower end is part of the interval, the upper one is not.
    if (back === 0) condition = compared(column, name, literal, side === ">" ? ">=" : "<");
    else condition = `(${compared(column, name, literal, side)} OR (${name}=${literal} AND ${condition}))`;
    if (back === at && at > 0) condition = `${compared(column, name, literal, `${side}=`)} AND ${condition}`;
  }
  return condition;
}

type Comparison = "<" | ">" | "<=" | ">=";

/**
 * Neither server makes an index range of `enum < number` (a full index scan for every chunk, by EXPLAIN), but both
 * make one of a list of numbers.
 */
function compared(column: MysqlColumn, name: string, literal: string, comparison: Comparison): string {
  const members = column.dataType === "enum" ? memberCount(column) : 0;
  if (members === 0 || members > listLength) return `${name}${comparison}${literal}`;
  const value = Number(literal);
  // Index 0 is the error value ''.
  const list = Array.from({ length: members + 1 }, (_, index) => index).filter((index) => {
    if (index === value) return comparison.endsWith("=");
    return comparison.startsWith("<") ? index < value : index > value;
  });
  return list.length === 0 ? "FALSE" : `${name} IN (${list.join(",")})`;
}

function qualified(column: MysqlColumn, alias: string | undefined): string {
  const name = quoteIdentifier(column.name);
  return alias === undefined ? name : `${quoteIdentifier(alias)}.${name}`;
}

function kindOf(column: MysqlColumn): KeyKind {
  const kind = keyKindOf(column);
  invariant(
    kind !== undefined,
    `column ${column.name} of type ${column.columnType} can not be part of a key`,
  );
  return kind;
}

// ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────

/** `order_id=5, line=2`; text is shown as text where its bytes are plain. */
export function formatKey(table: MysqlTable, key: KeyId): string {
  const parts = keyParts(table, key);
  return keyColumns(table)
    .map((column, index) => `${column.name}=${formatPart(column, parts[index] ?? "")}`)
    .join(", ");
}

function formatPart(column: MysqlColumn, part: string): string {
  const charset = column.charset ?? "";
  if (kindOf(column) !== "text" || !/^(utf8|ascii|latin1)/.test(charset)) return part;
  const bytes = Buffer.from(part.slice(2), "hex");
  const text = bytes.toString(charset.startsWith("utf8") ? "utf8" : "latin1");
  // Control characters and look-alikes could mislead whoever reads the terminal: show bytes then (hard-cases, X09).
  return /^[\p{L}\p{N}\p{P}\p{S} ]*$/u.test(text) && !text.includes("\uFFFD") ? `'${text}'` : part;
}
