import { inspect } from "node:util";
import type { z } from "zod";
import type { Problem } from "../errors/error.ts";
import { closest } from "../lib/closest.ts";
import type { ConfigPath } from "./document.ts";
import { configJsonSchema } from "./schema.ts";

/**
 * Turns what the schema found into problems that name the place, what was found, what is accepted and the closest
 * match. Invariant: a value that may be a password is never quoted, whatever is wrong with it.
 */
export interface PlaceFinder {
  placeOf(path: ConfigPath): string;
  placeOfKey(path: ConfigPath, key: string): string;
}

export function schemaProblems(
  issues: readonly z.core.$ZodIssue[],
  data: unknown,
  places: PlaceFinder,
): Problem[] {
  return issues.flatMap((issue) => problemsOf(issue, data, places));
}

function problemsOf(issue: z.core.$ZodIssue, data: unknown, places: PlaceFinder): Problem[] {
  const { path } = issue;
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => unknownKey(path, key, places.placeOfKey(path, key)));
  }
  if (issue.code === "invalid_key") {
    const accepted = issue.issues[0]?.message ?? "another name";
    const where = places.placeOfKey(path.slice(0, -1), String(path.at(-1)));
    return [{ where, found: `the name ${quoted(path.at(-1))}`, accepted }];
  }
  const value = valueAt(data, path);
  const where = places.placeOf(path);
  const accepted = acceptedAt(issue);
  if (value === undefined) return [{ where, found: `${quoted(path.at(-1))} is missing`, accepted }];
  const word =
    typeof value === "string" && issue.code === "invalid_value"
      ? closest(value, texts(issue.values))
      : undefined;
  const found = `${dotted(path)} is ${described(path, value)}`;
  return [{ where, found, accepted, ...(word === undefined ? {} : { closest: word }) }];
}

/** The schema says what it accepts, but for mappings: their keys are said here. */
function acceptedAt(issue: z.core.$ZodIssue): string {
  if (issue.code !== "invalid_type" || issue.expected !== "object") return issue.message;
  const keys = keysAt(issue.path);
  return keys.length === 0 ? "a mapping without keys" : `a mapping with ${keys.join(", ")}`;
}

/** Keys that are documented for later versions: they deserve a better answer than "unknown". */
const comesLater: readonly (readonly [path: RegExp, what: string])[] = [
  [/^shards\.[^.]+\.tls$/, "TLS to the servers"],
  [/^shards\.[^.]+\.passwordCommand$/, "passwordCommand; use passwordFile or ${ENV:NAME}"],
  [
    /^throttle\.(replicas|maxLag|diskFreeMin)$/,
    "throttling by replicas and disks; use maxThreadsRunning, historyList or copy.rate",
  ],
  [/^verify\.repeatAtGate$/, "verification in rounds while waiting"],
  [/^cutover\.window$/, "cutover windows; use mode manual or auto"],
  [/^(notify|serve)$/, "hooks and the status server"],
];

function unknownKey(path: ConfigPath, key: string, where: string): Problem {
  const full = [...path, key].map(String).join(".");
  const later = comesLater.find(([pattern]) => pattern.test(full));
  if (later !== undefined)
    return { where, found: `the key "${key}"`, accepted: `nothing here yet (later: ${later[1]})` };
  const known = keysAt(path);
  const word = closest(key, known);
  const inside = path.length === 0 ? "" : ` in ${dotted(path)}`;
  return {
    where,
    found: `unknown key "${key}"${inside}`,
    accepted: known.length === 0 ? "no keys here" : known.join(", "),
    ...(word === undefined ? {} : { closest: word }),
  };
}

/** The keys that the schema knows at a path, in the order of the documentation. */
function keysAt(path: ConfigPath): string[] {
  let node: Record<string, unknown> = configJsonSchema();
  for (const part of path) {
    const next =
      typeof part === "number"
        ? node["items"]
        : (property(node, String(part)) ?? node["additionalProperties"]);
    if (typeof next !== "object" || next === null) return [];
    node = next as Record<string, unknown>;
  }
  return Object.entries((node["properties"] ?? {}) as Record<string, { not?: unknown }>)
    .filter(([, schema]) => schema.not === undefined)
    .map(([key]) => key);
}

function property(node: Record<string, unknown>, key: string): unknown {
  return ((node["properties"] ?? {}) as Record<string, unknown>)[key];
}

function valueAt(data: unknown, path: ConfigPath): unknown {
  let value = data;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function dotted(path: ConfigPath): string {
  return path.length === 0
    ? "the file"
    : path
        .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
        .join("")
        .replace(/^\./, "");
}

function quoted(part: PropertyKey | undefined): string {
  return typeof part === "number" ? `entry ${part + 1}` : `"${String(part)}"`;
}

/** The value for people, short; hidden where it may be a secret. */
function described(path: ConfigPath, value: unknown): string {
  if (path.some((part) => /passw|secret/i.test(String(part))))
    return typeof value === "string" ? "a literal text (not shown)" : "no text (not shown)";
  if (value === null) return "empty";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return Object.keys(value).length === 0 ? "an empty mapping" : "a mapping";
  // A whole file that is one text may be a password file, given by mistake.
  if (path.length === 0) return "plain text";
  // user:password@host is a habit from connection strings.
  const text =
    typeof value === "string" ? JSON.stringify(value.replace(/:[^@]*@/, ":(not shown)@")) : inspect(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function texts(values: readonly unknown[]): string[] {
  return values.filter((value) => typeof value === "string");
}
