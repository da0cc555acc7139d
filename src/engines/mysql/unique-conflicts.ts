import { ShardliftError } from "../../errors/error.ts";
import type { KeyId } from "../engine.ts";
import { isDuplicateKey } from "./errors.ts";
import { formatKey, keyFromParts } from "./key-codec.ts";
import { selectKey } from "./key-index.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { execute, kill, query, queryArrays, type MysqlConnection } from "./query.ts";
import { quoteIdentifier, quoteList, quoteString } from "./quote.ts";
import { sliceWhere } from "./slice-sql.ts";
import { copiedColumns, type MysqlTable } from "./table.ts";
import { DuplicateRows, mustBeWhole, rowsRefused, serverWarnings } from "./writer-answer.ts";
import { deleteKeys, type RowWrite } from "./writer-delete.ts";
import { patchJson } from "./writer-json.ts";
import { loadRows, loadStatement } from "./writer-load.ts";

/**
 * Writes rows whose unique keys are in the way of rows that the target holds already (rule 6).
 *
 * The rows are loaded into a temporary table first, and the server joins it with the table on each unique key: only
 * the server knows what its collations hold equal. A row in the way is stale only if it lies in the slice that is
 * being moved: it is deleted, and `displaced` has marked it dirty before the commit. A row outside the slice belongs
 * to somebody else: the job stops with both keys named. REPLACE and IGNORE are never used; they hide exactly this.
 */
export async function writeSpooled(
  connection: MysqlConnection,
  write: RowWrite,
  transaction: (body: () => Promise<void>) => Promise<void>,
): Promise<void> {
  await makeSpool(connection, write.table);
  try {
    const blocks = write.rows.blocks[Symbol.asyncIterator]();
    const answer = await loadRows(connection, loadStatement(spool, write.form, false), blocks);
    await mustBeWhole(connection, write, answer).catch((error: unknown) => {
      // Two rows of one view that the source holds apart and the target does not: another collation or version.
      if (!(error instanceof DuplicateRows)) throw error;
      throw rowsRefused(write, `rows that were read together collide here: ${error.message}`, []);
    });
    await transaction(async () => {
      await deleteKeys(connection, write, write.asked ?? []);
      const keys = await uniqueKeys(connection, write.table);
      await makeRoom(connection, write, keys);
      await insertSpooled(connection, write, keys);
      await patchJson(connection, write);
      await write.progress?.complete(connection);
    });
  } finally {
    // The next one starts with a DROP too; a connection that can not even do this is of no use any more.
    if (!connection.stream.destroyed)
      await execute(connection, dropSpool).catch((error: unknown) => kill(connection, error));
  }
}

/** A row appeared between the look and the write; the transaction may be run again. */
export class RaceLost extends Error {
  override readonly name = "RaceLost";
}

/** One a connection, seen by no other. */
const spool = `${ledgerDatabase}.incoming_rows`;
const dropSpool = `DROP TEMPORARY TABLE IF EXISTS ${spool}`;

/**
 * LIKE keeps generated columns, which unique keys may be built on. Neither server makes a temporary table like a
 * partitioned one or with a FULLTEXT index: those get the copied columns alone.
 */
async function makeSpool(connection: MysqlConnection, table: MysqlTable): Promise<void> {
  const origin = quoteIdentifier(table.name);
  await execute(connection, dropSpool);
  if (isSpoolAlike(table)) {
    await execute(connection, `CREATE TEMPORARY TABLE ${spool} LIKE ${origin}`);
    return;
  }
  const columns = quoteList(copiedColumns(table).map(({ name }) => name));
  await execute(
    connection,
    `CREATE TEMPORARY TABLE ${spool} (PRIMARY KEY (${quoteList(table.primaryKey)})) ENGINE=InnoDB AS SELECT ${columns} FROM ${origin} LIMIT 0`,
  );
}

function isSpoolAlike(table: MysqlTable): boolean {
  return !/\n\s*(\/\*!\d+\s*)?PARTITION BY |\n\s*FULLTEXT KEY /i.test(table.detail.createSql);
}

async function makeRoom(
  connection: MysqlConnection,
  write: RowWrite,
  keys: readonly UniqueKey[],
): Promise<void> {
  const displaced = new Set<KeyId>();
  for (const unique of keys.filter(({ joinable }) => joinable)) {
    for (const conflict of await conflicts(connection, write, unique)) {
      // A moved key that the slice's own rows hold already: its chunk was loaded before, or not by us.
      if (!conflict.inside || unique.primary) throw collision(write, unique, conflict);
      displaced.add(conflict.held);
    }
  }
  if (displaced.size === 0) return;
  const stale = [...displaced];
  const deleted = await deleteKeys(connection, write, stale);
  if (deleted !== stale.length) {
    throw new RaceLost(`${deleted} of ${stale.length} rows in the way were deleted`);
  }
  await write.displaced(stale);
}

