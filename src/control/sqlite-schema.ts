import { randomUUID } from "node:crypto";
import { ShardliftError } from "../errors/error.ts";
import type { HostIdentity } from "./host-identity.ts";
import { defaultDeadlineMs, immediately, patiently, type Database } from "./sqlite-database.ts";

/**
 * The tables of an SQLite control store, and whose store it is. `counter.rev` is the global revision; `event` keeps
 * the newest transactions for watches; a lease is alive while its boot is this one and `expires_ms` lies ahead on the
 * kernel's monotonic clock, which all processes of a host share and which nobody can set back.
 */
const version = 1;
const applicationId = 0x53684c66;

const tables = `
  CREATE TABLE IF NOT EXISTS meta (
    id INTEGER PRIMARY KEY CHECK (id = 1), store_id TEXT NOT NULL, created_at TEXT NOT NULL,
    host_name TEXT NOT NULL, host_id TEXT NOT NULL, boot_id TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS counter (
    id INTEGER PRIMARY KEY CHECK (id = 1), rev INTEGER NOT NULL, kept_after INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS kv (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, rev INTEGER NOT NULL, lease INTEGER) STRICT;
  CREATE INDEX IF NOT EXISTS kv_lease ON kv (lease) WHERE lease IS NOT NULL;
  CREATE TABLE IF NOT EXISTS event (
    rev INTEGER NOT NULL, n INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, lease INTEGER,
    PRIMARY KEY (rev, n)) STRICT;
  CREATE TABLE IF NOT EXISTS lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_ms INTEGER NOT NULL, boot TEXT NOT NULL, expires_ms REAL NOT NULL) STRICT;
  INSERT OR IGNORE INTO counter VALUES (1, 0, 0);`;

const ackTables = `
  CREATE TABLE IF NOT EXISTS ack (
    intent TEXT NOT NULL, router TEXT NOT NULL, lease INTEGER NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (intent, router)) STRICT;`;

interface Meta {
  readonly storeId: string;
  readonly hostName: string;
  readonly hostId: string;
  readonly bootId: string;
}

/** Makes what is missing (several processes may do it at once), refuses another host's store, and returns the store's id. */
export async function initialiseStore(path: string, database: Database, host: HostIdentity): Promise<string> {
  const end = performance.now() + defaultDeadlineMs;
  return immediately(path, database, end, () => {
    checkVersion(path, database);
    database.exec(tables);
    database.exec(`PRAGMA user_version = ${version}; PRAGMA application_id = ${applicationId}`);
    database
      .prepare("INSERT OR IGNORE INTO meta VALUES (1, ?, ?, ?, ?, ?)")
      .run(randomUUID(), new Date().toISOString(), host.hostName, host.hostId, host.bootId);
    const meta = readMeta(database);
    checkHost(path, meta, host);
    if (meta.bootId !== host.bootId) database.prepare("UPDATE meta SET boot_id = ?").run(host.bootId);
    return meta.storeId;
  });
}

/** For a connection that only reads; undefined while another process is still making the store. */
export async function readStoreId(
  path: string,
  database: Database,
  host: HostIdentity,
): Promise<string | undefined> {
  return patiently(path, performance.now() + defaultDeadlineMs, () => {
    if (!checkVersion(path, database)) return undefined;
    const meta = readMeta(database);
    checkHost(path, meta, host);
    return meta.storeId;
  });
}

export async function initialiseAcks(path: string, database: Database): Promise<void> {
  await immediately(path, database, performance.now() + defaultDeadlineMs, () => database.exec(ackTables));
}

/** False for a file in which nothing has been made yet. */
function checkVersion(path: string, database: Database): boolean {
  const found = Number(database.prepare("PRAGMA user_version").get()?.["user_version"]);
  const application = Number(database.prepare("PRAGMA application_id").get()?.["application_id"]);
  const objects = Number(database.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"]);
  if (found === 0 && objects === 0) return false;
  if (application !== applicationId) {
    throw new ShardliftError("E_CONTROL_STORE", `${path} is a database of another program`);
  }
  if (found !== version) {
    throw new ShardliftError(
      "E_CONTROL_STORE",
      `${path} has store format ${found}; this shardlift knows ${version}`,
      {
        next: "use the version of shardlift that wrote it",
      },
    );
  }
  return true;
}

function readMeta(database: Database): Meta {
  const row = database.prepare("SELECT store_id, host_name, host_id, boot_id FROM meta").get() ?? {};
  return {
    storeId: String(row["store_id"]),
    hostName: String(row["host_name"]),
    hostId: String(row["host_id"]),
    bootId: String(row["boot_id"]),
  };
}

/**
 * SQLite's locks hold on one host only, and so does the clock of the leases. The same boot is the same machine
 * whatever it calls itself (containers); another boot needs the same installation.
 */
function checkHost(path: string, meta: Meta, host: HostIdentity): void {
  if (meta.bootId === host.bootId || meta.hostId === host.hostId) return;
  throw new ShardliftError(
    "E_CONTROL_STORE",
    `${path} is the control store of host ${meta.hostName}; an SQLite store serves one host only, and this is ${host.hostName}`,
    { next: `run shardlift on ${meta.hostName}` },
  );
}
