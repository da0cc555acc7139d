import { invariant } from "../../errors/error.ts";
import type { Slice } from "../../model/slice.ts";
import type { Barrier, KeyId, KeyInterval, Reader, RowStream, TableShape } from "../engine.ts";
import { ConnectionPool, rowSessionVariables } from "./connection-pool.ts";
import type { Connector } from "./connect.ts";
import { fromByKey, orderByKey, selectKey, whereKeyList } from "./key-index.ts";
import { keyColumns, keyFromParts, keySelectList, keyToLiterals, whereInterval } from "./key-codec.ts";
import { shareOfKeys, type KeyExtent } from "./key-share.ts";
import { queryArrays } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { rowForm } from "./row-columns.ts";
import { readError } from "./row-errors.ts";
import { MysqlRowStream } from "./row-stream.ts";
import { sliceWhere } from "./slice-sql.ts";
import { mysqlTable, type MysqlTable } from "./table.ts";

/**
 * Reads rows and key boundaries at one server. Every read is one autocommitted SELECT: it opens a new view when it
 * starts, which is all that a read after a barrier needs (rule 3), and holds no locks.
 * Conditions on keys are always expanded, never row constructors (facts/copy-and-log, 5).
 */
export class MysqlReader implements Reader {
  readonly #pool: ConnectionPool;

  constructor(connector: Connector) {
    this.#pool = new ConnectionPool(connector, "read", rowSessionVariables);
  }

  async boundary(
    shape: TableShape,
    slice: Slice,
    from: KeyId | undefined,
    rows: number,
  ): Promise<KeyId | undefined> {
    invariant(Number.isSafeInteger(rows) && rows > 0, `a chunk of ${rows} rows`);
    const table = mysqlTable(shape);
    const where = [whereInterval(table, { from, to: undefined }), ...slicePrefix(table, slice)].join(" AND ");
    const sql = `SELECT ${selectKey(table)} FROM ${fromByKey(table, "t")} WHERE ${where} ORDER BY ${orderByKey(table)} LIMIT 1 OFFSET ${rows}`;
    const [row] = await this.#rows(table, sql);
    return row === undefined ? undefined : keyFromParts(row.map(String));
  }

  rowsIn(shape: TableShape, slice: Slice, interval: KeyInterval, after: Barrier): RowStream {
    const table = mysqlTable(shape);
    const where = `${whereInterval(table, interval)} AND ${sliceWhere(table, slice)}`;
    // Rows arrive in the order in which the target's clustered index wants them.
    return this.#stream(table, `WHERE ${where} ORDER BY ${orderByKey(table)}`, false, after);
  }

  rowsAt(shape: TableShape, slice: Slice, keys: readonly KeyId[], after: Barrier): RowStream {
    const table = mysqlTable(shape);
    const where = `${whereKeyList(table, keys)} AND ${sliceWhere(table, slice)}`;
    return this.#stream(table, `WHERE ${where}`, table.keyOrder === "client", after);
  }

  async extent(shape: TableShape): Promise<KeyExtent | undefined> {
    const table = mysqlTable(shape);
    const ends: KeyId[] = [];
    for (const direction of ["ASC", "DESC"]) {
      const order = table.primaryKey.map((name) => `${quoteIdentifier(name)} ${direction}`).join(", ");
      const sql = `SELECT ${selectKey(table)} FROM ${fromByKey(table, "t")} ORDER BY ${order} LIMIT 1`;
      const [row] = await this.#rows(table, sql);
      if (row !== undefined) ends.push(keyFromParts(row.map(String)));
    }
    const [first, last] = ends;
    return first === undefined || last === undefined ? undefined : { first, last };
  }

  share(shape: TableShape, extent: KeyExtent, key: KeyId): number {
    return shareOfKeys(mysqlTable(shape), extent, key);
  }

  async below(shape: TableShape, keys: readonly KeyId[], boundary: KeyId): Promise<boolean[]> {
    const table = mysqlTable(shape);
    const bound = comparable(table, boundary);
    const answers: boolean[] = [];
    for (let from = 0; from < keys.length; from += maxSelectList) {
      const tests = keys
        .slice(from, from + maxSelectList)
        .map((key) => lessThan(comparable(table, key), bound));
      const [row = []] = await this.#rows(table, `SELECT ${tests.join(", ")}`);
      answers.push(...row.map((answer) => String(answer) === "1"));
    }
    invariant(answers.length === keys.length, "the server did not answer for every key");
    return answers;
  }

  #stream(table: MysqlTable, where: string, withKeys: boolean, after: Barrier): RowStream {
    const form = rowForm(table, this.#pool.connector.facts.flavor);
    // Without its key a document could not be put right.
    const list =
      withKeys || form.typedJson.length > 0 ? [...form.select, ...keySelectList(table)] : form.select;
    return new MysqlRowStream({
      pool: this.#pool,
      table: table.name,
      sql: `SELECT ${list.join(", ")} FROM ${fromByKey(table, "t")} ${where}`,
      fields: form.select.length,
      kinds: form.kinds,
      withKeys,
      after,
    });
  }

  async #rows(table: MysqlTable, sql: string): Promise<unknown[][]> {
    const { shard } = this.#pool.connector.endpoint;
    try {
      return await this.#pool.again((connection) => queryArrays(connection, sql));
    } catch (error) {
      throw readError(shard, table.name, error);
    }
  }
}

/**
 * The slice narrows a chunk's boundary only where it is a prefix of the primary key: then the chunk skips what it
 * would not read anyway. Elsewhere each candidate row would have to be looked at, and a chunk of a thin slice would
 * span half the table in one statement.
 */
function slicePrefix(table: MysqlTable, slice: Slice): string[] {
  return table.primaryKey[0] === table.shardKey ? [sliceWhere(table, slice)] : [];
}

/** A result has at most 4,096 columns. */
const maxSelectList = 1_000;

/** The parts of a key as expressions that compare with each other as the columns do, without a column beside them. */
function comparable(table: MysqlTable, key: KeyId): string[] {
  const literals = keyToLiterals(table, key);
  return keyColumns(table).map((column, index) => {
    const literal = literals[index] ?? "";
    if (column.collation !== undefined && literal.startsWith("_"))
      return `${literal} COLLATE ${column.collation}`;
    if (column.dataType === "time") return `CAST(${literal} AS TIME(6))`;
    return literal.startsWith("'") ? `CAST(${literal} AS DATETIME(6))` : literal;
  });
}

function lessThan(a: readonly string[], b: readonly string[]): string {
  return a.reduceRight((rest, left, index) => {
    const right = b[index];
    const less = `${left}<${right}`;
    return rest === "" ? `(${less})` : `(${less} OR (${left}=${right} AND ${rest}))`;
  }, "");
}
