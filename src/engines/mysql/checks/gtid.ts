import { rule } from "./rule.ts";

/**
 * Positions are GTIDs: they hold on every server with the same history, and on MySQL they are how a barrier knows that
 * logged transactions are visible (facts/pitfalls 2). MariaDB always has them.
 */
export const gtid = rule("gtid", ["source", "target"], async (scope) => {
  if (scope.flavor === "mariadb") return;
  const variables = await scope.variables("gtid_mode", "enforce_gtid_consistency", "binlog_order_commits");
  if (variables.gtid_mode !== "ON") {
    scope.blocker(
      `gtid_mode is ${variables.gtid_mode}`,
      "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON (one step up at a time, on every server of the set)",
    );
  }
  if (variables.binlog_order_commits === "OFF") {
    scope.warning(
      "binlog_order_commits is OFF: logged transactions may become visible late, so every read waits for their GTIDs",
      "SET GLOBAL binlog_order_commits = ON",
    );
  }
});
