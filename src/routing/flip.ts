import { randomUUID } from "node:crypto";
import { claimKey, currentMapKey, mapKey } from "../control/keys.ts";
import { canonicalJson, encodeJson } from "../control/json.ts";
import { hasStamp, settle } from "../control/settle.ts";
import type { ControlStore } from "../control/store.ts";
import type { Claim } from "../engines/engine.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { encodeMapVersion } from "./map-codec.ts";
import { differenceOf, rebase, type OwnerChange } from "./map-difference.ts";
import { readCurrentMap, readMapVersion, type CurrentMap } from "./map-store.ts";

export interface FlipRequest {
  /** The job, and the token that must still be the newest one. */
  readonly claim: Claim;
  /** The epoch that `next` was planned from. */
  readonly expectEpoch: number;
  /** The map after the flip, as planned: epoch `expectEpoch` + 1. */
  readonly next: RoutingMap;
  readonly deadlineMs: number;
}

export type FlipOutcome =
  | { readonly kind: "flipped"; readonly epoch: number }
  /** It did not happen and can not happen any more. */
  | { readonly kind: "not-flipped"; readonly cause: ShardliftError }
  /** Take a new token first, then read the map; never reopen a gate while the swap could still land (pitfalls 18). */
  | { readonly kind: "unknown"; readonly cause: ShardliftError };

/**
 * The compare-and-swap of the routing map (DESIGN section 4, step 6). Guards: the pointer at the revision that was read
 * (the epoch), the new epoch's key absent, and the claim at the job's token. Exactly one epoch on.
 *
 * Rebase (pitfalls 25): when another job has moved other slices since the plan was made, this job's change is made in
 * the map of today; when it has moved the same ones, the plan is stale.
 */
export async function flipMap(store: ControlStore, request: FlipRequest): Promise<FlipOutcome> {
  const end = performance.now() + request.deadlineMs;
  const { claim, expectEpoch, next } = request;
  invariant(next.epoch === expectEpoch + 1, `a flip from epoch ${expectEpoch} to ${next.epoch}`);
  try {
    if (claim.storeId !== store.storeId) throw tokenLost(claim);
    const planned = await readMapVersion(store, expectEpoch);
    if (planned === undefined)
      throw new ShardliftError("E_STALE_PLAN", `the control store has no map of epoch ${expectEpoch}`);
    const changes = differenceOf(planned.map, next);
    invariant(changes.length > 0, "a flip that changes no owner");
    for (;;) {
      const outcome = await tryFlip(store, request, { planned: planned.map, changes, end });
      if (outcome !== "overtaken") return outcome;
    }
  } catch (cause) {
    // Whatever throws here was thrown before the swap was sent, or after it had surely lost.
    if (cause instanceof ShardliftError && cause.code !== "E_BUG") return { kind: "not-flipped", cause };
    throw cause;
  }
}

interface Planned {
  readonly planned: RoutingMap;
  readonly changes: readonly OwnerChange[];
  readonly end: number;
}

async function tryFlip(
  store: ControlStore,
  request: FlipRequest,
  plan: Planned,
): Promise<FlipOutcome | "overtaken"> {
  const { claim } = request;
  if (performance.now() >= plan.end)
    throw new ShardliftError("E_TIMEOUT", "the flip's deadline has passed", { retryable: true });
  const holder = await store.get(claimKey(claim.job));
  if (holder?.rev !== claim.token) throw tokenLost(claim);
  const current = await readCurrentMap(store);
  invariant(current !== undefined, "a flip without a current map");
  const done = await alreadyFlipped(store, request, current);
  if (done !== undefined) return { kind: "flipped", epoch: done };
  const rebased = rebase(current.map, plan.planned, plan.changes);
  if ("conflict" in rebased) throw new ShardliftError("E_STALE_PLAN", rebased.conflict);
  return swap(store, request, { current, next: rebased.map, end: plan.end });
}

async function swap(
  store: ControlStore,
  { claim, expectEpoch }: FlipRequest,
  { current, next, end }: { readonly current: CurrentMap; readonly next: RoutingMap; readonly end: number },
): Promise<FlipOutcome | "overtaken"> {
  const stamp = randomUUID();
  const flip = { job: claim.job, token: claim.token, planEpoch: expectEpoch };
  const settled = await settle(
    store,
    {
      guards: [
        { key: claimKey(claim.job), rev: claim.token },
        { key: currentMapKey, rev: current.rev },
        { key: mapKey(next.epoch), rev: 0 },
      ],
      ops: [
        {
          put: mapKey(next.epoch),
          value: encodeMapVersion({ map: next, flip, at: new Date().toISOString(), stamp }),
        },
        { put: currentMapKey, value: encodeJson({ epoch: next.epoch, stamp }) },
      ],
      // Not the pointer: a later flip overwrites it, and the stamp of this one would be gone.
      witness: mapKey(next.epoch),
      isMine: hasStamp(stamp),
    },
    Math.max(1, end - performance.now()),
  );
  switch (settled.kind) {
    case "applied":
      return { kind: "flipped", epoch: next.epoch };
    case "unknown":
      return {
        kind: "unknown",
        cause: new ShardliftError(
          "E_OWNERSHIP_UNKNOWN",
          `the flip to epoch ${next.epoch} was sent but not answered`,
          {
            cause: settled.cause,
          },
        ),
      };
    case "lost":
      return "overtaken";
  }
}

/** A runner that took over may ask again for what the one before it has done. */
async function alreadyFlipped(
  store: ControlStore,
  { claim, expectEpoch, next }: FlipRequest,
  current: CurrentMap,
): Promise<number | undefined> {
  for (let epoch = expectEpoch + 1; epoch <= current.map.epoch; epoch++) {
    const flip = (await readMapVersion(store, epoch))?.flip;
    if (flip?.job !== claim.job || flip.planEpoch !== expectEpoch) continue;
    invariant(
      epoch > next.epoch || sameOwners((await readMapVersion(store, epoch))?.map, next),
      "a job flipped to another map",
    );
    return epoch;
  }
  return undefined;
}

function sameOwners(a: RoutingMap | undefined, b: RoutingMap): boolean {
  return a !== undefined && canonicalJson(differenceOf(a, b)) === "[]";
}

function tokenLost({ job, token }: Claim): ShardliftError {
  return new ShardliftError("E_JOB_HELD", `job ${job}: token ${token} is no longer the newest one`);
}
