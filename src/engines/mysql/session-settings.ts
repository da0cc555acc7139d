/**
 * The settings that every connection of shardlift sets right after connect and reads back. Whatever a server's
 * configuration, `init_connect` or a proxy in between does, a session that does not show exactly these values is not
 * used: each of them silently changes or loses data otherwise (facts/copy-and-log 4, facts/pitfalls 14).
 */

/**
 * `control`: queries about the server, in utf8mb4. `ddl`: the same, for CREATE and ALTER.
 * `read`: row streams at the source; bytes, not characters.
 * `write`: the applier at the target; bytes, no foreign keys.
 * `log`: the connection that becomes a log dump.
 */
export type ConnectionRole = "control" | "read" | "write" | "log";

export type SessionVariables = Readonly<Record<string, string | number>>;

/** What is set for a role on a server; the same names are read back. */
export function sessionVariables(flavor: "mysql" | "mariadb", role: ConnectionRole): SessionVariables {
  return {
    ...common,
    ...(flavor === "mysql" ? mysqlOnly : mariadbOnly),
    ...(role === "read" ? reading : {}),
    ...(role === "write" ? writing : {}),
    ...(role === "write" && flavor === "mariadb" ? { check_constraint_checks: 0 } : {}),
  };
}

/** The character set of a role's connection: rows travel as bytes, names and messages as utf8mb4. */
export function sessionNames(role: ConnectionRole): string {
  return role === "read" || role === "write" ? "binary" : "utf8mb4 COLLATE utf8mb4_bin";
}

const common: SessionVariables = {
  autocommit: 1,
  // TIMESTAMP texts of two servers are comparable only in one zone without summer time (hard-cases D16).
  time_zone: "+00:00",
  // No strict mode and no NO_ZERO_DATE: the source's rows pass as they are. No ANSI_QUOTES, no NO_BACKSLASH_ESCAPES:
  // quote.ts relies on it. NO_AUTO_VALUE_ON_ZERO keeps a stored id 0 (hard-cases K08).
  sql_mode: "NO_AUTO_VALUE_ON_ZERO",
  // The server's defaults (a day, a year) are no bounds: every lock wait ends and is tried again by its caller.
  lock_wait_timeout: 30,
  innodb_lock_wait_timeout: 10,
  // A global value would cut reads short without an error.
  sql_select_limit: "18446744073709551615",
  sql_big_selects: 1,
  sql_auto_is_null: 0,
  sql_safe_updates: 0,
  sql_quote_show_create: 1,
};

const mysqlOnly: SessionVariables = {
  transaction_isolation: "READ-COMMITTED",
  // Else AUTO_INCREMENT and sizes are up to a day old (pitfalls 20, measured: 4 instead of 7).
  information_schema_stats_expiry: 0,
  max_execution_time: 0,
  // Long lists of keys must stay ranges: past the default of 8 MB the optimizer scans the table without a word.
  range_optimizer_max_mem_size: 0,
};

const mariadbOnly: SessionVariables = {
  tx_isolation: "READ-COMMITTED",
  // A list of more than 1,000 keys would become a join with a temporary table.
  in_predicate_conversion_threshold: 0,
  max_statement_time: "0.000000",
  // The bound on range trees, as range_optimizer_max_mem_size is on MySQL.
  optimizer_max_sel_arg_weight: 0,
};

/** While the target is slow we stop reading, and the source must not give up on us after a minute. */
const reading: SessionVariables = { net_write_timeout: 3600 };

const writing: SessionVariables = {
  // A REPLACE of a parent would cascade (pitfalls 14). Unique checks stay on: they are how rule 6 sees conflicts.
  foreign_key_checks: 0,
  unique_checks: 1,
  // Between two blocks of a LOAD the source may be slow; the target must not give up on us after 30 s.
  net_read_timeout: 3600,
};
