import type { Session, TableShape } from "../engines/engine.ts";
import { invariant } from "../errors/error.ts";
import { keyspaceOf, ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import { normalizeSlice, type Slice } from "../model/slice.ts";
import type { Plan } from "../plan/plan.ts";
import type { GatePoint } from "./cutover-context.ts";

/**
 * The gates of a plan under the map of today: one at every shard that gives something away, a mirror at every shard that gets something.
 * Sorted by shard name: several gates are always closed in the same order, so two jobs can not wait for each other.
 */
export function gatePoints(
  plan: Pick<Plan, "keyspace" | "moves"> & { readonly tables: readonly TableShape[] },
  sessions: ReadonlyMap<string, Session>,
  map: RoutingMap,
): { readonly sources: readonly GatePoint[]; readonly targets: readonly GatePoint[] } {
  const keyspace = keyspaceOf(map, plan.keyspace);
  const { tables } = plan;
  const point = (shard: string, role: "gate" | "mirror"): GatePoint => {
    const session = sessions.get(shard);
    invariant(session !== undefined, `no session for shard ${shard}`);
    const moves = plan.moves.filter((move) => (role === "gate" ? move.from : move.to) === shard);
    const slice: Slice = normalizeSlice(
      keyspace.keyType,
      moves.flatMap((move) => move.slice),
    );
    return {
      shard,
      session,
      spec: { role, tables, slice, owned: ownedSlice(keyspace, shard), afterEpoch: map.epoch },
    };
  };
  const shards = (side: "from" | "to"): string[] =>
    [...new Set(plan.moves.map((move) => move[side]))].toSorted();
  const both = shards("from").filter((shard) => shards("to").includes(shard));
  invariant(both.length === 0, `${both.join(", ")} both gives and gets in one plan`);
  return {
    sources: shards("from").map((shard) => point(shard, "gate")),
    targets: shards("to").map((shard) => point(shard, "mirror")),
  };
}
