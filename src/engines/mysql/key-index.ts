import { quoteIdentifier, quoteTable } from "./quote.ts";
import type { MysqlTable } from "./table.ts";

/**
 * `FROM` with the index of the primary key forced: chunks and key lists are ranges of it, and left alone the
 * optimizer may prefer the shard key's index and sort the whole slice.
 */
export function fromByKey(table: MysqlTable, alias: string): string {
  const { database, uniqueKeys } = table.detail;
  const from = `${quoteTable(database, table.name)} AS ${quoteIdentifier(alias)}`;
  // A table without PRIMARY has its rows identified by a unique key of NOT NULL columns (hard-cases, K02).
  const index = uniqueKeys.find(({ columns }) => sameColumns(columns, table.primaryKey));
  return index === undefined ? from : `${from} FORCE INDEX (${quoteIdentifier(index.name)})`;
}

function sameColumns(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index]);
}

export function orderByKey(table: MysqlTable): string {
  return table.primaryKey.map(quoteIdentifier).join(", ");
}
