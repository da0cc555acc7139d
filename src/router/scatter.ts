import { quoteIdentifier } from "../engines/mysql/quote.ts";
import { keyLiteral } from "../engines/mysql/slice-sql.ts";
import { ShardliftError } from "../errors/error.ts";
import { keyspaceOf, ownedSlice, type Keyspace, type RoutingMap } from "../model/routing-map.ts";
import type { Slice } from "../model/slice.ts";
import type { Limit } from "./admission.ts";
import { failureOf } from "./failure.ts";
import { type Lane, refuseSessionStatement, type Result, type Row, type Values } from "./lane.ts";
import { awaitTrust, readOn } from "./statement.ts";
import type { Parts } from "./work.ts";

/** Builds the statement for one shard. `owned` gives the predicate "this shard owns the row" and must be used. */
export type ScatterSql = (owned: (table: string, alias?: string) => string) => string;

export interface ScatterResult<R = Row> {
  /** The one map by which all shards were asked. */
  readonly epoch: number;
  /** All rows, shard by shard in the order of the shards' names. */
  readonly rows: readonly R[];
  readonly shards: readonly Result<R>[];
}

/**
 * Asks every shard that owns a part of the keyspace. While a job runs, and until `finish`, moved rows are on two
 * shards; with the owner's slice in each statement, and one map for all of them, each row counts once (facts:
 * pitfalls.md 32, DESIGN section 6).
 */
export async function scatterRead<R = Row>(
  parts: Parts,
  request: { readonly keyspace: string; readonly build: ScatterSql; readonly values: Values },
  limit: Limit,
): Promise<ScatterResult<R>> {
  for (let attempt = 1; ; attempt++) {
    await awaitTrust(parts, limit);
    const { map } = parts.view;
    const statements = statementsFor(map, request.keyspace, request.build);
    const lanes = await parts.pools.take([...statements.keys()], limit);
    try {
      // Taking connections may have lasted; all of them are sent by a map that is known to be new enough now.
      if (parts.view.map.epoch !== map.epoch || !parts.view.isTrusted(parts.clock())) continue;
      const shards = await askAll<R>(lanes, statements, request.values);
      return { epoch: map.epoch, rows: shards.flatMap(({ rows }) => rows), shards };
    } catch (error) {
      if (failureOf(error).kind === "other" || attempt === scatterAttempts) throw error;
    } finally {
      for (const lane of lanes) lane.free();
    }
  }
}

const scatterAttempts = 3;

/** Waits for every shard even when one fails: a lane must not be lent on while its answer is on the way. */
async function askAll<R>(
  lanes: readonly Lane[],
  statements: ReadonlyMap<string, string>,
  values: Values,
): Promise<Result<R>[]> {
  const answers = await Promise.allSettled(
    lanes.map(async (lane) => readOn<R>(lane, statements.get(lane.shard) ?? "", values)),
  );
  const results: Result<R>[] = [];
  for (const [index, answer] of answers.entries()) {
    if (answer.status === "fulfilled") results.push(answer.value);
    else if (failureOf(answer.reason).kind === "lost") lanes[index]?.spoil();
  }
  const failed = answers.find((answer) => answer.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return results;
}

/** The statement of each shard that owns something. Pure. */
export function statementsFor(map: RoutingMap, name: string, build: ScatterSql): Map<string, string> {
  const keyspace = keyspaceOf(map, name);
  const statements = new Map<string, string>();
  for (const shard of new Set(keyspace.ranges.map((range) => range.shard))) {
    const slice = ownedSlice(keyspace, shard);
    let used = false;
    const sql = build((table, alias) => {
      used = true;
      return ownedPredicate(keyspace, table, slice, alias);
    });
    if (!used) {
      throw new ShardliftError("E_USAGE", "the scatter statement does not use owned(table)", {
        next: "put ${owned('table')} into its WHERE; without it moved rows are counted twice while a job runs",
      });
    }
    refuseSessionStatement(sql);
    statements.set(shard, sql);
  }
  return statements;
}

function ownedPredicate(keyspace: Keyspace, table: string, slice: Slice, alias: string | undefined): string {
  const key = keyspace.tables[table]?.key;
  if (key === undefined) {
    throw new ShardliftError("E_USAGE", `table ${table} is not in the keyspace`, {
      next: `use one of: ${Object.keys(keyspace.tables).join(", ")}`,
    });
  }
  const column = `${quoteIdentifier(alias ?? table)}.${quoteIdentifier(key)}`;
  const literal = (value: string): string => keyLiteral(keyspace.keyType, value);
  const parts = slice.map(({ from, to }) => {
    const ends: string[] = [];
    if (from.at === "KEY") ends.push(`${column} >= ${literal(from.key)}`);
    if (to.at === "KEY") ends.push(`${column} < ${literal(to.key)}`);
    return ends.length === 0 ? "TRUE" : ends.join(" AND ");
  });
  return `(${parts.map((part) => `(${part})`).join(" OR ")})`;
}
