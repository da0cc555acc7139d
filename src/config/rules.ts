import type { z } from "zod";
import type { Problem } from "../errors/error.ts";
import { closest } from "../lib/closest.ts";
import { serverKey } from "../lib/host-port.ts";
import type { KeyType } from "../model/key.ts";
import { rangeProblems, type Range } from "../model/routing-map.ts";
import { boundOf } from "./config.ts";
import type { ConfigPath } from "./document.ts";
import type { PlaceFinder } from "./problems.ts";
import { keyspaceSchema, shardSchema } from "./schema.ts";

/**
 * What must hold between places of the file. Pure. Works on those parts that are right by themselves, so that a
 * mistake in one shard does not hide a gap in a map: all problems are told at once.
 */
export interface SoundParts {
  readonly shards: Readonly<Record<string, z.output<typeof shardSchema>>>;
  readonly keyspaces: Readonly<Record<string, z.output<typeof keyspaceSchema>>>;
  /** Names of all shards, the wrong ones included: a map may name them. */
  readonly shardNames: readonly string[];
}

export function soundParts(data: unknown): SoundParts {
  const { shards = {}, keyspaces = {} } = (data ?? {}) as { shards?: unknown; keyspaces?: unknown };
  return {
    shards: sound(shards, shardSchema),
    keyspaces: sound(keyspaces, keyspaceSchema),
    shardNames: Object.keys(typeof shards === "object" && shards !== null ? shards : {}),
  };
}

function sound<S extends z.ZodType>(data: unknown, schema: S): Record<string, z.output<S>> {
  if (typeof data !== "object" || data === null) return {};
  const parsed = Object.entries(data).map(([name, value]) => [name, schema.safeParse(value)] as const);
  return Object.fromEntries(parsed.flatMap(([name, result]) => (result.success ? [[name, result.data]] : [])));
}

export function ruleProblems(parts: SoundParts, places: PlaceFinder): Problem[] {
  return [
    ...sharedServers(parts, places),
    ...sharedTables(parts, places),
    ...Object.entries(parts.keyspaces).flatMap(([name, keyspace]) => [
      ...wrongShards(parts, name, keyspace, places),
      ...wrongRanges(name, keyspace, places),
    ]),
  ];
}

/** Two shards in one database would be each other's source and target: a move would delete what it has copied. */
function sharedServers({ shards }: SoundParts, places: PlaceFinder): Problem[] {
  const owners = new Map<string, string>();
  const problems: Problem[] = [];
  for (const [name, { hosts, database }] of Object.entries(shards)) {
    for (const [index, host] of hosts.entries()) {
      const server = `${serverKey(host)} ${database}`;
      const owner = owners.get(server);
      if (owner === undefined) owners.set(server, name);
      else {
        problems.push({
          where: places.placeOf(["shards", name, "hosts", index]),
          found: `${host.host}:${host.port} with database "${database}" in shard "${name}" and also in shard "${owner}"`,
          accepted: "each server and database in one shard only",
        });
      }
    }
  }
  return problems;
}

function sharedTables({ keyspaces }: SoundParts, places: PlaceFinder): Problem[] {
  const owners = new Map<string, string>();
  const problems: Problem[] = [];
  for (const [name, { tables }] of Object.entries(keyspaces)) {
    for (const table of Object.keys(tables)) {
      const owner = owners.get(table);
      if (owner === undefined) owners.set(table, name);
      else {
        problems.push({
          where: places.placeOfKey(["keyspaces", name, "tables"], table),
          found: `the table "${table}" in keyspace "${name}" and also in keyspace "${owner}"`,
          accepted: "each table in one keyspace only",
        });
      }
    }
  }
  return problems;
}

type KeyspaceFile = z.output<typeof keyspaceSchema>;

function wrongShards(parts: SoundParts, name: string, keyspace: KeyspaceFile, places: PlaceFinder): Problem[] {
  return keyspace.map.flatMap(({ shard }, index) => {
    if (parts.shardNames.includes(shard)) return [];
    const word = closest(shard, parts.shardNames);
    return [
      {
        where: places.placeOf(["keyspaces", name, "map", index, "shard"]),
        found: `no shard is called "${shard}"`,
        accepted: parts.shardNames.length === 0 ? "a name from shards" : parts.shardNames.join(", "),
        ...(word === undefined ? {} : { closest: word }),
      },
    ];
  });
}

const keyExamples: Readonly<Record<KeyType, string>> = {
  integer: "a whole number, such as 5000",
  decimal: 'a decimal number, such as "12.50"',
  binary: "lower-case hex, such as 0x00ff",
  temporal: '"2024-05-01" or "2024-05-01 10:00:00"',
};

function wrongRanges(name: string, { keyType, map }: KeyspaceFile, places: PlaceFinder): Problem[] {
  const problems: Problem[] = [];
  const ranges: Range[] = [];
  const path: ConfigPath = ["keyspaces", name, "map"];
  for (const [index, { from, to, shard }] of map.entries()) {
    const [low, high] = [boundOf(keyType, from), boundOf(keyType, to)];
    for (const [end, value, parsed] of [["from", from, low], ["to", to, high]] as const) {
      if (parsed !== undefined) continue;
      problems.push({
        where: places.placeOf([...path, index, end]),
        found: `"${value}" is no key value of type ${keyType}`,
        accepted: `MIN, MAX, or ${keyExamples[keyType]}`,
      });
    }
    if (low !== undefined && high !== undefined) ranges.push({ from: low, to: high, shard });
  }
  if (problems.length > 0) return problems;
  return rangeProblems(keyType, ranges).map((found) => {
    // The text names ranges by their number; the last one named is where one has to look.
    const number = found.match(/\d+/g)?.at(-1) ?? (found.includes("last") ? ranges.length : 1);
    return {
      where: places.placeOf([...path, Number(number) - 1]),
      found,
      accepted: "ranges from MIN to MAX in ascending order, each starting where the one before it ends",
    };
  });
}
