import { query, type MysqlConnection } from "./query.ts";
import { quoteTable } from "./quote.ts";
import type { MysqlColumn } from "./table.ts";
import { readTrueTexts, type UnreadableText } from "./true-texts.ts";

/**
 * What a server says about one table, read from information_schema and SHOW CREATE TABLE, judged by nobody yet:
 * `describe.ts` makes a shape of it and the preflight rules look at it from all sides. What the server loses in
 * telling is put right here (`true-texts.ts`), before anybody looks.
 */
export interface TableFacts {
  readonly database: string;
  readonly name: string;
  /** `BASE TABLE`, `VIEW`, `SYSTEM VERSIONED`, `SEQUENCE` … */
  readonly type: string;
  readonly engine: string;
  readonly partitioned: boolean;
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
  readonly columns: readonly MysqlColumn[];
  readonly indexes: readonly IndexFacts[];
  readonly createSql: string;
  /** Texts of `columns` and `createSql` that the server does not show as they are, and nobody can tell. */
  readonly unreadable: readonly UnreadableText[];
}

export interface IndexFacts {
  readonly name: string;
  readonly unique: boolean;
  /** BTREE, FULLTEXT, SPATIAL, HASH (MariaDB's long unique keys), VECTOR … */
  readonly kind: string;
  /** In key order; undefined for a part that is an expression. */
  readonly parts: readonly { readonly column: string | undefined; readonly prefix: boolean }[];
}

/** Undefined when there is no such table here. */
export async function readTableFacts(
  connection: MysqlConnection,
  database: string,
  table: string,
): Promise<TableFacts | undefined> {
  const [row] = await query<{
    type: string;
    engine: string | null;
    options: string | null;
    tableRows: string | null;
    bytes: string | null;
  }>(
    connection,
    `SELECT TABLE_TYPE AS type, ENGINE AS engine, CREATE_OPTIONS AS options, TABLE_ROWS AS tableRows,
            DATA_LENGTH + INDEX_LENGTH AS bytes
       FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [database, table],
  );
  if (row === undefined) return undefined;
  const isView = row.type.includes("VIEW");
  const told = {
    database,
    name: table,
    columns: await readColumns(connection, database, table),
    createSql: isView ? "" : await readCreateSql(connection, database, table),
  };
  return {
    ...(await readTrueTexts(connection, told)),
    database,
    name: table,
    type: row.type,
    engine: row.engine ?? "",
    partitioned: (row.options ?? "").includes("partitioned"),
    estimatedRows: Number(row.tableRows ?? 0),
    estimatedBytes: Number(row.bytes ?? 0),
    indexes: await readIndexes(connection, database, table),
  };
}

/** The answer's columns are named by the server and never by the user, so they may be read by position. */
async function readCreateSql(connection: MysqlConnection, database: string, table: string): Promise<string> {
  const [row] = await query<Record<string, string>>(
    connection,
    `SHOW CREATE TABLE ${quoteTable(database, table)}`,
  );
  return Object.values(row ?? {})[1] ?? "";
}

async function readColumns(
  connection: MysqlConnection,
  database: string,
  table: string,
): Promise<MysqlColumn[]> {
  const rows = await query<ColumnRow>(
    connection,
    `SELECT COLUMN_NAME AS name, LOWER(DATA_TYPE) AS dataType, COLUMN_TYPE AS columnType, IS_NULLABLE AS nullable,
            CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation,
            CAST(CHARACTER_OCTET_LENGTH AS CHAR) AS octetLength, CAST(NUMERIC_PRECISION AS CHAR) AS numericPrecision,
            CAST(NUMERIC_SCALE AS CHAR) AS scale, CAST(DATETIME_PRECISION AS CHAR) AS fraction, EXTRA AS extra
       FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [database, table],
  );
  return rows.map((row) => ({
    name: row.name,
    dataType: row.dataType,
    columnType: row.columnType,
    unsigned: numericTypes.has(row.dataType) && /\bunsigned\b/i.test(row.columnType),
    nullable: row.nullable === "YES",
    charset: row.charset ?? undefined,
    collation: row.collation ?? undefined,
    octetLength: numberOf(row.octetLength),
    precision: numberOf(row.numericPrecision),
    scale: numberOf(row.scale),
    fraction: numberOf(row.fraction),
    generated: generatedOf(row.extra),
    invisible: /\bINVISIBLE\b/i.test(row.extra),
    autoIncrement: /\bauto_increment\b/i.test(row.extra),
  }));
}

interface ColumnRow {
  readonly name: string;
  readonly dataType: string;
  readonly columnType: string;
  readonly nullable: string;
  readonly charset: string | null;
  readonly collation: string | null;
  readonly octetLength: string | null;
  readonly numericPrecision: string | null;
  readonly scale: string | null;
  readonly fraction: string | null;
  readonly extra: string;
}

/** An ENUM may have a member called `unsigned`; these types have no members. */
const numericTypes: ReadonlySet<string> = new Set([
  "tinyint",
  "smallint",
  "mediumint",
  "int",
  "bigint",
  "decimal",
  "float",
  "double",
]);

function numberOf(text: string | null): number | undefined {
  return text === null ? undefined : Number(text);
}

/** EXTRA also says DEFAULT_GENERATED (MySQL), which is an ordinary column with an expression as its default. */
function generatedOf(extra: string): "virtual" | "stored" | undefined {
  if (/\bVIRTUAL GENERATED\b/i.test(extra)) return "virtual";
  return /\b(STORED|PERSISTENT) GENERATED\b/i.test(extra) ? "stored" : undefined;
}

async function readIndexes(
  connection: MysqlConnection,
  database: string,
  table: string,
): Promise<IndexFacts[]> {
  const rows = await query<{
    name: string;
    nonUnique: string;
    kind: string;
    columnName: string | null;
    prefix: string | null;
  }>(
    connection,
    `SELECT INDEX_NAME AS name, CAST(NON_UNIQUE AS CHAR) AS nonUnique, INDEX_TYPE AS kind, COLUMN_NAME AS columnName,
            CAST(SUB_PART AS CHAR) AS prefix
       FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
    [database, table],
  );
  const names = [...new Set(rows.map((row) => row.name))];
  return names.map((name) => {
    const parts = rows.filter((row) => row.name === name);
    return {
      name,
      unique: parts[0]?.nonUnique === "0",
      kind: parts[0]?.kind ?? "",
      parts: parts.map((part) => ({ column: part.columnName ?? undefined, prefix: part.prefix !== null })),
    };
  });
}
