import { invariant } from "../errors/error.ts";

/**
 * How a shard key is ordered. The router, the plan, the gate and the copy must agree on it, so only types with one
 * exact order are allowed; collated strings and floats are refused at preflight (facts/hard-cases, K18).
 * - `integer`: canonical decimal text, any size;
 * - `decimal`: plain decimal text (`-1.50`), compared by value;
 * - `binary`: bytes as lower-case hex (`0x00ff`), compared bytewise;
 * - `temporal`: ISO-like server text (`2024-05-01 10:00:00.000000`), compared as text.
 */
export type KeyType = "integer" | "decimal" | "binary" | "temporal";

/** A shard-key value in canonical text of its KeyType. */
export type KeyValue = string;

/** An end of an interval; MIN and MAX stand outside the value space. */
export type Bound =
  | { readonly at: "MIN" }
  | { readonly at: "MAX" }
  | { readonly at: "KEY"; readonly key: KeyValue };

export const MIN: Bound = { at: "MIN" };
export const MAX: Bound = { at: "MAX" };
export function boundAt(key: KeyValue): Bound {
  return { at: "KEY", key };
}

/** Orders two key values. Returns <0, 0 or >0. */
export function compareKeys(type: KeyType, a: KeyValue, b: KeyValue): number {
  switch (type) {
    case "integer":
      return compareIntegers(a, b);
    case "decimal":
      return compareDecimals(a, b);
    case "binary":
    case "temporal":
      return a < b ? -1 : a > b ? 1 : 0;
  }
}

export function compareBounds(type: KeyType, a: Bound, b: Bound): number {
  if (a.at === "KEY" && b.at === "KEY") return compareKeys(type, a.key, b.key);
  const rank = (x: Bound): number => (x.at === "MIN" ? -1 : x.at === "MAX" ? 1 : 0);
  return rank(a) - rank(b);
}

function compareIntegers(a: string, b: string): number {
  const x = BigInt(a);
  const y = BigInt(b);
  return x < y ? -1 : x > y ? 1 : 0;
}

function compareDecimals(a: string, b: string): number {
  const scale = Math.max(fraction(a).length, fraction(b).length);
  return compareIntegers(scaled(a, scale), scaled(b, scale));
}

function fraction(text: string): string {
  const dot = text.indexOf(".");
  return dot < 0 ? "" : text.slice(dot + 1);
}

function scaled(text: string, scale: number): string {
  const digits = text.replace(".", "") + "0".repeat(scale - fraction(text).length);
  return digits.startsWith("+") ? digits.slice(1) : digits;
}

const patterns: Record<KeyType, RegExp> = {
  integer: /^-?(0|[1-9]\d*)$/,
  decimal: /^-?\d+(\.\d+)?$/,
  binary: /^0x([0-9a-f]{2})*$/,
  temporal: /^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2}(\.\d{1,6})?)?$/,
};

/** Whether the text is canonical for the type; everything that enters a map goes through this. */
export function isKeyValue(type: KeyType, text: string): boolean {
  return patterns[type].test(text) && text !== "-0";
}

/** Brings an application's value (number, bigint, string, Buffer) into canonical text. Throws on anything inexact. */
export function keyValueOf(type: KeyType, value: unknown): KeyValue {
  if (value instanceof Uint8Array) {
    invariant(type === "binary", `bytes given for a shard key of type ${type}`);
    return `0x${Buffer.from(value).toString("hex")}`;
  }
  if (typeof value === "number") {
    invariant(
      Number.isSafeInteger(value),
      `the number ${value} is not an exact shard key; give a bigint or a string`,
    );
  }
  const text = typeof value === "bigint" || typeof value === "number" ? value.toString() : value;
  invariant(
    typeof text === "string" && isKeyValue(type, text),
    `not a shard key of type ${type}: ${String(value)}`,
  );
  return text;
}
