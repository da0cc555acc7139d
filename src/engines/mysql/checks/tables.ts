import { parseCreateTable } from "../create-table.ts";
import type { TableFacts } from "../table-facts.ts";
import { rule, sqlTable, type RuleScope } from "./rule.ts";

/** The moved tables are there, and are plain InnoDB tables: everything else has rows that escape locks or the log. */
export const tables = rule("tables", ["source", "target"], async (scope) => {
  const facts = await scope.tables();
  if (scope.context.role === "source") {
    const present = new Set(facts.map((table) => table.name));
    for (const { name } of scope.context.tables) {
      if (present.has(name)) continue;
      scope.blocker("there is no such table", "mend the table's name in the keyspace's configuration", name);
    }
  }
  for (const table of facts) judge(scope, table);
  if (scope.context.role === "source") await lookAtTexts(scope, facts);
});

/**
 * A table that is to be created from a text of which only a likeness is known would be another one. A table that the
 * target has already is compared instead (target-structure).
 */
async function lookAtTexts(scope: RuleScope, facts: readonly TableFacts[]): Promise<void> {
  const doubtful = facts.filter((table) => table.unreadable.length > 0);
  const existing = await scope.peer.catalog.existing(doubtful.map(({ name }) => name));
  for (const table of doubtful.filter(({ name }) => !existing.has(name))) {
    for (const { what, witness } of table.unreadable) {
      scope.blocker(
        `the server does not show ${what} as it is (it puts ? for characters that utf8mb3 can not hold)`,
        witness === undefined
          ? `write ${what} without such characters and without four question marks in a row`
          : "create the table at the target by hand, with the statement that it was created with here",
        table.name,
      );
    }
  }
}

function judge(scope: RuleScope, table: TableFacts): void {
  const name = sqlTable(table.database, table.name);
  if (table.type.includes("VIEW") || table.type === "SEQUENCE") {
    scope.blocker(
      `it is a ${table.type.toLowerCase()}, not a table`,
      "name the base table in the configuration",
      table.name,
    );
    return;
  }
  if (table.type === "SYSTEM VERSIONED") {
    // History rows are logged under the live row's key (hard-cases 0.10).
    scope.blocker(
      "it is system-versioned: its history can not be told from its rows in the log",
      `ALTER TABLE ${name} DROP SYSTEM VERSIONING (this drops the history)`,
      table.name,
    );
  } else if (
    parseCreateTable(table.createSql).definitions.some((definition) => definition.startsWith("PERIOD FOR"))
  ) {
    scope.blocker(
      "it has an application-time period, which one DELETE may split into new rows",
      "leave the table out of the keyspace",
      table.name,
    );
  }
  if (table.engine !== "InnoDB") {
    scope.blocker(
      `its engine is ${table.engine}: it has no transactions and no row locks`,
      `ALTER TABLE ${name} ENGINE = InnoDB`,
      table.name,
    );
  }
  if (table.partitioned) {
    scope.warning(
      "it is partitioned: TRUNCATE, DROP and EXCHANGE PARTITION pass the gate and stop the job",
      "hold back partition maintenance of this table while the job runs",
      table.name,
    );
  }
}
