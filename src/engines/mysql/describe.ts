import type { KeyType } from "../../model/key.ts";
import type { TableSpec } from "../engine.ts";
import { fingerprintOf, isForeignKey, parseCreateTable, plainIndexName } from "./create-table.ts";
import { keyOrderOf, whyNotKeyColumn } from "./key-codec.ts";
import type { IndexFacts, TableFacts } from "./table-facts.ts";
import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * Makes a shape of what a server says about a table. Pure.
 * Invariant: a table that gets a shape has a primary key whose values this engine can write down exactly, and a shard
 * key with one exact order. What else must hold for a move is for the preflight rules to say.
 */
export function shapeOf(spec: TableSpec, facts: TableFacts): MysqlTable | readonly string[] {
  const problems = [...primaryKeyProblems(facts), ...shardKeyProblems(spec, facts)];
  const keyType = keyTypeOf(shardKeyColumn(spec, facts));
  if (problems.length > 0 || keyType === undefined) return problems;
  const primary = primaryKeyOf(facts);
  const unique = facts.indexes.filter((index) => index.unique);
  const table: MysqlTable = {
    name: facts.name,
    shardKey: shardKeyColumn(spec, facts)?.name ?? spec.shardKey,
    keyType,
    primaryKey: columnsOf(primary),
    keyOrder: "server",
    secondaryUniqueKeys: unique.filter((index) => index !== primary).map((index) => index.name),
    estimatedRows: facts.estimatedRows,
    estimatedBytes: facts.estimatedBytes,
    fingerprint: fingerprintOf(
      facts.createSql,
      facts.unreadable.map(({ what, witness }) => `${what}: ${witness ?? ""}`),
    ),
    detail: {
      database: facts.database,
      columns: facts.columns,
      createSql: facts.createSql,
      unreadable: facts.unreadable,
      deferrableIndexes: deferrableIndexes(facts),
      uniqueKeys: unique
        .toSorted((a, b) => Number(b === primary) - Number(a === primary))
        .map((index) => ({ name: index.name, columns: columnsOf(index) })),
    },
  };
  return { ...table, keyOrder: keyOrderOf(table) };
}

/** Why rows can not be told apart by the table's primary key; empty when they can. */
export function primaryKeyProblems(facts: TableFacts): string[] {
  const primary = primaryKeyOf(facts);
  if (primary === undefined) return ["it has no primary key and no unique key of NOT NULL columns"];
  return primary.parts.flatMap(({ column: name, prefix }) => {
    const column = facts.columns.find((candidate) => candidate.name === name);
    if (column === undefined) return ["its primary key has a part that is an expression"];
    if (prefix) return [`its primary key holds only a prefix of column ${column.name}`];
    return whyNotKeyColumn(column) ?? [];
  });
}

/** Why the shard key can not cut this table; empty when it can. */
export function shardKeyProblems(spec: TableSpec, facts: TableFacts): string[] {
  const column = shardKeyColumn(spec, facts);
  if (column === undefined) return [`it has no column ${spec.shardKey}`];
  if (keyTypeOf(column) === undefined) {
    return [
      `its shard key ${column.name} is of type ${column.columnType}: only integers, DECIMAL, BINARY, VARBINARY, DATE, DATETIME and TIMESTAMP have one exact order`,
    ];
  }
  return column.nullable ? [`its shard key ${column.name} may be NULL, and no range owns NULL`] : [];
}

/** Column names are not case sensitive on either server. */
export function shardKeyColumn(spec: TableSpec, facts: TableFacts): MysqlColumn | undefined {
  const wanted = spec.shardKey.toLowerCase();
  return facts.columns.find((column) => column.name.toLowerCase() === wanted);
}

/**
 * How a shard key of this type is ordered. Left out on purpose: collated strings and floats (no exact order), YEAR
 * (reads `5` as 2005), TIME (can be negative, so its text has another order), BIT, ENUM and SET.
 */
export function keyTypeOf(column: MysqlColumn | undefined): KeyType | undefined {
  return column === undefined ? undefined : keyTypes[column.dataType];
}

const keyTypes: Readonly<Record<string, KeyType>> = {
  tinyint: "integer",
  smallint: "integer",
  mediumint: "integer",
  int: "integer",
  bigint: "integer",
  decimal: "decimal",
  binary: "binary",
  varbinary: "binary",
  date: "temporal",
  datetime: "temporal",
  timestamp: "temporal",
};

/** PRIMARY, or else a unique key of whole NOT NULL columns, which tells rows apart just as well (hard-cases K02). */
export function primaryKeyOf(facts: TableFacts): IndexFacts | undefined {
  const primary = facts.indexes.find((index) => index.name === "PRIMARY");
  return (
    primary ?? facts.indexes.find((index) => index.unique && index.kind === "BTREE" && isWhole(index, facts))
  );
}

function isWhole(index: IndexFacts, facts: TableFacts): boolean {
  return index.parts.every(
    ({ column: name, prefix }) =>
      !prefix && facts.columns.some((column) => column.name === name && !column.nullable),
  );
}

function columnsOf(index: IndexFacts | undefined): string[] {
  return (index?.parts ?? []).flatMap(({ column }) => column ?? []);
}

/**
 * Plain non-unique indexes, with the clause that builds them. Kept out: unique ones (they are how conflicts show,
 * rule 6), FULLTEXT and SPATIAL (their build stops writes), and one that AUTO_INCREMENT (error 1075 without it) or a
 * foreign key leads with.
 */
function deferrableIndexes(facts: TableFacts): { name: string; clause: string }[] {
  const { definitions } = parseCreateTable(facts.createSql);
  const needed = new Set(facts.columns.filter((column) => column.autoIncrement).map((column) => column.name));
  for (const definition of definitions.filter(isForeignKey)) {
    for (const column of facts.columns) {
      if (definition.includes(`\`${column.name.replaceAll("`", "``")}\``)) needed.add(column.name);
    }
  }
  return definitions.flatMap((definition) => {
    const name = plainIndexName(definition);
    const index = facts.indexes.find((candidate) => candidate.name === name);
    if (name === undefined || index === undefined || index.kind !== "BTREE") return [];
    const first = index.parts[0]?.column;
    return first !== undefined && needed.has(first) ? [] : [{ name, clause: `ADD ${definition}` }];
  });
}
