import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * Compares the structure of a table at two servers as far as a move depends on it. Pure. Column order may differ,
 * since all reads and writes name their columns; non-unique indexes may differ; types, collations and unique keys may
 * not: another collation has other duplicates (facts/hard-cases K07), another type other values.
 */
export function structureDifferences(source: MysqlTable, target: MysqlTable): string[] {
  return [...columnDifferences(source, target), ...keyDifferences(source, target)];
}

function columnDifferences(source: MysqlTable, target: MysqlTable): string[] {
  const here = new Map(source.detail.columns.map((column) => [column.name.toLowerCase(), column]));
  const there = new Map(target.detail.columns.map((column) => [column.name.toLowerCase(), column]));
  const differences: string[] = [];
  for (const [name, column] of here) {
    const twin = there.get(name);
    if (twin === undefined) {
      differences.push(`column ${column.name} is missing at the target`);
    } else if (columnText(column) !== columnText(twin)) {
      differences.push(
        `column ${column.name} is ${columnText(column)} at the source and ${columnText(twin)} at the target`,
      );
    }
  }
  for (const [name, column] of there) {
    if (!here.has(name)) differences.push(`column ${column.name} is missing at the source`);
  }
  return differences;
}

/** Display widths of integers are left out: MySQL 8.0.19 and later drop them, and they mean nothing. */
function columnText(column: MysqlColumn): string {
  return [
    column.columnType.replace(/^(tiny|small|medium|big)?int\(\d+\)/, (type) => type.replace(/\(\d+\)/, "")),
    column.nullable ? "NULL" : "NOT NULL",
    column.charset === undefined ? "" : `CHARACTER SET ${column.charset}`,
    column.collation === undefined ? "" : `COLLATE ${column.collation}`,
    column.generated === undefined ? "" : `GENERATED (${column.generated})`,
    column.autoIncrement ? "AUTO_INCREMENT" : "",
  ]
    .filter((word) => word !== "")
    .join(" ");
}

function keyDifferences(source: MysqlTable, target: MysqlTable): string[] {
  const differences: string[] = [];
  if (keyText(source.primaryKey) !== keyText(target.primaryKey)) {
    differences.push(
      `the primary key is ${keyText(source.primaryKey)} at the source and ${keyText(target.primaryKey)} at the target`,
    );
  }
  const here = source.detail.uniqueKeys.map((key) => keyText(key.columns));
  const there = target.detail.uniqueKeys.map((key) => keyText(key.columns));
  for (const key of here)
    if (!there.includes(key)) differences.push(`unique key ${key} is missing at the target`);
  for (const key of there)
    if (!here.includes(key)) differences.push(`unique key ${key} is missing at the source`);
  return differences;
}

function keyText(columns: readonly string[]): string {
  return `(${columns.join(", ")})`;
}
