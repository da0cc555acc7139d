import { ledgerDatabase } from "../ledger-schema.ts";
import { rule, type RuleScope } from "./rule.ts";

/**
 * The log must hold the key of every changed row (rule 3). The target's log counts as much as the source's: after the
 * flip it is what a rollback reads.
 */
export const changeLog = rule("change-log", ["source", "target"], async (scope) => {
  const variables = await scope.variables("log_bin", "binlog_format", "binlog_row_image");
  if (variables.log_bin !== "ON") {
    scope.blocker(
      "it writes no binary log",
      "set log_bin = binlog and a unique server_id in the server's configuration, then restart it",
    );
    return;
  }
  // A version without the variable knows rows only.
  const format = variables.binlog_format ?? "ROW";
  if (format !== "ROW") {
    scope.blocker(
      `binlog_format is ${format}: statements in the log do not show which rows they change`,
      "SET GLOBAL binlog_format = 'ROW', put it into the configuration, and let connections that are open now reconnect",
    );
  }
  const image = variables.binlog_row_image ?? "FULL";
  if (!["FULL", "NOBLOB", "FULL_NODUP"].includes(image)) {
    scope.blocker(
      `binlog_row_image is ${image}: an inserted row may lack a key column that got its default`,
      "SET GLOBAL binlog_row_image = 'FULL', put it into the configuration, and let connections that are open now reconnect",
    );
  }
  await lookForFilters(scope);
});

/** A filter keeps changes out of the log, silently (hard-cases B03). */
async function lookForFilters(scope: RuleScope): Promise<void> {
  const isNew = scope.flavor === "mysql" && scope.session.server.versionNumber >= 80_200;
  const rows = await scope.query<{ Binlog_Do_DB: string; Binlog_Ignore_DB: string }>(
    isNew ? "SHOW BINARY LOG STATUS" : "SHOW MASTER STATUS",
  );
  const only = listed(rows[0]?.Binlog_Do_DB);
  const never = listed(rows[0]?.Binlog_Ignore_DB);
  for (const database of [scope.database, ledgerDatabase]) {
    if (only.length > 0 && !only.includes(database)) {
      scope.blocker(
        `binlog_do_db leaves database ${database} out of the log`,
        `add binlog_do_db = ${database} to the configuration (or remove the filter), then restart the server`,
      );
    }
    if (never.includes(database)) {
      scope.blocker(
        `binlog_ignore_db leaves database ${database} out of the log`,
        `remove binlog_ignore_db = ${database} from the configuration, then restart the server`,
      );
    }
  }
}

function listed(names: string | undefined): string[] {
  return (names ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}
