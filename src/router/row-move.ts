import { errnoOf, isDuplicateKey } from "../engines/mysql/errors.ts";
import { quoteIdentifier } from "../engines/mysql/quote.ts";
import { keyLiteral } from "../engines/mysql/slice-sql.ts";
import { ShardliftError } from "../errors/error.ts";
import type { KeyValue } from "../model/key.ts";
import { keyspaceOf, ownerOf, type Keyspace } from "../model/routing-map.ts";
import type { Limit, Permit } from "./admission.ts";
import { failureOf, isCommitInDoubt } from "./failure.ts";
import type { Lane } from "./lane.ts";
import {
  changeImage,
  exactSession,
  insertSql,
  lockRow,
  ordinarySession,
  type RowImage,
} from "./row-image.ts";
import {
  createRowMoveTable,
  deleteDeparture,
  rowMoveTable,
  writeArrival,
  writeDeparture,
} from "./row-ledger.ts";
import type { Need } from "./view.ts";
import { type Parts, runWork } from "./work.ts";

/** Rows whose shard key changes from one value to another. */
export interface RowMove {
  readonly need: Need;
  readonly from: KeyValue;
  readonly to: KeyValue;
  readonly rows: readonly MovedRow[];
  readonly token: string;
}

export interface MovedRow {
  readonly table: string;
  /** Every column of the primary key; the shard key may be left out. */
  readonly primaryKey: Readonly<Record<string, unknown>>;
  /** Other columns that change with the move. */
  readonly set?: Readonly<Record<string, unknown>>;
}

export type MoveOutcome = "moved" | "not-found";

/** The move was sent and its answer is missing, or its token is in use: the ledger knows, `settleMove` asks it. */
export class InDoubt extends Error {
  override readonly name = "InDoubt";
}

/**
 * Moves the rows, all or none. Both servers are made ready in open transactions before the first of them commits: the
 * rows are deleted at the old owner and inserted at the new one, both gates are passed, every key is checked. Then
 * the old owner commits, the rows being in its ledger, and then the new one. Between the two commits the rows belong
 * to the ledger alone: no one can change them, so no change can be lost, and whoever finds them there finishes the
 * move (`finishMove`).
 */
export async function tryMove(parts: Parts, move: RowMove, limit: Limit): Promise<MoveOutcome> {
  const body = async (lanes: readonly Lane[], permit: Permit): Promise<MoveOutcome> => {
    const keyspace = keyspaceOf(permit.map, move.need.keyspace);
    const lane = (key: KeyValue): Lane | undefined =>
      lanes.find(({ shard }) => shard === ownerOf(keyspace, key));
    const [from, to] = [lane(move.from), lane(move.to)];
    if (from === undefined || to === undefined)
      throw new ShardliftError("E_BUG", "a row move without its lanes");
    return inExactSessions(lanes, async () =>
      from === to ? moveWithin(from, keyspace, move) : moveAcross(from, to, keyspace, move),
    );
  };
  return runWork(parts, { need: move.need, body }, limit);
}

/** Gives the sessions back as they were, or not at all. Explains a missing ledger. */
export async function inExactSessions<T>(lanes: readonly Lane[], work: () => Promise<T>): Promise<T> {
  try {
    for (const lane of lanes) await exactSession(lane);
    const value = await work();
    for (const lane of lanes) await ordinarySession(lane);
    return value;
  } catch (error) {
    for (const lane of lanes) {
      await lane.rollback();
      // Which session is in which state is not worth finding out after a failure.
      lane.spoil();
    }
    throw withoutLedger(error) ?? error;
  }
}

async function moveWithin(lane: Lane, keyspace: Keyspace, move: RowMove): Promise<MoveOutcome> {
  await begin(lane);
  for (const row of move.rows) {
    const changes = [...changesOf(lane, keyspace, row, move.to)].map(
      ([name, value]) => `${quoteIdentifier(name)} = ${value}`,
    );
    const sql = `UPDATE ${quoteIdentifier(row.table)} SET ${changes.join(", ")} WHERE ${conditionOf(lane, keyspace, row, move.from)}`;
    const { affectedRows } = await lane.run(sql);
    if (affectedRows === 0) return nothing([lane]);
    if (affectedRows > 1) throw severalRows(row.table, affectedRows);
  }
  if (!(await writeArrival(lane, move.token, 1, "arrived"))) return tokenInUse([lane], move.token);
  await commitOrDoubt(lane);
  return "moved";
}

