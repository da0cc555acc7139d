import { ShardliftError } from "../errors/error.ts";
import type { Refusal } from "../routing/refusal.ts";
import type { Admission, Limit, Permit } from "./admission.ts";
import { failureOf } from "./failure.ts";
import type { Lane } from "./lane.ts";
import type { Pools } from "./pools.ts";
import { type Need, ownersIn, type RouteView } from "./view.ts";

/** What every kind of work stands on; built once by `openRouter`. */
export interface Parts {
  readonly view: RouteView;
  readonly admission: Admission;
  readonly pools: Pools;
  readonly clock: () => number;
  /** Between 0 and 1; makes waits differ, so that statements refused together do not come back together. */
  readonly random: () => number;
}

/** A piece of work that writes. It begins at the owners of its keys, or not at all. */
export interface Work<T> {
  readonly need: Need;
  /**
   * Runs at the owners, one lane per shard in the shards' order. May be run again from its start: when it throws what
   * `failureOf` calls refused, conflict or lost, it has changed nothing anywhere. What is in doubt it throws as
   * E_OUTCOME_UNKNOWN, which is never run again.
   */
  readonly body: (lanes: readonly Lane[], permit: Permit) => Promise<T>;
  /** Refuses owners before anything is sent. */
  readonly check?: (owners: readonly string[]) => void;
  /** Shards to which it needs a lane although none of its keys is written there. */
  readonly also?: readonly string[];
}

/** Deadlocks and the like are followed at once by another try; beyond this many something else is wrong. */
const maxConflicts = 10;
const firstWaitMs = 4;
const longestWaitMs = 50;
/** Two confirmations of the map: by then the view has seen every flip that the gate had seen. */
const staleMs = 1000;

/**
 * Runs a piece of work at the owners of its keys and runs it again, from its start, when a gate refuses it or the
 * server makes it give way. Bounded by the limit, and by a number of conflicts.
 */
export async function runWork<T>(parts: Parts, work: Work<T>, bound: Limit): Promise<T> {
  let limit = bound;
  let conflicts = 0;
  for (let round = 0; ; round++) {
    const entered = await enter(parts, work, limit);
    const startedAt = parts.clock();
    let refusal: Refusal | undefined;
    try {
      return await work.body(entered.lanes, entered.permit);
    } catch (error) {
      const failure = failureOf(error);
      if (failure.kind === "other") throw error;
      if (failure.kind === "refused") refusal = failure.refusal;
      else conflicts += 1;
      // The limit is for waiting: a long transaction that is refused late has not used it up.
      limit = { ...limit, until: limit.until + (parts.clock() - startedAt) };
      if (conflicts > maxConflicts || parts.clock() >= limit.until) throw giveUp(error, refusal);
    } finally {
      leave(entered);
    }
    if (refusal?.kind === "not-owned")
      await awaitOtherOwner(parts, work.need, entered.owners, refusal, limit);
    else await awaitChance(parts, work.need, entered.owners, round, limit);
  }
}

interface Entered {
  readonly owners: readonly string[];
  readonly lanes: readonly Lane[];
  readonly permit: Permit;
}

/**
 * First the wait, then the connections, then a second look. Waiting with connections in hand would let a held slice
 * starve the others; work that has no connection yet has not begun, so the drain need not wait for it.
 */
async function enter(
  parts: Parts,
  work: Pick<Work<unknown>, "also" | "check" | "need">,
  limit: Limit,
): Promise<Entered> {
  for (;;) {
    await parts.admission.wait(work.need, limit);
    const owners = parts.view.owners(work.need);
    work.check?.(owners);
    const lanes = await parts.pools.take([...new Set([...owners, ...(work.also ?? [])])], limit);
    const permit = parts.admission.begin(work.need, owners);
    if (permit !== undefined) return { owners, lanes, permit };
    for (const lane of lanes) lane.free();
  }
}

function leave({ lanes, permit }: Pick<Entered, "lanes" | "permit">): void {
  for (const lane of lanes) lane.free();
  permit[Symbol.dispose]();
}

/**
 * Until the map names other owners, or a little later: the gate may also have been opened again without a new epoch,
 * and the new owner's mirror opens after the flip (facts: pitfalls.md 25). Compared with the owners that the work was
 * sent to, not with those at the time of the refusal: the map may have arrived first (own-proxy.md, trap 1).
 */
async function awaitChance(
  { view, clock, random }: Parts,
  need: Need,
  tried: readonly string[],
  round: number,
  limit: Limit,
): Promise<void> {
  const ms = Math.min(longestWaitMs, firstWaitMs * 2 ** round) * (0.5 + random());
  const until = Math.min(limit.until, clock() + ms);
  while (sameOwners(view, need, tried) && clock() < until)
    await view.changed.wait(limit.signal, until - clock() + 1);
}

/**
 * The shard does not own the row. Either the map here is too old, which the next confirmations show, or the statement
 * writes a row whose key was not declared, and then no other try will help.
 */
async function awaitOtherOwner(
  { view, clock }: Parts,
  need: Need,
  tried: readonly string[],
  refusal: Refusal,
  limit: Limit,
): Promise<void> {
  const until = Math.min(limit.until, clock() + staleMs);
  while (sameOwners(view, need, tried) && clock() < until)
    await view.changed.wait(limit.signal, until - clock() + 1);
  if (!sameOwners(view, need, tried)) return;
  throw new ShardliftError(
    "E_USAGE",
    `shard ${tried.join(", ")} refused a row that it does not own (job ${refusal.job}); the declared keys are ${need.keys.join(", ")}`,
    { next: "declare the key of every row that is written; use moveRow to change a row's shard key" },
  );
}

function sameOwners(view: RouteView, need: Need, owners: readonly string[]): boolean {
  const now = ownersIn(view.map, need);
  return now.length === owners.length && now.every((owner, index) => owner === owners[index]);
}

/** The last failure in words of the router; a conflict is the application's own and comes through as it is. */
function giveUp(cause: unknown, refusal: Refusal | undefined): unknown {
  if (refusal !== undefined) {
    const message = `job ${refusal.job} refused the write until the time limit`;
    return new ShardliftError("E_HOLD_TIMEOUT", message, { cause, retryable: true });
  }
  if (failureOf(cause).kind !== "lost") return cause;
  const message = "connections were lost again and again; nothing of the work was kept";
  return new ShardliftError("E_CONNECT", message, { cause, retryable: true });
}
