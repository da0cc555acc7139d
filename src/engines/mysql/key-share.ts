import type { KeyId } from "../engine.ts";
import { keyColumns, keyKindOf, keyParts } from "./key-codec.ts";
import type { MysqlColumn, MysqlTable } from "./table.ts";

/**
 * How far a key lies between two others, for the progress bar only: a guess that grows with the key where the order
 * is exact, and nearly so for collated strings. Nothing is decided by it.
 */
export interface KeyExtent {
  readonly first: KeyId;
  readonly last: KeyId;
}

/** 0 to 1. */
export function shareOfKeys(table: MysqlTable, { first, last }: KeyExtent, key: KeyId): number {
  const [low, high, at] = [first, last, key].map((id) => keyParts(table, id));
  for (const [index, column] of keyColumns(table).entries()) {
    const [a = "", b = "", c = ""] = [low?.[index], high?.[index], at?.[index]];
    // The first part in which the ends differ says nearly everything.
    if (a !== b) return shareOfParts(column, a, b, c);
  }
  return 1;
}

function shareOfParts(column: MysqlColumn, low: string, high: string, part: string): number {
  const skip = commonPrefix(low, high);
  const [a, b, c] = [low, high, part].map((text) => place(column, text, skip));
  if (a === undefined || b === undefined || c === undefined || b <= a) return part < high ? 0 : 1;
  // Per million, so that keys beyond 2^53 keep their digits until the division is done.
  const share = Number(((c - a) * 1_000_000n) / (b - a)) / 1_000_000;
  return Math.min(1, Math.max(0, share));
}

/** A whole number that grows with the value. */
function place(column: MysqlColumn, text: string, skip: number): bigint | undefined {
  switch (keyKindOf(column)) {
    case "integer":
    case "number":
      return BigInt(text);
    case "decimal":
    case "time":
    case "datetime":
      // All digits of the fraction are always there: `-12.50` is -1250, `2024-05-01` 20240501.
      return BigInt((text.startsWith("-") ? "-" : "") + text.replaceAll(/\D/g, ""));
    case "bytes":
    case "text":
      // Eight bytes behind what both ends have in common.
      return BigInt(
        `0x${text
          .slice(Math.max(2, skip - (skip % 2)))
          .slice(0, 16)
          .padEnd(16, "0")}`,
      );
    case undefined:
      return undefined;
  }
}

function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}
