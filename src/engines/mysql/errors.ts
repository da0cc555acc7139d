import { ShardliftError } from "../../errors/error.ts";

/**
 * Reads what a server or the driver threw. Codes are told apart by number, never by the driver's name for it: mysql2
 * names several MariaDB errors wrongly (facts/copy-and-log, 1).
 */
export function errnoOf(error: unknown): number | undefined {
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === "number" ? errno : undefined;
}

/** Another transaction was in the way; the whole transaction may be run again (facts/gate, 3). */
export function isLockConflict(error: unknown): boolean {
  // 1205 lock wait timeout, 1213 deadlock, 1969 MariaDB max_statement_time, 3024 MySQL MAX_EXECUTION_TIME,
  // 3572 MySQL NOWAIT, 1020 MariaDB "record has changed since last read" (innodb_snapshot_isolation).
  return [1205, 1213, 1969, 3024, 3572, 1020].includes(errnoOf(error) ?? 0);
}

/** A statement was ended by KILL QUERY (1317). */
export function isInterrupted(error: unknown): boolean {
  return errnoOf(error) === 1317;
}

export function isDuplicateKey(error: unknown): boolean {
  // 1062, and 1586 which names the key.
  return [1062, 1586].includes(errnoOf(error) ?? 0);
}

/** The object is not there: 1008 database, 1049 database, 1051 table, 1091 key, 1146 table, 1360 trigger. */
export function isMissingObject(error: unknown): boolean {
  return [1008, 1049, 1051, 1091, 1146, 1360].includes(errnoOf(error) ?? 0);
}

/** The account may not do it. 1044/1045/1142/1143/1227/1370/1410/1419 and MySQL's 3619 family of admin rights. */
export function isDenied(error: unknown): boolean {
  return [1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1419].includes(errnoOf(error) ?? 0);
}

/** The connection is gone, so the outcome of the statement in flight is unknown. Also in the form of `lostAt`. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof ShardliftError) return error.code === "E_CONNECT" && isConnectionLost(error.cause);
  const code = (error as { code?: unknown } | null)?.code;
  const fatal = (error as { fatal?: unknown } | null)?.fatal === true;
  // 1053 server shutdown, 1152/1153 aborted, 1927 MariaDB connection killed, 2006/2013 client codes, 4031 idle.
  return (
    fatal ||
    [1053, 1152, 1927, 2006, 2013, 4031].includes(errnoOf(error) ?? 0) ||
    (typeof code === "string" && lostCodes.has(code))
  );
}

/** What a lost connection looks like to everybody outside the engine: nothing is wrong with the statement. */
export function lostAt(address: string, error: unknown): ShardliftError {
  const message = error instanceof Error ? error.message : String(error);
  return new ShardliftError("E_CONNECT", `the connection to ${address} was lost: ${message}`, {
    cause: error,
    retryable: true,
  });
}

const lostCodes: ReadonlySet<string> = new Set([
  "PROTOCOL_CONNECTION_LOST",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
]);
