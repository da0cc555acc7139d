/** Described tables by hand, for tests without a server. */
import type { MysqlColumn, MysqlTable } from "../../src/engines/mysql/table.ts";
import type { KeyType } from "../../src/model/key.ts";

export function column(name: string, columnType: string, more: Partial<MysqlColumn> = {}): MysqlColumn {
  return {
    name,
    dataType: /^[a-z0-9]+/.exec(columnType)?.[0] ?? "",
    columnType,
    unsigned: columnType.includes("unsigned"),
    nullable: false,
    charset: undefined,
    collation: undefined,
    octetLength: undefined,
    precision: undefined,
    scale: undefined,
    fraction: undefined,
    generated: undefined,
    invisible: false,
    autoIncrement: false,
    ...more,
  };
}

export function tableOf(
  columns: readonly MysqlColumn[],
  primaryKey: readonly string[],
  shard: { readonly key: string; readonly type: KeyType } = { key: primaryKey[0] ?? "", type: "integer" },
): MysqlTable {
  return {
    name: "t",
    shardKey: shard.key,
    keyType: shard.type,
    primaryKey,
    keyOrder: "client",
    secondaryUniqueKeys: [],
    estimatedRows: 0,
    estimatedBytes: 0,
    fingerprint: "",
    detail: {
      database: "shop",
      columns,
      createSql: "",
      deferrableIndexes: [],
      uniqueKeys: [{ name: "PRIMARY", columns: primaryKey }],
    },
  };
}
