import type { z } from "zod";
import { invariant, ShardliftError } from "../errors/error.ts";

/**
 * Values of the control store as JSON. Canonical: equal values have equal bytes (keys sorted, no white space), so that
 * contents can be compared and hashed. What is read back is checked, because another version of shardlift, or a hand,
 * may have written it.
 */
export function encodeJson(value: unknown): Uint8Array {
  return Buffer.from(canonicalJson(value));
}

export function canonicalJson(value: unknown): string {
  return JSON.stringify(sorted(value));
}

export function decodeJson<T>(bytes: Uint8Array, schema: z.ZodType<T>, where: string): T {
  const result = schema.safeParse(parse(bytes, where));
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join(".") || "(top)"}: ${issue.message}`);
  throw new ShardliftError(
    "E_CONTROL_STORE",
    `${where} in the control store is not understood: ${problems.join("; ")}`,
    {
      next: "use the version of shardlift that wrote it",
    },
  );
}

function parse(bytes: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch (cause) {
    throw new ShardliftError("E_CONTROL_STORE", `${where} in the control store is not JSON`, { cause });
  }
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value === "number") invariant(Number.isFinite(value), `${value} can not be written as JSON`);
  if (value === null || typeof value !== "object") return value;
  const plain = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(
    // By code unit, the same everywhere. (Keys that look like array indexes come first in every engine.)
    plain.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, sorted(item)]),
  );
}
