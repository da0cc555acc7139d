import type { Session } from "../engines/engine.ts";
import type { GatePoint } from "../cutover/cutover-context.ts";
import { ShardliftError } from "../errors/error.ts";
import { keyspaceOf, ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import { intersectSlices, type Slice } from "../model/slice.ts";
import type { Plan } from "../plan/plan.ts";
import type { JobDeps } from "./job-context.ts";

/** Who owns the slices of a plan now, as the map says. */
export type Ownership = "source" | "target";

/** The map of now. Throws E_OWNERSHIP_UNKNOWN when it can not be read. */
export async function currentMapOf(deps: JobDeps): Promise<RoutingMap> {
  let map: RoutingMap | undefined;
  try {
    map = await deps.routing.currentMap();
  } catch (cause) {
    throw new ShardliftError("E_OWNERSHIP_UNKNOWN", "the routing map can not be read", { cause });
  }
  if (map === undefined)
    throw new ShardliftError("E_OWNERSHIP_UNKNOWN", "the control store has no routing map");
  return map;
}

/** Who owns the moved slices. Throws E_STALE_PLAN when another job has given them to a third shard. */
export function ownershipIn(map: RoutingMap, plan: Plan): Ownership {
  const keyspace = keyspaceOf(map, plan.keyspace);
  const owns = (shard: string, slice: Slice): boolean =>
    JSON.stringify(intersectSlices(keyspace.keyType, ownedSlice(keyspace, shard), slice)) ===
    JSON.stringify(slice);
  if (plan.moves.every((move) => owns(move.to, move.slice))) return "target";
  if (plan.moves.every((move) => owns(move.from, move.slice))) return "source";
  throw new ShardliftError(
    "E_STALE_PLAN",
    `the slices of this plan belong to other shards in epoch ${map.epoch}`,
  );
}

/**
 * Brings the servers in line with the map after a cutover that did not end in good order. The caller has taken a new
 * token, in the control store first and then at every server, so no earlier swap can land and no earlier runner can
 * change a gate any more (facts/pitfalls, 18).
 *
 * - The slice has moved: only forward; the target is opened, the gate stays closed.
 * - It has not: a gate that was committed closed is opened again, and the old shard serves.
 */
export async function settleGates(
  job: string,
  ownership: Ownership,
  gates: { readonly sources: readonly GatePoint[]; readonly targets: readonly GatePoint[] },
): Promise<string[]> {
  const done: string[] = [];
  const openIfClosed = async (shard: string, session: Session): Promise<void> => {
    const state = await session.gates.state(job);
    if (state?.state !== "closed") return;
    await session.gates.open(job);
    done.push(shard);
  };
  for (const { shard, session } of ownership === "target" ? gates.targets : gates.sources) {
    await openIfClosed(shard, session);
  }
  return done;
}
