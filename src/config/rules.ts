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
 * What must hold between places of the file. Pure. Works on those fields that are right by themselves, so that one
 * mistake in a keyspace does not hide a gap in its map: all problems are told at once.
 */
export interface SoundParts {
  readonly shards: Readonly<Record<string, Partial<z.output<typeof shardSchema>>>>;
  readonly keyspaces: Readonly<Record<string, Partial<z.output<typeof keyspaceSchema>>>>;
}

export function soundParts(data: unknown): SoundParts {
  const { shards, keyspaces } = entriesOf(data);
  const each = <S extends Readonly<Record<string, z.ZodType>>>(schema: z.ZodObject<S>, records: unknown) =>
    Object.fromEntries(
      Object.entries(entriesOf(records)).map(([name, value]) => [name, soundFields(schema, value)]),
    );
  return { shards: each(shardSchema, shards), keyspaces: each(keyspaceSchema, keyspaces) };
}

function soundFields<S extends Readonly<Record<string, z.ZodType>>>(
  schema: z.ZodObject<S>,
  value: unknown,
): Partial<z.output<z.ZodObject<S>>> {
  const given = entriesOf(value);
  const fields = Object.entries<z.ZodType>(schema.shape).flatMap(([key, field]) => {
    const parsed = field.safeParse(given[key]);
    return parsed.success && parsed.data !== undefined ? [[key, parsed.data] as const] : [];
  });
  return Object.fromEntries(fields) as Partial<z.output<z.ZodObject<S>>>;
}

function entriesOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
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
  for (const [name, { hosts = [], database }] of Object.entries(shards)) {
    if (database === undefined) continue;
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
  for (const [name, { tables = {} }] of Object.entries(keyspaces)) {
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

type KeyspaceFile = SoundParts["keyspaces"][string];

function wrongShards(
  parts: SoundParts,
  name: string,
  keyspace: KeyspaceFile,
  places: PlaceFinder,
): Problem[] {
  const names = Object.keys(parts.shards);
  return (keyspace.map ?? []).flatMap(({ shard }, index) => {
    if (names.includes(shard)) return [];
    const word = closest(shard, names);
    return [
      {
        where: places.placeOf(["keyspaces", name, "map", index, "shard"]),
        found: `no shard is called "${shard}"`,
        accepted: names.length === 0 ? "a name from shards" : names.join(", "),
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
  if (keyType === undefined || map === undefined) return [];
  const problems: Problem[] = [];
  const ranges: Range[] = [];
  const path: ConfigPath = ["keyspaces", name, "map"];
  for (const [index, { from, to, shard }] of map.entries()) {
    const [low, high] = [boundOf(keyType, from), boundOf(keyType, to)];
    for (const [end, value, parsed] of [
      ["from", from, low],
      ["to", to, high],
    ] as const) {
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
