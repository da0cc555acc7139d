import { primaryKeyOf, primaryKeyProblems } from "../describe.ts";
import { rule, sqlTable } from "./rule.ts";

/** Every row is known by its primary key, in this process by the key's exact text (rules 2 and 4). */
export const primaryKey = rule("primary-key", ["source"], async (scope) => {
  for (const table of await scope.tables()) {
    const name = sqlTable(table.database, table.name);
    const fix =
      primaryKeyOf(table) === undefined
        ? `ALTER TABLE ${name} ADD PRIMARY KEY (…)`
        : `ALTER TABLE ${name} DROP PRIMARY KEY, ADD PRIMARY KEY (…)`;
    for (const problem of primaryKeyProblems(table)) scope.blocker(problem, fix, table.name);
  }
});
