import { rule } from "./rule.ts";

/** A server that loses its last commits in a crash loses acknowledged writes, or opens a closed gate (facts/gate 8). */
export const durability = rule("durability", ["source", "target"], async (scope) => {
  const variables = await scope.variables("sync_binlog", "innodb_flush_log_at_trx_commit");
  for (const [name, value] of Object.entries(variables)) {
    if (value === "1") continue;
    scope.warning(
      `${name} is ${value}: a crash of the server may lose its last commits`,
      `SET GLOBAL ${name} = 1`,
    );
  }
});
