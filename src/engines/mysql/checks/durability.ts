import { rule } from "./rule.ts";

/**
 * A server that forgets its last commits forgets acknowledged writes, or that its gate was closed (facts/gate 8): then
 * two shards take writes for one slice.
 * - innodb_flush_log_at_trx_commit = 0 leaves commits in the server's own memory for a second, so that the end of the
 *   process alone loses them (manual, InnoDB parameters). That is refused.
 * - 2, and a sync_binlog other than 1 (MariaDB's default is 0), leave them to the operating system: only the end of
 *   the host loses them. That is the owner's choice, named in full.
 */
export const durability = rule("durability", ["source", "target"], async (scope) => {
  const { innodb_flush_log_at_trx_commit: flush, sync_binlog: sync } = await scope.variables(
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
  );
  if (flush === "0") {
    scope.blocker(
      "innodb_flush_log_at_trx_commit is 0: a crash of the server process alone loses commits of its last second, acknowledged writes and the closed gate among them",
      "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
    );
  }
  const unsafe = { sync_binlog: sync, innodb_flush_log_at_trx_commit: flush === "0" ? "1" : flush };
  for (const [name, value] of Object.entries(unsafe)) {
    if (value === undefined || value === "1") continue;
    scope.warning(
      `${name} is ${value}: a power cut of this host may lose its last commits; after the flip it could open the closed gate again, and then two shards own the slice`,
      `SET GLOBAL ${name} = 1`,
    );
  }
});
