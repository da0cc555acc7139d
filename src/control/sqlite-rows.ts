import type { Database, Statement } from "./sqlite-database.ts";
import type { Entry, StoreEvent } from "./store.ts";

/** The statements of an SQLite store, prepared once for each connection, and how its rows are read. */
export interface Statements {
  readonly rev: Statement;
  readonly get: Statement;
  readonly list: Statement;
  readonly setRev: Statement;
  readonly put: Statement;
  readonly del: Statement;
  readonly addEvent: Statement;
  readonly forgetEvents: Statement;
  readonly setKeptAfter: Statement;
  readonly leaseTtl: Statement;
  readonly aliveLeases: Statement;
  readonly addLease: Statement;
  readonly renewLease: Statement;
  readonly deadLeases: Statement;
  readonly keysOfLease: Statement;
  readonly delLease: Statement;
  readonly dataVersion: Statement;
}

/** An entry whose lease has run out is gone for every reader, even before a writer has cleared it away. */
const alive =
  "(lease IS NULL OR EXISTS (SELECT 1 FROM lease l WHERE l.id = kv.lease AND l.boot = ? AND l.expires_ms > ?))";

export function prepareStatements(database: Database): Statements {
  return {
    rev: database.prepare("SELECT rev, kept_after FROM counter"),
    get: database.prepare(`SELECT key, value, rev, lease FROM kv WHERE ${alive} AND key = ?`),
    list: database.prepare(
      `SELECT key, value, rev, lease FROM kv WHERE ${alive} AND key >= ? AND key < ? ORDER BY key`,
    ),
    setRev: database.prepare("UPDATE counter SET rev = ?"),
    put: database.prepare(
      `INSERT INTO kv VALUES (?, ?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, rev = excluded.rev, lease = excluded.lease`,
    ),
    del: database.prepare("DELETE FROM kv WHERE key = ?"),
    addEvent: database.prepare("INSERT INTO event VALUES (?, ?, ?, ?, ?)"),
    forgetEvents: database.prepare("DELETE FROM event WHERE rev <= ?"),
    setKeptAfter: database.prepare("UPDATE counter SET kept_after = ?"),
    leaseTtl: database.prepare("SELECT ttl_ms FROM lease WHERE id = ? AND boot = ? AND expires_ms > ?"),
    aliveLeases: database.prepare("SELECT id FROM lease WHERE boot = ? AND expires_ms > ?"),
    addLease: database.prepare("INSERT INTO lease (ttl_ms, boot, expires_ms) VALUES (?, ?, ?) RETURNING id"),
    renewLease: database.prepare(
      "UPDATE lease SET expires_ms = ? + ttl_ms WHERE id = ? AND boot = ? AND expires_ms > ? RETURNING ttl_ms",
    ),
    deadLeases: database.prepare("SELECT id FROM lease WHERE boot <> ? OR expires_ms <= ?"),
    keysOfLease: database.prepare("SELECT key FROM kv WHERE lease = ? ORDER BY key"),
    delLease: database.prepare("DELETE FROM lease WHERE id = ?"),
    dataVersion: database.prepare("PRAGMA data_version"),
  };
}

/** Events of the listed key ranges in (from, to], for a watch. */
export function prepareEvents(database: Database, ranges: number): Statement {
  const where = Array.from({ length: ranges }, () => "(key >= ? AND key < ?)").join(" OR ");
  return database.prepare(
    `SELECT rev, key, value, lease FROM event WHERE rev > ? AND rev <= ? AND (${where || "0"}) ORDER BY rev, n`,
  );
}

/** The keys that begin with a prefix, as `[from, to)`; keys hold no byte above `~` (control/limits.ts). */
export function keyRange(prefix: string): [string, string] {
  return [prefix, `${prefix}\u007f`];
}

type Row = ReturnType<Statement["get"]>;

export function entryOf(row: Row): Entry | undefined {
  if (row === undefined) return undefined;
  const { lease } = row;
  return {
    key: String(row["key"]),
    value: row["value"] as Uint8Array,
    rev: Number(row["rev"]),
    lease: lease === null || lease === undefined ? undefined : Number(lease),
  };
}

export function eventOf(row: NonNullable<Row>): StoreEvent {
  const entry = row["value"] === null ? undefined : entryOf(row);
  return entry === undefined
    ? { kind: "del", key: String(row["key"]) }
    : { kind: "put", key: entry.key, entry };
}
