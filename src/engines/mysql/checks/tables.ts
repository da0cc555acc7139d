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
});

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
