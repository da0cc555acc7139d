import * as sqlite from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { ShardliftError } from "../errors/error.ts";
import { OutcomeUnknown } from "./store.ts";

/**
 * The one place that knows node:sqlite (release candidate in Node 24, and its class is being renamed: DEP0210), and
 * how to wait for a lock: every call is synchronous, so SQLite's own wait blocks the event loop. It is kept at a few
 * ms, and the rest of the waiting is done asynchronously, bounded by the caller's deadline.
 */
export type Database = sqlite.DatabaseSync;
export type Statement = sqlite.StatementSync;

const lockWaitMs = 5;
const pause = { minMs: 1, maxMs: 25 };
/** For calls without a deadline of their own. */
export const defaultDeadlineMs = 5000;

export interface OpenOptions {
  readonly readOnly: boolean;
  /** FULL: an acknowledged commit survives a power cut. NORMAL: it survives the death of the process (facts: control.md 4). */
  readonly synchronous: "FULL" | "NORMAL";
}

export async function openDatabase(path: string, options: OpenOptions): Promise<Database> {
  const renamed = (sqlite as { Database?: typeof sqlite.DatabaseSync }).Database;
  const database = new (renamed ?? sqlite.DatabaseSync)(path, {
    readOnly: options.readOnly,
    timeout: lockWaitMs,
  });
  try {
    await patiently(path, performance.now() + defaultDeadlineMs, () => {
      // Changing the journal mode of a new file needs it alone for a moment; a later opener finds WAL and changes nothing.
      if (!options.readOnly) database.exec("PRAGMA journal_mode = WAL");
      database.exec(`PRAGMA synchronous = ${options.synchronous}`);
    });
  } catch (error) {
    database.close();
    throw error;
  }
  return database;
}

/** Runs reads (one tick, one snapshot if they begin a transaction), again while the database is locked. */
export async function patiently<T>(path: string, end: number, work: () => T): Promise<T> {
  for (let pauseMs = pause.minMs; ; pauseMs = Math.min(pauseMs * 2, pause.maxMs)) {
    try {
      return work();
    } catch (error) {
      if (!isBusy(error)) throw asStoreError(path, error);
      if (performance.now() + pauseMs >= end) {
        throw new ShardliftError(
          "E_CONTROL_STORE",
          `control store ${path} stayed locked by another process`,
          {
            cause: error,
            retryable: true,
          },
        );
      }
    }
    // Jitter: waiters that were refused together shall not come back together.
    await delay(pauseMs * (0.5 + Math.random()));
  }
}

/**
 * One write transaction. BEGIN IMMEDIATE takes the write lock at once, so neither the work nor the COMMIT can meet a
 * lock; a COMMIT that fails (disk full, I/O) may still have reached the log and is therefore of unknown outcome.
 */
export async function immediately<T>(
  path: string,
  database: Database,
  end: number,
  work: () => T,
): Promise<T> {
  return patiently(path, end, () => {
    database.exec("BEGIN IMMEDIATE");
    let result: T;
    try {
      result = work();
    } catch (error) {
      rollBack(database);
      throw error;
    }
    try {
      database.exec("COMMIT");
    } catch (cause) {
      rollBack(database);
      throw new OutcomeUnknown(`control store ${path}: the commit failed`, cause);
    }
    return result;
  });
}

/** Several reads that see one state of the database. */
export function inSnapshot<T>(database: Database, work: () => T): T {
  database.exec("BEGIN");
  try {
    return work();
  } finally {
    rollBack(database);
  }
}

function rollBack(database: Database): void {
  // SQLite ends a transaction by itself after some errors (disk full, I/O).
  if (database.isTransaction) database.exec("ROLLBACK");
}

/** SQLITE_BUSY (5) with all its extended codes. */
function isBusy(error: unknown): boolean {
  return isSqliteError(error) && (error.errcode & 0xff) === 5;
}

function asStoreError(path: string, error: unknown): unknown {
  if (!isSqliteError(error)) return error;
  return new ShardliftError("E_CONTROL_STORE", `control store ${path}: ${error.message}`, { cause: error });
}

function isSqliteError(error: unknown): error is Error & { errcode: number } {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number";
}
