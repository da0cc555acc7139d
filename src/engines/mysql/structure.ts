import { readColumnDefinition, type ColumnDefinition } from "./column-definition.ts";
import { checkConstraint, keyDefinition, parseCreateTable } from "./create-table.ts";
import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * Compares the structure of a table at two servers as far as a move depends on it. Pure. Column order may differ,
 * since all reads and writes name their columns; non-unique indexes may differ; types with their members, collations,
 * unique keys, defaults, expressions and checks may not: another collation has other duplicates (facts/hard-cases
 * K07), another member is another value under the same number, and another default, expression or check makes other
 * rows of the writes that come after the flip.
 * Both servers are of one flavor, so they print what is equal in the same words.
 */
export function structureDifferences(source: MysqlTable, target: MysqlTable): string[] {
  return [
    ...columnDifferences(source, target),
    ...clauseDifferences(source, target),
    ...keyDifferences(source, target),
    ...setDifferences("check", checkTexts(source), checkTexts(target)),
    ...unreadableDifferences(source, target),
  ];
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
    column.invisible ? "INVISIBLE" : "",
  ]
    .filter((word) => word !== "")
    .join(" ");
}

const clauses: readonly {
  readonly name: "default" | "onUpdate" | "generatedAs" | "check";
  readonly word: string;
}[] = [
  { name: "default", word: "DEFAULT" },
  { name: "onUpdate", word: "ON UPDATE" },
  { name: "generatedAs", word: "GENERATED ALWAYS AS" },
  { name: "check", word: "CHECK" },
];

/** For columns that are on both sides. */
function clauseDifferences(source: MysqlTable, target: MysqlTable): string[] {
  const there = columnsOf(target);
  return [...columnsOf(source)].flatMap(([column, here]) => {
    const twin = there.get(column);
    if (twin === undefined) return [];
    return clauses.flatMap(({ name, word }) => {
      const [a, b] = [clauseText(here, name, word), clauseText(twin, name, word)];
      return a === b ? [] : [`column ${here.parts.name} has ${a} at the source and ${b} at the target`];
    });
  });
}

interface PrintedColumn {
  readonly definition: string;
  readonly parts: ColumnDefinition;
}

function columnsOf(table: MysqlTable): Map<string, PrintedColumn> {
  const columns = new Map<string, PrintedColumn>();
  for (const definition of parseCreateTable(table.detail.createSql).definitions) {
    const parts = readColumnDefinition(definition);
    if (parts !== undefined) columns.set(parts.name.toLowerCase(), { definition, parts });
  }
  return columns;
}

function clauseText(
  { definition, parts }: PrintedColumn,
  name: (typeof clauses)[number]["name"],
  word: string,
): string {
  const span = parts[name];
  return span === undefined ? `no ${word}` : `${word} ${definition.slice(span.start, span.end)}`;
}

function keyDifferences(source: MysqlTable, target: MysqlTable): string[] {
  const [here, there] = [keyText(source.primaryKey), keyText(target.primaryKey)];
  return [
    ...(here === there ? [] : [`the primary key is ${here} at the source and ${there} at the target`]),
    ...setDifferences("unique key", uniqueTexts(source), uniqueTexts(target)),
  ];
}

/** Unique keys with the prefixes and expressions of their parts, whatever they are called. */
function uniqueTexts(table: MysqlTable): string[] {
  return parseCreateTable(table.detail.createSql).definitions.flatMap((definition) => {
    const key = keyDefinition(definition);
    if (key?.unique !== true) return [];
    return [
      keyText(
        key.parts.map(({ start, end }) =>
          definition
            .slice(start, end)
            .trim()
            .replace(/^`(.*?)`/, "$1"),
        ),
      ),
    ];
  });
}

/** Checks of the table; their names may differ. */
function checkTexts(table: MysqlTable): string[] {
  return parseCreateTable(table.detail.createSql).definitions.flatMap((definition) => {
    const check = checkConstraint(definition);
    return check === undefined ? [] : [definition.slice(check.expression.start)];
  });
}

function setDifferences(what: string, here: readonly string[], there: readonly string[]): string[] {
  return [
    ...here.filter((text) => !there.includes(text)).map((text) => `${what} ${text} is missing at the target`),
    ...there.filter((text) => !here.includes(text)).map((text) => `${what} ${text} is missing at the source`),
  ];
}

/** What is shown is the same for different texts, so only the witnesses can tell. */
function unreadableDifferences(source: MysqlTable, target: MysqlTable): string[] {
  const here = new Map(source.detail.unreadable?.map(({ what, witness }) => [what, witness]));
  const there = new Map(target.detail.unreadable?.map(({ what, witness }) => [what, witness]));
  return [...new Set([...here.keys(), ...there.keys()])].flatMap((what) => {
    const [a, b] = [here.get(what), there.get(what)];
    if (a !== undefined && a === b) return [];
    if (a !== undefined && b !== undefined)
      return [`${what} is not the same at the source and at the target`];
    return [`${what} has a text that the servers do not show as it is, so it can not be compared`];
  });
}

function keyText(columns: readonly string[]): string {
  return `(${columns.join(", ")})`;
}
