import { compareKeys, type KeyValue } from "../../../model/key.ts";
import { sliceContains, type Slice } from "../../../model/slice.ts";
import type { MysqlColumn, MysqlTable } from "../table.ts";
import type { ColumnLayout } from "./column-layout.ts";
import { keyDecoder, safeInteger } from "./key-decoding.ts";

/**
 * Whether a shard key in the log lies in the slice. Leaving out what does not only spares work, so it is done only
 * where it is exact: integers and fixed-point numbers. Temporal and binary keys are not filtered, since a border of
 * the map may be written with other fraction digits or padding than the stored value.
 */
export type SliceFilter = (buffer: Buffer, at: number, length: number) => boolean;

export function sliceFilter(
  table: MysqlTable,
  column: MysqlColumn,
  layout: ColumnLayout,
  slice: Slice,
): SliceFilter | undefined {
  const everything = slice.some(({ from, to }) => from.at === "MIN" && to.at === "MAX");
  if (everything) return undefined;
  const decode = keyDecoder(column, layout);
  if (decode === undefined) return undefined;
  if (table.keyType === "integer" && integers.has(column.dataType)) {
    if (layout.width === 8) return bigintFilter(slice, column.unsigned);
    const inSlice = numberFilter(slice);
    const read = numberReader(layout.width, column.unsigned);
    return (buffer, at) => inSlice(read(buffer, at));
  }
  if (table.keyType === "decimal" && column.dataType === "decimal") {
    return (buffer, at, length) => sliceContains("decimal", slice, decode(buffer, at, length));
  }
  return undefined;
}

const integers: ReadonlySet<string> = new Set(["tinyint", "smallint", "mediumint", "int", "bigint"]);

function numberReader(width: number, unsigned: boolean): (buffer: Buffer, at: number) => number {
  return unsigned
    ? (buffer, at) => buffer.readUIntLE(at, width)
    : (buffer, at) => buffer.readIntLE(at, width);
}

/** Exact for values up to 2^53: an end beyond that lies outside all of them, and so does the nearest end inside. */
function numberFilter(slice: Slice): (value: number) => boolean {
  const intervals = slice.map(({ from, to }) => ({
    from: from.at === "KEY" ? clamped(from.key) : from.at === "MIN" ? -Infinity : Infinity,
    to: to.at === "KEY" ? clamped(to.key) : to.at === "MAX" ? Infinity : -Infinity,
  }));
  return (value) => {
    for (const { from, to } of intervals) if (value >= from && value < to) return true;
    return false;
  };
}

function clamped(key: KeyValue): number {
  if (compareKeys("integer", key, String(Number.MAX_SAFE_INTEGER)) > 0) return Infinity;
  if (compareKeys("integer", key, String(Number.MIN_SAFE_INTEGER)) < 0) return -Infinity;
  return Number(key);
}

function bigintFilter(slice: Slice, unsigned: boolean): SliceFilter {
  const small = numberFilter(slice);
  return (buffer, at) => {
    const value = safeInteger(buffer, at);
    if (value !== undefined) return small(value);
    const big = unsigned ? buffer.readBigUInt64LE(at) : buffer.readBigInt64LE(at);
    return sliceContains("integer", slice, big.toString());
  };
}
