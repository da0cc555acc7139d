import { rule } from "./rule.ts";

/** Two servers that fold the case of table names differently mean different tables by one name (hard-cases S08). */
export const nameCase = rule("name-case", ["target"], async (scope) => {
  const here = (await scope.variables("lower_case_table_names")).lower_case_table_names;
  const there = (await scope.peerVariables("lower_case_table_names")).lower_case_table_names;
  if (here === there) return;
  scope.blocker(
    `lower_case_table_names is ${here}, but ${there} at ${scope.peer.server.shard}`,
    "set up the target with the source's lower_case_table_names (it is fixed when a server's data is initialised)",
  );
});
