import { ownTriggerPrefix } from "../log/statement.ts";
import { quoteIdentifier } from "../quote.ts";
import { rule } from "./rule.ts";

/**
 * Triggers of a moved table would fire on copied rows at the target, and at the source on the rows of a rollback
 * (facts/pitfalls 29). Refused for now.
 * Those of a gate are never to be dropped by hand: the gate of a job that has switched is what keeps writers with an
 * old map out of rows that are served elsewhere.
 */
export const userTriggers = rule("user-triggers", ["source", "target"], async (scope) => {
  const rows = await scope.query<{ name: string; tbl: string; event: string; body: string }>(
    `SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS tbl, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION) AS event,
            ACTION_STATEMENT AS body
       FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE IN (?) ORDER BY 2, 1`,
    [scope.database, scope.context.tables.map((table) => table.name)],
  );
  for (const { name, tbl, event, body } of rows) {
    if (name.startsWith(ownTriggerPrefix)) {
      const job = gateOwner(body);
      const owner = job === undefined ? "another job" : `job ${job}`;
      scope.blocker(
        `it carries the gate of ${owner} (trigger ${name}); it can be moved again once that job is finished or aborted`,
        `Look at ${job === undefined ? "`shardlift status`" : `\`shardlift status ${job}\``} and bring that job to its end; never drop the trigger by hand: that opens a closed gate to writers with an old map.`,
        tbl,
      );
    } else {
      scope.blocker(`it has a trigger ${name} (${event})`, dropSql(scope.database, name), tbl);
    }
  }
});

/** The job in the text of a gate's trigger (gate-sql.ts): it asks for the gate's row by that name. */
function gateOwner(body: string): string | undefined {
  return /\.`?gate`? WHERE job = '([a-z0-9-]+)'/.exec(body)?.[1];
}

function dropSql(database: string, name: string): string {
  return `DROP TRIGGER ${quoteIdentifier(database)}.${quoteIdentifier(name)}`;
}