async function moveAcross(from: Lane, to: Lane, keyspace: Keyspace, move: RowMove): Promise<MoveOutcome> {
  const lanes = [from, to];
  await begin(from);
  const rows: RowImage[] = [];
  for (const row of move.rows) {
    const where = conditionOf(from, keyspace, row, move.from);
    const image = await lockRow(from, row.table, where);
    if (image === undefined) return nothing(lanes);
    const { affectedRows } = await from.run(`DELETE FROM ${quoteIdentifier(row.table)} WHERE ${where}`);
    if (affectedRows !== 1) throw severalRows(row.table, affectedRows);
    rows.push(changeImage(image, changesOf(to, keyspace, row, move.to)));
  }
  const departure = {
    token: move.token,
    keyspace: move.need.keyspace,
    toKey: move.to,
    toShard: to.shard,
    arrival: 1,
    rows,
  };
  if (!(await unlessDuplicate(writeDeparture(from, departure)))) return tokenInUse(lanes, move.token);
  await begin(to);
  if (!(await writeArrival(to, move.token, 1, "arrived"))) return tokenInUse(lanes, move.token);
  for (const row of rows) await insertRow(to, row);
  await commitOrDoubt(from);
  // From here on the rows are in the ledger: nothing may be run again from the start.
  try {
    await to.run("COMMIT");
  } catch (cause) {
    throw new InDoubt("the new owner did not answer the commit", { cause });
  }
  await tidy(from, move.token);
  return "moved";
}

export async function begin(lane: Lane): Promise<void> {
  // No gap locks: a move must not stand in the way of rows that it does not touch.
  await lane.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
  await lane.run("START TRANSACTION");
}

export async function insertRow(lane: Lane, row: RowImage): Promise<void> {
  try {
    await lane.run(insertSql(row));
  } catch (cause) {
    if (failureOf(cause).kind !== "other") throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    const hint = isDuplicateKey(cause)
      ? "; the row in the way may be one that a job has copied there or left there, then it goes away with the job's finish"
      : "";
    throw new ShardliftError(
      "E_ROW_MOVE",
      `shard ${lane.shard} does not take the row of ${row.table}: ${why}${hint}`,
      { cause },
    );
  }
}

/** The departure is only a note by now; whoever meets it later sees that the rows have arrived. */
async function tidy(lane: Lane, token: string): Promise<void> {
  try {
    await deleteDeparture(lane, token);
  } catch {
    // The move is done and must be answered as done; the next sweep removes the note (`finishMove`).
    lane.spoil();
  }
}

async function commitOrDoubt(lane: Lane): Promise<void> {
  try {
    await lane.run("COMMIT");
  } catch (cause) {
    if (!isCommitInDoubt(cause)) throw cause;
    throw new InDoubt(`shard ${lane.shard} did not answer the commit`, { cause });
  }
}

async function nothing(lanes: readonly Lane[]): Promise<MoveOutcome> {
  for (const lane of lanes) await lane.rollback();
  return "not-found";
}

async function tokenInUse(lanes: readonly Lane[], token: string): Promise<never> {
  for (const lane of lanes) await lane.rollback();
  throw new InDoubt(`the token ${token} is in the ledger already`);
}

async function unlessDuplicate(write: Promise<void>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

function keyColumn(keyspace: Keyspace, table: string): string {
  const key = keyspace.tables[table]?.key;
  if (key === undefined) {
    throw new ShardliftError("E_USAGE", `table ${table} is not in the keyspace`, {
      next: `use one of: ${Object.keys(keyspace.tables).join(", ")}`,
    });
  }
  return key;
}

function conditionOf(
  lane: Lane,
  keyspace: Keyspace,
  { table, primaryKey }: MovedRow,
  from: KeyValue,
): string {
  const key = keyColumn(keyspace, table);
  const terms = Object.entries(primaryKey)
    .filter(([name]) => name !== key)
    .map(([name, value]) => `${quoteIdentifier(name)} = ${lane.escape(value)}`);
  return [...terms, `${quoteIdentifier(key)} = ${keyLiteral(keyspace.keyType, from)}`].join(" AND ");
}

/** Column → literal of everything that the move changes. */
function changesOf(
  lane: Lane,
  keyspace: Keyspace,
  { table, set = {} }: MovedRow,
  to: KeyValue,
): Map<string, string> {
  const changes = new Map(Object.entries(set).map(([name, value]) => [name, lane.escape(value)]));
  return changes.set(keyColumn(keyspace, table), keyLiteral(keyspace.keyType, to));
}

function severalRows(table: string, rows: number): ShardliftError {
  return new ShardliftError("E_USAGE", `${rows} rows of ${table} match; a move takes one row by its key`, {
    next: "give every column of the primary key",
  });
}

function withoutLedger(error: unknown): ShardliftError | undefined {
  if (errnoOf(error) !== 1146 || !(error instanceof Error) || !error.message.includes(rowMoveTable))
    return undefined;
  return new ShardliftError("E_ROW_MOVE", `a shard has no table ${rowMoveTable}; no row was moved`, {
    cause: error,
    next: `call router.installRowMoves() once, with an account that may create tables, or run at every shard: ${createRowMoveTable}`,
  });
}
