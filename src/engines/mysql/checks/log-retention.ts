import { rule } from "./rule.ts";

/** A job that is paused longer than the log is kept must start over (hard-cases B04). */
const leastHours = 24;

export const logRetention = rule("log-retention", ["source", "target"], async (scope) => {
  const variables = await scope.variables(
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "binlog_expire_logs_auto_purge",
    "max_binlog_total_size",
  );
  if (variables.binlog_expire_logs_auto_purge === "OFF") return;
  const limits = [
    Number(variables.binlog_expire_logs_seconds ?? 0),
    Number(variables.expire_logs_days ?? 0) * 86_400,
  ];
  const seconds = Math.min(...limits.filter((limit) => limit > 0));
  if (seconds < leastHours * 3600) {
    scope.warning(
      `it keeps its log for ${(seconds / 3600).toFixed(1)} hours; a job that pauses longer starts over`,
      `SET GLOBAL binlog_expire_logs_seconds = ${7 * 86_400}`,
    );
  }
  const bytes = Number(variables.max_binlog_total_size ?? 0);
  if (bytes > 0) {
    scope.warning(
      `it drops log files beyond max_binlog_total_size = ${bytes} bytes, however new they are`,
      "SET GLOBAL max_binlog_total_size = 0 for the time of the job",
    );
  }
});
