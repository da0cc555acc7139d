import { quoteIdentifier } from "../quote.ts";
import { rule } from "./rule.ts";

/**
 * Triggers of a moved table would fire on copied rows at the target, and at the source on the rows of a rollback
 * (facts/pitfalls 29). Refused for now.
 */
export const userTriggers = rule("user-triggers", ["source", "target"], async (scope) => {
  const rows = await scope.query<{ name: string; tbl: string; event: string }>(
    `SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS tbl, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION) AS event
       FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE IN (?) ORDER BY 2, 1`,
    [scope.database, scope.context.tables.map((table) => table.name)],
  );
  for (const { name, tbl, event } of rows) {
    const isOurs = name.startsWith("shardlift_");
    scope.blocker(
      isOurs
        ? `the gate of another or an aborted job is still on it (${name})`
        : `it has a trigger ${name} (${event})`,
      isOurs
        ? "abort or finish that job; if it is gone for good: " + dropSql(scope.database, name)
        : dropSql(scope.database, name),
      tbl,
    );
  }
});

function dropSql(database: string, name: string): string {
  return `DROP TRIGGER ${quoteIdentifier(database)}.${quoteIdentifier(name)}`;
}
