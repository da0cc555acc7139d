import type { Bound } from "../../../model/key.ts";
import { keyTypeOf, shardKeyColumn, shardKeyProblems } from "../describe.ts";
import { quoteIdentifier } from "../quote.ts";
import type { TableFacts } from "../table-facts.ts";
import type { MysqlColumn } from "../table.ts";
import { rule, sqlTable, type RuleScope } from "./rule.ts";

/**
 * The shard key cuts every moved table in the same way, in the server as in this process: one exact order, never NULL,
 * and an index, without which each question about the slice reads the whole table (hard-cases K15 to K18).
 */
export const shardKey = rule("shard-key", ["source"], async (scope) => {
  for (const table of await scope.tables()) {
    const spec = scope.context.tables.find(({ name }) => name === table.name);
    if (spec === undefined) continue;
    const column = shardKeyColumn(spec, table);
    for (const problem of shardKeyProblems(spec, table))
      scope.blocker(problem, fixFor(table, column), table.name);
    if (column === undefined || keyTypeOf(column) === undefined) continue;
    lookAtType(scope, table, column);
    lookAtBounds(scope, table, column);
    lookAtIndexes(scope, table, column);
  }
});

/**
 * Copy and verification walk the primary key, so an index that only contains the shard key is enough for them; without
 * any the slice's rows can not be counted or found without reading the table.
 */
function lookAtIndexes(scope: RuleScope, table: TableFacts, column: MysqlColumn): void {
  const trees = table.indexes.filter((index) => index.kind === "BTREE");
  if (trees.some((index) => index.parts[0]?.column === column.name)) return;
  const fix = `CREATE INDEX ${quoteIdentifier(`by_${column.name}`.slice(0, 64))} ON ${sqlTable(table.database, table.name)} (${quoteIdentifier(column.name)})`;
  if (trees.some((index) => index.parts.some((part) => part.column === column.name))) {
    scope.warning(
      `no index starts with its shard key ${column.name}: questions about the slice read a whole index`,
      fix,
      table.name,
    );
  } else {
    scope.blocker(`no index contains its shard key ${column.name}`, fix, table.name);
  }
}

function fixFor(table: TableFacts, column: MysqlColumn | undefined): string {
  if (column === undefined || keyTypeOf(column) === undefined) {
    return "name another column in the keyspace's configuration (tables: …: {key: …})";
  }
  return `ALTER TABLE ${sqlTable(table.database, table.name)} MODIFY ${quoteIdentifier(column.name)} ${column.columnType} NOT NULL`;
}

function lookAtType(scope: RuleScope, table: TableFacts, column: MysqlColumn): void {
  const type = keyTypeOf(column);
  if (type === scope.context.keyType) return;
  scope.blocker(
    `its shard key ${column.name} (${column.columnType}) is ordered as ${type}, but the keyspace as ${scope.context.keyType}`,
    "use columns of one type as shard key in all tables of a keyspace",
    table.name,
  );
}

/**
 * A bound in the map that is finer than the column's own texts has two meanings: this process compares texts, where
 * `10:00:00` lies before `10:00:00.000`, and the server compares moments.
 */
function lookAtBounds(scope: RuleScope, table: TableFacts, column: MysqlColumn): void {
  if (scope.context.keyType !== "temporal") return;
  const fraction = column.fraction ?? 0;
  const length = column.dataType === "date" ? 10 : fraction === 0 ? 19 : 20 + fraction;
  const bounds: Bound[] = scope.context.slice.flatMap(({ from, to }) => [from, to]);
  for (const bound of bounds) {
    if (bound.at !== "KEY" || bound.key.length <= length) continue;
    scope.blocker(
      `the bound ${bound.key} is finer than its shard key ${column.name} (${column.columnType})`,
      `cut at ${bound.key.slice(0, length)}`,
      table.name,
    );
  }
}
