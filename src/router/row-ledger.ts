import { isDuplicateKey } from "../engines/mysql/errors.ts";
import { invariant } from "../errors/error.ts";
import type { KeyValue } from "../model/key.ts";
import type { Lane } from "./lane.ts";
import type { RowImage } from "./row-image.ts";

/**
 * The table in which row moves are remembered, one at each shard, in the application's database. It makes a move
 * between two servers happen exactly once, without a transaction over both:
 *
 * - a *departure* (attempt 0), at the shard that gives the rows: written in the transaction that deletes them, so the
 *   rows are always either in their table or here;
 * - an *arrival* (attempt ≥ 1), at the shard that takes them: written in the transaction that inserts them. Its primary
 *   key lets each attempt of a move arrive once, and a `void` one keeps an attempt from ever arriving.
 */
export const rowMoveTable = "shardlift_row_moves";

export const createRowMoveTable = `CREATE TABLE IF NOT EXISTS ${rowMoveTable} (
  token VARBINARY(64) NOT NULL,
  attempt INT UNSIGNED NOT NULL,
  state VARBINARY(8) NOT NULL,
  to_shard VARBINARY(255) NULL,
  arrival INT UNSIGNED NULL,
  move LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  since DATETIME NOT NULL,
  PRIMARY KEY (token, attempt),
  KEY by_age (attempt, since)
) ENGINE=InnoDB`;

/** Rows on their way from one shard to another. */
export interface Departure {
  readonly token: string;
  readonly keyspace: string;
  /** The new shard key: its owner is where the rows go. */
  readonly toKey: KeyValue;
  /** Where this arrival is tried, and its number. */
  readonly toShard: string;
  readonly arrival: number;
  /** With the new key already in them. */
  readonly rows: readonly RowImage[];
  /** Age in seconds by the server's clock. */
  readonly ageSeconds: number;
}

export type Arrival = "arrived" | "void";

export async function writeDeparture(lane: Lane, departure: Omit<Departure, "ageSeconds">): Promise<void> {
  const { token, toShard, arrival, keyspace, toKey, rows } = departure;
  await lane.run(
    `INSERT INTO ${rowMoveTable} (token, attempt, state, to_shard, arrival, move, since) VALUES (?, 0, 'transit', ?, ?, ?, UTC_TIMESTAMP())`,
    [token, toShard, arrival, JSON.stringify({ keyspace, toKey, rows })],
  );
}

/** Locks the departure, so that one router at a time finishes it; waits for a transaction that is writing it. */
export async function lockDeparture(lane: Lane, token: string): Promise<Departure | undefined> {
  return departureOf(lane, token, "FOR UPDATE");
}

export async function readDeparture(lane: Lane, token: string): Promise<Departure | undefined> {
  return departureOf(lane, token, "");
}

async function departureOf(lane: Lane, token: string, lock: string): Promise<Departure | undefined> {
  const { rows } = await lane.run(
    "SELECT CAST(to_shard AS CHAR) AS shard, arrival, move, TIMESTAMPDIFF(SECOND, since, UTC_TIMESTAMP()) AS age " +
      `FROM ${rowMoveTable} WHERE token = ? AND attempt = 0 ${lock}`,
    [token],
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  const move = JSON.parse(String(row["move"])) as Pick<Departure, "keyspace" | "toKey" | "rows">;
  invariant(Array.isArray(move.rows) && typeof move.toKey === "string", `row move ${token} is not readable`);
  return {
    ...move,
    token,
    toShard: String(row["shard"]),
    arrival: Number(row["arrival"]),
    ageSeconds: Number(row["age"]),
  };
}

export async function redirectDeparture(
  lane: Lane,
  token: string,
  toShard: string,
  arrival: number,
): Promise<void> {
  await lane.run(`UPDATE ${rowMoveTable} SET to_shard = ?, arrival = ? WHERE token = ? AND attempt = 0`, [
    toShard,
    arrival,
    token,
  ]);
}

export async function deleteDeparture(lane: Lane, token: string): Promise<void> {
  await lane.run(`DELETE FROM ${rowMoveTable} WHERE token = ? AND attempt = 0`, [token]);
}

/** False when this attempt has its verdict already; waits for a transaction that is writing it. */
export async function writeArrival(
  lane: Lane,
  token: string,
  attempt: number,
  state: Arrival,
): Promise<boolean> {
  try {
    await lane.run(
      `INSERT INTO ${rowMoveTable} (token, attempt, state, since) VALUES (?, ?, ?, UTC_TIMESTAMP())`,
      [token, attempt, state],
    );
    return true;
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

/** The verdict of one attempt, committed or this transaction's own. */
export async function readArrival(lane: Lane, token: string, attempt: number): Promise<Arrival | undefined> {
  const { rows } = await lane.run(
    `SELECT CAST(state AS CHAR) AS state FROM ${rowMoveTable} WHERE token = ? AND attempt = ? FOR UPDATE`,
    [token, attempt],
  );
  return rows[0]?.["state"] as Arrival | undefined;
}

/** Whether the move has arrived at this shard; waits for a transaction that is writing it. */
export async function hasArrived(lane: Lane, token: string): Promise<boolean> {
  const { rows } = await lane.run(
    `SELECT attempt FROM ${rowMoveTable} WHERE token = ? AND attempt > 0 AND state = 'arrived' FOR UPDATE`,
    [token],
  );
  return rows.length > 0;
}

/** Moves that were begun some time ago and are not finished: their router died or lost a connection. */
export async function oldDepartures(lane: Lane, olderThanSeconds: number, limit: number): Promise<string[]> {
  const { rows } = await lane.run(
    `SELECT CAST(token AS CHAR) AS token FROM ${rowMoveTable} ` +
      "WHERE attempt = 0 AND since < UTC_TIMESTAMP() - INTERVAL ? SECOND ORDER BY since LIMIT ?",
    [olderThanSeconds, limit],
  );
  return rows.map((row) => String(row["token"]));
}

/** A token is known for this long: after it, the same token would be another move. */
export async function forgetArrivals(lane: Lane, olderThanDays: number, limit: number): Promise<void> {
  await lane.run(
    `DELETE FROM ${rowMoveTable} WHERE attempt > 0 AND since < UTC_TIMESTAMP() - INTERVAL ? DAY LIMIT ?`,
    [olderThanDays, limit],
  );
}
