import { ShardliftError } from "../../errors/error.ts";
import type { FieldKind } from "./load-text.ts";
import { quoteIdentifier } from "./quote.ts";
import { copiedColumns, type MysqlColumn, type MysqlTable } from "./table.ts";

/**
 * The form in which each type of column travels from SELECT to LOAD DATA, so that the stored bytes are the same at
 * both ends. Both sessions use NAMES binary, `CHARACTER SET binary`, time_zone '+00:00' and no strict mode; so text of
 * every charset, BLOB, BIT, GEOMETRY and VECTOR pass as raw bytes, and integers, DECIMAL and times as the server's own
 * text. The exceptions (all measured, test/contract/mysql-rows.test.ts):
 *
 * - FLOAT is printed with 6 digits, and FLOAT(M,D)/DOUBLE(M,D) with D: `*1e0` makes both a plain DOUBLE, whose text is
 *   exact. Not `+0e0`, which turns -0 into 0.
 * - ENUM and SET travel as numbers: the error value of an ENUM (index 0) has the same text as a member ''. LOAD DATA
 *   takes a text for a member's name first and for a number only then, so numbers are padded to a width that no
 *   member made of digits has. MariaDB warns of each index 0: these warnings are counted and expected.
 * - JSON of MySQL is refused under CHARACTER SET binary (error 3144) and needs a SET clause, which MariaDB must not
 *   have: it makes LOAD DATA ignore NO_AUTO_VALUE_ON_ZERO there. What its text does not keep is put right after the
 *   load (json-decimals.ts). JSON of MariaDB is text.
 * - UUID, INET4 and INET6 of MariaDB read a binary string as the stored bytes, not as text.
 */
export interface RowForm {
  /** Select list of the copied columns, in order: generated ones are left out, invisible ones named. */
  readonly select: readonly string[];
  /** Column list of LOAD DATA; a user variable stands for a column that needs a SET clause. */
  readonly load: readonly string[];
  /** Assignments of the SET clause; empty on MariaDB. */
  readonly set: readonly string[];
  /** How the fields of the select list become text. */
  readonly kinds: readonly FieldKind[];
  /** Places in the select list of JSON that has types of its own. */
  readonly typedJson: readonly number[];
  /** The server warns of every ENUM of index 0 that it loads (and loads it rightly). */
  readonly warnsOfZeroEnums: boolean;
}

export type Flavor = "mysql" | "mariadb";

export function rowForm(table: MysqlTable, flavor: Flavor): RowForm {
  const columns = copiedColumns(table);
  const typed = columns.filter((column) => isTypedJson(column, flavor));
  const variable = (column: MysqlColumn): string => `@shardlift_${typed.indexOf(column)}`;
  return {
    select: columns.map((column) => selected(table, column, flavor)),
    load: columns.map((column) => (typed.includes(column) ? variable(column) : quoteIdentifier(column.name))),
    set: typed.map((column) => `${quoteIdentifier(column.name)}=CONVERT(${variable(column)} USING utf8mb4)`),
    kinds: columns.map((column) => fieldKind(column, flavor)),
    typedJson: typed.map((column) => columns.indexOf(column)),
    warnsOfZeroEnums: flavor === "mariadb",
  };
}

function fieldKind(column: MysqlColumn, flavor: Flavor): FieldKind {
  if (column.dataType === "enum") return "enum";
  if (isTypedJson(column, flavor)) return "json";
  return plainTypes.has(column.dataType) ? "plain" : "text";
}

/** JSON with types of its own, not MariaDB's checked text. */
function isTypedJson(column: MysqlColumn, flavor: Flavor): boolean {
  return flavor === "mysql" && column.dataType === "json";
}

function selected(table: MysqlTable, column: MysqlColumn, flavor: Flavor): string {
  const name = quoteIdentifier(column.name);
  switch (column.dataType) {
    case "float":
    case "double":
      return `${name}*1e0`;
    case "enum":
      return enumNumber(table, column, name);
    case "set":
      return setNumber(table, column, name);
    default: {
      const width = flavor === "mariadb" ? packedWidths[column.dataType] : undefined;
      return width === undefined ? name : `CAST(${name} AS BINARY(${width}))`;
    }
  }
}

/** Types of MariaDB that are stored as bytes and shown as text. */
const packedWidths: Readonly<Record<string, number>> = { uuid: 16, inet6: 16, inet4: 4 };

const plainTypes: ReadonlySet<string> = new Set([
  "tinyint",
  "smallint",
  "mediumint",
  "int",
  "bigint",
  "decimal",
  "float",
  "double",
  "year",
  "date",
  "time",
  "datetime",
  "timestamp",
  "set",
]);

/** LOAD DATA reads up to 5 characters as the index of an ENUM: enough for its 65,535 members. */
function enumNumber(table: MysqlTable, column: MysqlColumn, name: string): string {
  const members = digitMembers(column);
  if (members.length === 0) return `CAST(${name} AS UNSIGNED)`;
  const digits = String(memberNames(column).length).length;
  return padded(
    table,
    column,
    name,
    [5, 4, 3, 2, 1].filter((width) => width >= digits),
  );
}

/** LOAD DATA reads up to 21 characters as the bits of a SET; 20 hold 64 bits. */
function setNumber(table: MysqlTable, column: MysqlColumn, name: string): string {
  if (digitMembers(column).length === 0) return `CAST(${name} AS UNSIGNED)`;
  return padded(table, column, name, [21, 20]);
}

function padded(table: MysqlTable, column: MysqlColumn, name: string, widths: readonly number[]): string {
  const taken = new Set(digitMembers(column).map((member) => member.length));
  const width = widths.find((candidate) => !taken.has(candidate));
  if (width === undefined) {
    throw new ShardliftError(
      "E_PREFLIGHT",
      `column ${column.name} of table ${table.name} has members of digits in every width (${column.columnType}); its values can not be copied exactly`,
      { next: "Rename one of the members, or leave the table out of the keyspace." },
    );
  }
  return `LPAD(CAST(${name} AS UNSIGNED),${width},'0')`;
}

/** Members that LOAD DATA could take for a number, whatever a collation may hold equal to a digit. */
function digitMembers(column: MysqlColumn): string[] {
  return memberNames(column)
    .map((member) => member.normalize("NFKD").replaceAll(/[^\p{L}\p{N}\p{P}\p{S}]/gu, ""))
    .filter((member) => /^\p{N}+$/u.test(member));
}

/** `enum('a','it''s')` → [a, it's]. */
export function memberNames(column: MysqlColumn): string[] {
  const list = column.columnType.slice(
    column.columnType.indexOf("(") + 1,
    column.columnType.lastIndexOf(")"),
  );
  return [...list.matchAll(/'((?:[^']|'')*)'/g)].map((match) => (match[1] ?? "").replaceAll("''", "'"));
}
