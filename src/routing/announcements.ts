import { randomUUID } from "node:crypto";
import { claimKey, intentKey, intentPrefix, intentsOfJob } from "../control/keys.ts";
import { encodeJson } from "../control/json.ts";
import { hasStamp, isAbsent, settle, type Settled, type StampedWrite } from "../control/settle.ts";
import type { ControlStore, Guard } from "../control/store.ts";
import type { Claim } from "../engines/engine.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import { keyspaceOf, ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import { slicesOverlap } from "../model/slice.ts";
import { decodeIntent, type Intent, type IntentProposal, type LiveIntent } from "./intent.ts";

export interface Announcement {
  readonly phase: Intent["phase"];
  readonly moves: readonly IntentProposal[];
  /** How long the routers may hold, in ms from now. */
  readonly forMs: number;
}

const writeMs = 2000;

/** Announces all moves of a job in one transaction, instead of what the job had announced before. */
export async function announce(
  store: ControlStore,
  claim: Claim,
  map: RoutingMap,
  { phase, moves, forMs }: Announcement,
): Promise<readonly Intent[]> {
  invariant(moves.length > 0, "an announcement without a move");
  const stamp = randomUUID();
  const deadline = (await store.now()) + forMs;
  const intents = moves.map((move): Intent => ({
    ...move,
    id: randomUUID(),
    job: claim.job,
    phase,
    afterEpoch: map.epoch,
    deadline,
    stamp,
  }));
  const standing = await guardsOf(store, claim.job);
  const guards = new Map(standing.map((guard) => [guard.key, guard]));
  for (const index of intents.keys()) {
    const key = intentKey(claim.job, index);
    guards.set(key, guards.get(key) ?? { key, rev: 0 });
  }
  const keys = intents.map((_, index) => intentKey(claim.job, index));
  await send(store, claim, {
    guards: [tokenGuard(claim), ...guards.values()],
    ops: [
      ...intents.map((intent, index) => ({ put: intentKey(claim.job, index), value: encodeJson(intent) })),
      ...standing.filter(({ key }) => !keys.includes(key)).map(({ key }) => ({ del: key })),
    ],
    witness: intentKey(claim.job, 0),
    isMine: hasStamp(stamp),
  });
  return intents;
}

/** Takes back all that a job has announced; the routers let go. Idempotent. */
export async function withdraw(store: ControlStore, claim: Claim): Promise<void> {
  const standing = await guardsOf(store, claim.job);
  const [first] = standing;
  if (first === undefined) return;
  await send(store, claim, {
    guards: [tokenGuard(claim), ...standing],
    ops: standing.map(({ key }) => ({ del: key })),
    witness: first.key,
    isMine: isAbsent,
  });
}

/**
 * The intents that still mean something: their deadline lies ahead, and the slice is not yet where it is going. The
 * map must have been read after, or together with, nothing older than the intents.
 */
export async function readIntents(store: ControlStore): Promise<readonly LiveIntent[]> {
  // The local clock first: the intent then ends here at its deadline or a little before it, never after.
  const local = performance.now();
  const now = await store.now();
  const { entries } = await store.list(intentPrefix);
  return entries
    .map(decodeIntent)
    .filter((intent) => intent.deadline > now)
    .map((intent) => ({ ...intent, letGoAt: local + (intent.deadline - now) }));
}

/** True once the map has given the slice away from the shard that the intent names. */
export function isOver(intent: Intent, map: RoutingMap): boolean {
  const keyspace = keyspaceOf(map, intent.keyspace);
  return !slicesOverlap(keyspace.keyType, ownedSlice(keyspace, intent.fromShard), intent.slice);
}

async function guardsOf(store: ControlStore, job: string): Promise<Guard[]> {
  const { entries } = await store.list(intentsOfJob(job));
  return entries.map(({ key, rev }) => ({ key, rev }));
}

function tokenGuard({ job, token }: Claim): Guard {
  return { key: claimKey(job), rev: token };
}

async function send(store: ControlStore, claim: Claim, write: StampedWrite): Promise<void> {
  const settled: Settled = await settle(store, write, writeMs);
  if (settled.kind === "unknown") throw settled.cause;
  // Only the holder of the token writes a job's intents, so nothing else can have made the guards fail.
  if (settled.kind === "lost") {
    throw new ShardliftError(
      "E_JOB_HELD",
      `job ${claim.job}: token ${claim.token} is no longer the newest one`,
    );
  }
}
