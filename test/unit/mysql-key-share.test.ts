import { expect, test } from "vitest";
import { shareOfKeys } from "../../src/engines/mysql/key-share.ts";
import type { MysqlColumn, MysqlTable } from "../../src/engines/mysql/table.ts";

function tableOf(...types: string[]): MysqlTable {
  const columns = types.map(
    (dataType, index) => ({ name: `c${index}`, dataType, columnType: dataType }) as MysqlColumn,
  );
  return {
    name: "t",
    primaryKey: columns.map(({ name }) => name),
    detail: { columns },
  } as unknown as MysqlTable;
}

test.each([
  [["bigint"], "0", "18446744073709551615", "9223372036854775808", 0.5],
  [["int"], "-100", "100", "-100", 0],
  [["int"], "-100", "100", "5000", 1],
  [["int"], "7", "7", "7", 1],
  [["decimal"], "-1.50", "2.50", "0.50", 0.5],
  [["binary"], "0x00000000", "0xffffffff", "0x80000000", 0.5],
  [["binary"], "0xaaaa00", "0xaaaaff", "0xaaaa80", 0.502],
  [["varchar"], "0x61", "0x7a", "0x6d", 0.48],
  [["datetime"], "2024-01-01 00:00:00", "2024-01-31 00:00:00", "2024-01-16 00:00:00", 0.5],
  [["time"], "-10:00:00", "10:00:00", "00:00:00", 0.5],
  [["int", "int"], "5,0", "5,100", "5,25", 0.25],
  [["int", "int"], "0,9", "10,0", "5,3", 0.5],
])("%j from %s to %s: %s is at %s", (types, first, last, key, share) => {
  expect(shareOfKeys(tableOf(...types), { first, last }, key)).toBeCloseTo(share, 2);
});
