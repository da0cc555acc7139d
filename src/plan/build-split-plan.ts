import { gatePoints } from "../cutover/gate-points.ts";
import type { Session, TableShape } from "../engines/engine.ts";
import { InputError, ShardliftError } from "../errors/error.ts";
import type { ServerAccess } from "../job/job-context.ts";
import { openSessions } from "../job/sessions.ts";
import { keyspaceOf, ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import type { Slice } from "../model/slice.ts";
import { makePlan, type MoveFacts } from "./make-plan.ts";
import type { Move, Plan } from "./plan.ts";
import { movesBetween, splitMap, splitProblems } from "./split-map.ts";

export interface SplitWish {
  readonly shard: string;
  readonly into: readonly string[];
  /** Split keys, or undefined to choose them by sampling so that the parts are about equal. */
  readonly at: readonly string[] | undefined;
  /** Needed only when there is more than one keyspace on the shard. */
  readonly keyspace: string | undefined;
}

/** Counting stops here: a plan must not become a long query (facts/peers, W3). */
const countLimit = 1_000_000;

/** Reads maps, structures and samples, and makes the plan. Changes nothing anywhere. */
export async function buildSplitPlan(deps: ServerAccess, map: RoutingMap, wish: SplitWish): Promise<Plan> {
  const keyspaceName = chooseKeyspace(map, wish);
  const keyspace = keyspaceOf(map, keyspaceName);
  const shards = Object.keys(deps.config.shards);
  const request = { keyspace: keyspaceName, shard: wish.shard, into: wish.into, at: wish.at ?? [] };
  const problems = splitProblems(map, request, shards).filter(
    // How many keys are needed is decided below when they are sampled.
    ({ where }) => wish.at !== undefined || where !== "--at",
  );
  if (problems.length > 0) throw new InputError("E_USAGE", problems);
  const targets = wish.into.filter((name) => name !== wish.shard);
  await using sessions = await openSessions(
    deps,
    { moves: targets.map((to) => ({ id: to, slice: [], from: wish.shard, to })) },
    undefined,
  );
  const source = sessionOf(sessions.all, wish.shard);
  const specs = Object.entries(keyspace.tables).map(([name, { key }]) => ({ name, shardKey: key }));
  const tables = await source.catalog.describe(specs);
  const at = wish.at ?? (await sampleKeys(source, tables, ownedSlice(keyspace, wish.shard), wish));
  const after = splitMap(map, { ...request, at }, shards);
  const moves = movesBetween(map, after, keyspaceName);
  const points = gatePoints({ keyspace: keyspaceName, moves, tables }, sessions.all, map);
  const facts: MoveFacts[] = [];
  for (const move of moves) facts.push(await factsOf(move, tables, sessions.all, points));
  return makePlan({
    keyspace: keyspaceName,
    createdAt: new Date().toISOString(),
    before: map,
    after,
    tables,
    servers: [...sessions.all.values()].map(({ server }) => server),
    moves: facts,
    deferIndexes: deps.config.copy.deferIndexes,
    maxPauseMs: deps.config.cutover.maxPauseMs,
  });
}

/** The keyspace that the operator named, or the only one that the shard has. */
function chooseKeyspace(map: RoutingMap, wish: SplitWish): string {
  if (wish.keyspace !== undefined) return wish.keyspace;
  const names = Object.keys(map.keyspaces);
  const having = names.filter((name) => ownedSlice(keyspaceOf(map, name), wish.shard).length > 0);
  const candidates = having.length > 0 ? having : names;
  const [only, ...more] = candidates;
  if (only !== undefined && more.length === 0) return only;
  throw new InputError("E_USAGE", [
    {
      where: "--keyspace",
      found: "nothing",
      accepted: `one of ${candidates.join(", ")}, since ${wish.shard} has several`,
    },
  ]);
}

/** Samples the largest table: it decides how even the parts are. */
async function sampleKeys(
  source: Session,
  tables: readonly TableShape[],
  owned: Slice,
  { into, shard }: SplitWish,
): Promise<string[]> {
  const largest = tables.toSorted((a, b) => b.estimatedBytes - a.estimatedBytes)[0];
  const keys = largest === undefined ? [] : await source.catalog.splitPoints(largest, owned, into.length - 1);
  if (keys.length === into.length - 1) return keys;
  throw new ShardliftError(
    "E_USAGE",
    `${shard} holds too few different keys to choose ${into.length - 1} split ${into.length === 2 ? "key" : "keys"}`,
    { next: "give them with --at KEY[,KEY]" },
  );
}

async function factsOf(
  move: Move,
  tables: readonly TableShape[],
  sessions: ReadonlyMap<string, Session>,
  points: ReturnType<typeof gatePoints>,
): Promise<MoveFacts> {
  const source = sessionOf(sessions, move.from);
  const target = sessionOf(sessions, move.to);
  const rows = new Map<string, { count: number; exact: boolean }>();
  for (const table of tables) {
    const count = await source.catalog.countRows(table, move.slice, countLimit);
    const exact = count < countLimit;
    rows.set(table.name, { count: exact ? count : Math.max(countLimit, table.estimatedRows), exact });
  }
  const existing = await target.catalog.existing(tables.map((table) => table.name));
  const gate = points.sources.find((point) => point.shard === move.from);
  const mirror = points.targets.find((point) => point.shard === move.to);
  if (gate === undefined || mirror === undefined)
    throw new ShardliftError("E_BUG", `no gate for move ${move.id}`);
  return {
    move,
    rows,
    missingTables: tables.map((table) => table.name).filter((name) => !existing.has(name)),
    gate: { spec: gate.spec, statements: source.gates.preview(gate.spec) },
    mirror: { spec: mirror.spec, statements: target.gates.preview(mirror.spec) },
  };
}

function sessionOf(sessions: ReadonlyMap<string, Session>, shard: string): Session {
  const session = sessions.get(shard);
  if (session === undefined) throw new ShardliftError("E_BUG", `no session for shard ${shard}`);
  return session;
}
