/**
 * What shardlift keeps at a server: the `_shardlift` database. All tables are InnoDB, so that progress commits with
 * the data it speaks of (rule 7). Columns are spelled out here once; the log reader, the writer and the gate read
 * them by these names.
 * - `lease`: the newest token of a job; every transaction of a runner proves its own token against it.
 * - `runner`: tokens of all runners whose connections are not known to have ended: those that a takeover must end.
 * - `checkpoint`: the saved log position, one per (job, source).
 * - `chunk`: one row per loaded chunk; NULL bounds are -∞ and +∞. `place` is a hash of (job, source, table, lower end):
 *   a chunk can not be loaded twice, and who tries waits for an earlier try that is still undecided.
 * - `created`: tables that a job has created here, so that abort drops no other.
 * - `barrier`: the marker rows that come back through the log (rule 3). The log reader decodes these rows by column
 *   position: job, n, mark.
 * - `gate`: one row per gate or mirror (gates.ts).
 */
export const ledgerDatabase = "_shardlift";

/** Job names come from the control store: `[a-z0-9-]`, at most 64. */
const job = "job VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
const storeId = "store_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
/** Table and shard names: utf8mb4, compared by bytes. */
const name = (column: string): string =>
  `${column} VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL`;
const long = (column: string): string => `${column} MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`;
const now = (column: string): string =>
  `${column} TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)`;

/** CREATE TABLE bodies by table name, in the order in which they are made. */
export const ledgerTables: Readonly<Record<string, string>> = {
  lease: `${job} PRIMARY KEY, ${storeId}, token BIGINT UNSIGNED NOT NULL, ${now("updated")}`,
  runner: `${job}, token BIGINT UNSIGNED NOT NULL, PRIMARY KEY (job, token)`,
  checkpoint: `${job}, ${name("source")}, ${long("position")} NOT NULL, source_server VARCHAR(255) NOT NULL,
    ${now("saved_at")}, PRIMARY KEY (job, source)`,
  chunk: `id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, ${job}, ${name("source")}, ${name("tbl")},
    ${long("lo")}, ${long("hi")}, row_count BIGINT UNSIGNED NOT NULL, place BINARY(32) NOT NULL UNIQUE KEY,
    KEY (job, source)`,
  created: `${job}, ${name("tbl")}, complete BOOLEAN NOT NULL, PRIMARY KEY (job, tbl)`,
  barrier: `${job} PRIMARY KEY, n BIGINT UNSIGNED NOT NULL,
    mark VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
  gate: `${job}, ${storeId}, token BIGINT UNSIGNED NOT NULL, role VARCHAR(16) CHARACTER SET ascii NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL, after_epoch BIGINT UNSIGNED NOT NULL, PRIMARY KEY (job)`,
};

export function createLedgerTable(table: string): string {
  return `CREATE TABLE IF NOT EXISTS ${ledgerDatabase}.${table} (${ledgerTables[table]}) ENGINE=InnoDB`;
}
