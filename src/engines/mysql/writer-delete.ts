import type { Slice } from "../../model/slice.ts";
import type { KeyId } from "../engine.ts";
import { fromByKey, whereKeyList } from "./key-index.ts";
import { execute, type MysqlConnection } from "./query.ts";
import type { RowForm } from "./row-columns.ts";
import type { MysqlRowStream } from "./row-stream.ts";
import { sliceWhere } from "./slice-sql.ts";
import type { MysqlTable } from "./table.ts";

/** One transaction's worth of rows on their way into a table. */
export interface RowWrite {
  readonly shard: string;
  readonly table: MysqlTable;
  readonly form: RowForm;
  readonly slice: Slice;
  /** Each iteration reads them anew. */
  readonly rows: MysqlRowStream;
  /** Keys whose rows are replaced by what was read; absent when a chunk is loaded for the first time. */
  readonly asked?: readonly KeyId[];
  readonly displaced: (keys: readonly KeyId[]) => Promise<void>;
  /** Progress of a chunk, in the same transaction: its place before the first row is written, its count at the end. */
  readonly progress?: {
    readonly reserve: (connection: MysqlConnection) => Promise<void>;
    readonly complete: (connection: MysqlConnection) => Promise<void>;
  };
}

/** Deletes rows by key, those of the slice only (rule 4). */
export async function deleteKeys(
  connection: MysqlConnection,
  write: RowWrite,
  keys: readonly KeyId[],
): Promise<number> {
  if (keys.length === 0) return 0;
  const { table, slice } = write;
  // In this form because a DELETE of one table takes no index hint.
  const sql = `DELETE t FROM ${fromByKey(table, "t")} WHERE ${whereKeyList(table, keys, "t")} AND ${sliceWhere(table, slice, "t")}`;
  const { affectedRows } = await execute(connection, sql);
  return affectedRows;
}