async function insertSpooled(
  connection: MysqlConnection,
  write: RowWrite,
  keys: readonly UniqueKey[],
): Promise<void> {
  const { table, rows } = write;
  const columns = quoteList(copiedColumns(table).map(({ name }) => name));
  const into = quoteIdentifier(table.name);
  try {
    const sql = `INSERT INTO ${into} (${columns}) SELECT ${columns} FROM ${spool}`;
    const { affectedRows, warningStatus } = await execute(connection, sql);
    if (affectedRows === rows.rowCount() && warningStatus === 0) return;
    const what = `${rows.rowCount()} rows sent, ${affectedRows} inserted, ${warningStatus} warnings`;
    throw rowsRefused(write, what, await serverWarnings(connection));
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    const { message } = error as Error;
    const blind = keys.filter(({ joinable }) => !joinable).map(({ name }) => name);
    // Without a blind key it can only be another batch of ours that has just committed.
    if (blind.length === 0) throw new RaceLost(message, { cause: error });
    throw new ShardliftError(
      "E_UNIQUE_COLLISION",
      `table ${table.name} at shard ${write.shard}: ${message}; the row in the way can not be found by unique key ${blind.join(", ")}`,
      { cause: error },
    );
  }
}

// ── which rows are in the way ────────────────────────────────────────────────────────────────────────────────────

interface UniqueKey {
  readonly name: string;
  readonly primary: boolean;
  /** False for a key on an expression, or on generated columns that the temporary table does not have. */
  readonly joinable: boolean;
  /** Columns with the length of the indexed prefix. */
  readonly parts: readonly { readonly column: string; readonly prefix: number | undefined }[];
}

/** The unique keys as they are at this server. A part that is an expression (MySQL) has no column. */
async function uniqueKeys(connection: MysqlConnection, table: MysqlTable): Promise<UniqueKey[]> {
  const rows = await query<{ name: Buffer; col: Buffer | null; prefix: string | number | null }>(
    connection,
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS col, SUB_PART AS prefix FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ${quoteString(table.name)}
       AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
  );
  const byName = Map.groupBy(rows, ({ name }) => String(name));
  const known = new Set(
    (isSpoolAlike(table) ? table.detail.columns : copiedColumns(table)).map(({ name }) => name),
  );
  return [...byName].map(([name, parts]) => ({
    name,
    primary: parts.map(({ col }) => String(col)).join("\0") === table.primaryKey.join("\0"),
    joinable: parts.every(({ col }) => col !== null && known.has(String(col))),
    parts: parts.map(({ col, prefix }) => ({
      column: String(col),
      prefix: prefix === null ? undefined : Number(prefix),
    })),
  }));
}

interface Conflict {
  readonly held: KeyId;
  readonly incoming: KeyId;
  /** The row in the way lies in the slice. */
  readonly inside: boolean;
  readonly heldShardKey: string;
}

async function conflicts(
  connection: MysqlConnection,
  write: RowWrite,
  unique: UniqueKey,
): Promise<Conflict[]> {
  const { table, slice } = write;
  const width = table.primaryKey.length;
  const list = `${selectKey(table, "t", "shardlift_held_")}, ${selectKey(table, "i", "shardlift_incoming_")}`;
  const equal = unique.parts.map(({ column, prefix }) => {
    const side = (alias: string): string => {
      const name = `${alias}.${quoteIdentifier(column)}`;
      return prefix === undefined ? name : `LEFT(${name},${prefix})`;
    };
    return `${side("t")}=${side("i")}`;
  });
  // A locking read: it waits for rows of other batches that are not committed yet.
  const sql = `SELECT ${list}, ${sliceWhere(table, slice, "t")} AS inside, ${shardKeyText(table)} AS shard_key FROM ${spool} AS i JOIN ${quoteIdentifier(table.name)} AS t ON ${equal.join(" AND ")} FOR UPDATE`;
  const rows = await queryArrays(connection, sql);
  return rows.map((row) => ({
    held: keyFromParts(row.slice(0, width).map(String)),
    incoming: keyFromParts(row.slice(width, width * 2).map(String)),
    inside: String(row[width * 2]) === "1",
    heldShardKey: String(row[width * 2 + 1]),
  }));
}

function shardKeyText(table: MysqlTable): string {
  const name = `t.${quoteIdentifier(table.shardKey)}`;
  return table.keyType === "binary" ? `CONCAT('0x',HEX(${name}))` : name;
}

function collision(write: RowWrite, unique: UniqueKey, conflict: Conflict): ShardliftError {
  const { table, shard } = write;
  const held = formatKey(table, conflict.held);
  const incoming = formatKey(table, conflict.incoming);
  const place = conflict.inside ? "in the slice itself" : "outside the moved slice";
  const whose = `${place} (${table.shardKey}=${conflict.heldShardKey})`;
  const where = `table ${table.name} at shard ${shard}`;
  if (unique.primary) {
    return new ShardliftError(
      "E_KEY_COLLISION",
      `${where}: the moved row ${incoming} meets the row ${held} ${whose}`,
    );
  }
  return new ShardliftError(
    "E_UNIQUE_COLLISION",
    `${where}: the moved row ${incoming} meets the row ${held} ${whose} in unique key ${unique.name}`,
  );
}
