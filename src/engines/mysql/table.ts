import { invariant } from "../../errors/error.ts";
import type { TableShape } from "../engine.ts";
import type { UnreadableText } from "./true-texts.ts";

/** A column as information_schema.COLUMNS shows it, in ordinal order. */
export interface MysqlColumn {
  readonly name: string;
  /** DATA_TYPE in lower case: `bigint`, `varchar`, `json` … (MariaDB shows JSON as `longtext`). */
  readonly dataType: string;
  /** COLUMN_TYPE: `bigint(20) unsigned`, `enum('a','b')` …, with true members (`x'…'` where utf8mb4 can not say one). */
  readonly columnType: string;
  readonly unsigned: boolean;
  readonly nullable: boolean;
  /** Character set and collation of text columns, ENUM and SET. */
  readonly charset: string | undefined;
  readonly collation: string | undefined;
  /** CHARACTER_OCTET_LENGTH: declared bytes of strings; BINARY(n) keys are padded to it. */
  readonly octetLength: number | undefined;
  /** NUMERIC_PRECISION and NUMERIC_SCALE. */
  readonly precision: number | undefined;
  readonly scale: number | undefined;
  /** DATETIME_PRECISION: digits of the fraction of a second. */
  readonly fraction: number | undefined;
  readonly generated: "virtual" | "stored" | undefined;
  readonly invisible: boolean;
  readonly autoIncrement: boolean;
}

/** What the MySQL engine keeps in `TableShape.detail`. Plain JSON. */
export interface MysqlDetail {
  readonly database: string;
  readonly columns: readonly MysqlColumn[];
  /** SHOW CREATE TABLE with its true texts, except for those in `unreadable`. */
  readonly createSql: string;
  readonly unreadable?: readonly UnreadableText[];
  /** Non-unique indexes that may be built after the copy: `ADD …` clauses for one ALTER TABLE. */
  readonly deferrableIndexes: readonly { readonly name: string; readonly clause: string }[];
  /** All unique keys with their columns; `PRIMARY` first. */
  readonly uniqueKeys: readonly { readonly name: string; readonly columns: readonly string[] }[];
}

export interface MysqlTable extends TableShape {
  readonly detail: MysqlDetail;
}

/** The engine's own view of a shape that this engine has described. */
export function mysqlTable(shape: TableShape): MysqlTable {
  const detail = shape.detail as MysqlDetail | undefined;
  invariant(detail?.columns !== undefined, `table ${shape.name} was not described by the MySQL engine`);
  return shape as MysqlTable;
}

/** Columns that are read and written: all but the generated ones, invisible ones included (facts/copy-and-log, 4). */
export function copiedColumns(table: MysqlTable): readonly MysqlColumn[] {
  return table.detail.columns.filter((column) => column.generated === undefined);
}

export function columnNamed(table: MysqlTable, name: string): MysqlColumn {
  const column = table.detail.columns.find((c) => c.name === name);
  invariant(column !== undefined, `table ${table.name} has no column ${name}`);
  return column;
}
