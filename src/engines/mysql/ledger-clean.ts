import { invariant, ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import type { Slice } from "../../model/slice.ts";
import type { Claim, KeyId } from "../engine.ts";
import { assertClaim } from "./claim-guard.ts";
import { fromByKey, orderByKey, selectKey } from "./key-index.ts";
import { keyFromParts, whereInterval } from "./key-codec.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, inTransaction, query, queryArrays, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { sliceWhere } from "./slice-sql.ts";
import type { MysqlTable } from "./table.ts";

/**
 * Takes the job's rows away again (abort). It walks the primary key, so that every row is looked at once even while
 * the shard key has no index yet, and never deletes without the slice: other rows of the table are not the job's.
 * Each piece is one transaction under the claim, and the server gets as much rest as a piece took.
 */
export async function deleteSliceRows(
  connection: MysqlConnection,
  claim: Claim,
  table: MysqlTable,
  slice: Slice,
  signal: AbortSignal,
): Promise<number> {
  let deleted = 0;
  let from: KeyId | undefined;
  for (;;) {
    signal.throwIfAborted();
    const startedAt = performance.now();
    const to = await keyAfter(connection, table, from);
    const sql = `DELETE FROM ${quoteIdentifier(table.name)} WHERE ${whereInterval(table, { from, to })} AND ${sliceWhere(table, slice)}`;
    deleted += await inTransaction(connection, async () => {
      await assertClaim(connection, claim);
      return (await execute(connection, sql)).affectedRows;
    });
    if (to === undefined) return deleted;
    from = to;
    await sleep(Math.min(performance.now() - startedAt, 1000), signal);
  }
}

const pieceRows = 1000;

async function keyAfter(
  connection: MysqlConnection,
  table: MysqlTable,
  from: KeyId | undefined,
): Promise<KeyId | undefined> {
  const [row] = await queryArrays(
    connection,
    `SELECT ${selectKey(table, "t")} FROM ${fromByKey(table, "t")} WHERE ${whereInterval(table, { from, to: undefined }, "t")} ORDER BY ${orderByKey(table)} LIMIT 1 OFFSET ${pieceRows}`,
  );
  return row === undefined ? undefined : keyFromParts(row.map(String));
}

/**
 * Drops a table that carries the job's stamp and holds nothing but the job's slice. A table that has lost or never had
 * the stamp, or that holds other rows, stays: they can only be somebody else's (facts/pitfalls 19).
 */
export async function dropCreatedTable(
  connection: MysqlConnection,
  claim: Claim,
  table: MysqlTable,
  slice: Slice,
): Promise<void> {
  await assertClaim(connection, claim);
  const stamps = await query(
    connection,
    `SELECT tbl FROM ${ledgerDatabase}.created WHERE job = ? AND tbl = ?`,
    [claim.job, table.name],
  );
  if (stamps.length === 0) return;
  const name = quoteIdentifier(table.name);
  if (await exists(connection, table.name)) {
    const outside = `(${sliceWhere(table, slice)}) IS NOT TRUE`;
    const rows = await query(connection, `SELECT 1 AS one FROM ${name} WHERE ${outside} LIMIT 1`);
    if (rows.length > 0) {
      throw new ShardliftError(
        "E_KEY_COLLISION",
        `table ${table.name} was made by job ${claim.job} but holds rows that are not the job's; it is left as it is`,
        {
          next: `Look at the rows; then drop the table by hand if nobody needs it.`,
        },
      );
    }
    await execute(connection, `DROP TABLE ${name}`);
  }
  const result = await execute(
    connection,
    `DELETE FROM ${ledgerDatabase}.created WHERE job = ? AND tbl = ?`,
    [claim.job, table.name],
  );
  invariant(result.affectedRows === 1, `the stamp of table ${table.name} is gone`);
}

async function exists(connection: MysqlConnection, table: string): Promise<boolean> {
  const rows = await query(
    connection,
    "SELECT 1 AS one FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
    [table],
  );
  return rows.length > 0;
}
