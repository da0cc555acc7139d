import { primaryKeyOf, shardKeyColumn } from "../describe.ts";
import { rule } from "./rule.ts";

/** After the flip each server sees only its own rows: a unique key without the shard key holds per shard only. */
export const uniqueKeys = rule("unique-keys", ["source"], async (scope) => {
  for (const table of await scope.tables()) {
    const spec = scope.context.tables.find(({ name }) => name === table.name);
    const column = spec === undefined ? undefined : shardKeyColumn(spec, table);
    const primary = primaryKeyOf(table);
    for (const index of table.indexes) {
      if (!index.unique || index === primary || index.parts.some((part) => part.column === column?.name))
        continue;
      const columns = index.parts.map((part) => part.column ?? "(expression)").join(", ");
      scope.warning(
        `unique key ${index.name} (${columns}) does not hold the shard key: after the move both shards may accept the same value`,
        "make the value unique in the application, or add the shard key to the unique key",
        table.name,
      );
    }
  }
});
