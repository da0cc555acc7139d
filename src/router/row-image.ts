import { quoteIdentifier, quoteString } from "../engines/mysql/quote.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import type { Lane } from "./lane.ts";

/**
 * A row as SQL literals, made by the server that has it, so that another server stores the same bytes: no value is
 * decoded here. The same traps as in the bulk copy (facts: copy-and-log.md 4), for single rows.
 * Invariant: literals hold only digits, signs, hexadecimal and the server's own text of times, so they are safe to send.
 */
export interface RowImage {
  readonly table: string;
  /** Column and literal; generated columns are left out, invisible ones are named. */
  readonly columns: readonly (readonly [name: string, literal: string])[];
}

/**
 * Reads and locks the one row that the condition names; undefined when there is none. Must run in a transaction, after
 * `exactSession`. The columns are listed after the row is locked: a table in use can not be altered, so none is missed.
 */
export async function lockRow(lane: Lane, table: string, where: string): Promise<RowImage | undefined> {
  const name = quoteIdentifier(table);
  const locked = await lane.run(`SELECT 1 AS found FROM ${name} WHERE ${where} FOR UPDATE`);
  if (locked.rows.length === 0) return undefined;
  if (locked.rows.length > 1) {
    throw new ShardliftError(
      "E_USAGE",
      `${locked.rows.length} rows of ${table} match; a move takes one row by its key`,
      {
        next: "give every column of the primary key",
      },
    );
  }
  const columns = await columnsOf(lane, table);
  const select = columns.map((column, index) => `${expression(column, table)} AS c${index}`);
  const { rows } = await lane.run(`SELECT ${select.join(", ")} FROM ${name} WHERE ${where} FOR UPDATE`);
  const [row] = rows;
  invariant(row !== undefined, `a locked row of ${table} is gone`);
  return {
    table,
    columns: columns.map((column, index) => {
      const value = row[`c${index}`];
      if (value === null) return [column.name, "NULL"];
      invariant(typeof value === "string", `column ${column.name} of ${table} did not come as text`);
      return [column.name, literalOf(column, value)];
    }),
  };
}

/** The image with other values for some columns, given as literals. */
export function changeImage(image: RowImage, changes: ReadonlyMap<string, string>): RowImage {
  const unknown = [...changes.keys()].filter((name) => !image.columns.some(([column]) => column === name));
  if (unknown.length > 0) {
    throw new ShardliftError(
      "E_USAGE",
      `${image.table} has no column that can be set: ${unknown.join(", ")}`,
    );
  }
  return {
    table: image.table,
    columns: image.columns.map(([name, literal]) => [name, changes.get(name) ?? literal]),
  };
}

export function insertSql({ table, columns }: RowImage): string {
  const names = columns.map(([name]) => quoteIdentifier(name)).join(", ");
  const literals = columns.map(([, literal]) => literal).join(", ");
  return `INSERT INTO ${quoteIdentifier(table)} (${names}) VALUES (${literals})`;
}

/**
 * The session in which images are exact: TIMESTAMP in UTC, 0 kept in AUTO_INCREMENT columns, zero and odd dates
 * allowed, everything else an error and not a warning. A short lock wait, because a deadlock over two servers is seen
 * by neither of them.
 */
export async function exactSession(lane: Lane): Promise<void> {
  await lane.run(
    "SET @shardlift_mode = @@SESSION.sql_mode, @shardlift_zone = @@SESSION.time_zone, time_zone = '+00:00', " +
      "sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', innodb_lock_wait_timeout = 2",
  );
}

/**
 * Gives the session back as it was. Never throws: the work is done by now, and a connection that is lost only here must
 * not let it seem to have failed.
 */
export async function ordinarySession(lane: Lane): Promise<void> {
  try {
    await lane.run(
      "SET sql_mode = @shardlift_mode, time_zone = @shardlift_zone, innodb_lock_wait_timeout = DEFAULT",
    );
  } catch {
    lane.spoil();
  }
}

interface Column {
  readonly name: string;
  readonly type: string;
  readonly charset: string | undefined;
  readonly kind: Kind;
}

type Kind = "bytes" | "float" | "json" | "number" | "quoted" | "text";

async function columnsOf(lane: Lane, table: string): Promise<Column[]> {
  const { rows } = await lane.run(
    "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, CHARACTER_SET_NAME AS charset FROM information_schema.COLUMNS " +
      "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COALESCE(GENERATION_EXPRESSION, '') = '' " +
      "ORDER BY ORDINAL_POSITION",
    [table],
  );
  return rows.map((row) => {
    const name = String(row["name"]);
    const type = String(row["type"]).toLowerCase();
    const charset = typeof row["charset"] === "string" ? row["charset"] : undefined;
    const kind = kinds[type] ?? (charset === undefined ? undefined : "text");
    if (kind === undefined) {
      throw new ShardliftError(
        "E_ROW_MOVE",
        `column ${name} of ${table} has the type ${type}, which can not be moved exactly`,
      );
    }
    return { name, type, charset, kind };
  });
}

const kinds: Readonly<Record<string, Kind>> = {
  ...kind("number", "tinyint smallint mediumint int bigint decimal bit enum set"),
  ...kind("float", "float double"),
  ...kind("quoted", "year date time datetime timestamp uuid inet4 inet6"),
  ...kind("bytes", "binary varbinary tinyblob blob mediumblob longblob vector"),
  ...kind(
    "bytes",
    "geometry point linestring polygon multipoint multilinestring multipolygon geometrycollection geomcollection",
  ),
  ...kind("json", "json"),
};

function kind(of: Kind, types: string): Record<string, Kind> {
  return Object.fromEntries(types.split(" ").map((type) => [type, of]));
}

/** What the server is asked for; always text. */
function expression(column: Column, table: string): string {
  const name = `${quoteIdentifier(table)}.${quoteIdentifier(column.name)}`;
  switch (column.kind) {
    case "number":
      // BIT, ENUM and SET as numbers: the error value of an ENUM has the same text as a member ''.
      return ["bit", "enum", "set"].includes(column.type)
        ? `CAST(CAST(${name} AS UNSIGNED) AS CHAR)`
        : `CAST(${name} AS CHAR)`;
    case "float":
      // FLOAT shows 6 digits, FLOAT(M,D) D of them; times 1e0 it is a plain DOUBLE, whose text is exact.
      return `CONCAT(${name} * 1e0)`;
    case "quoted":
      return `CAST(${name} AS CHAR)`;
    case "json":
      return `HEX(CAST(${name} AS CHAR CHARACTER SET utf8mb4))`;
    case "bytes":
    case "text":
      return `HEX(${name})`;
  }
}

function literalOf(column: Column, text: string): string {
  switch (column.kind) {
    case "number":
      return text;
    case "float":
      // With an exponent it is a double to the parser too: `-0` alone would be the integer 0.
      return /e/i.test(text) ? text : `${text}e0`;
    case "quoted":
      return quoteString(text);
    case "bytes":
      return `x'${text}'`;
    case "json":
      return `_utf8mb4 x'${text}'`;
    case "text":
      return `_${column.charset ?? "binary"} x'${text}'`;
  }
}
