import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Claim } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import type { KeyType } from "../model/key.ts";
import { formatSlice, slicesOverlap, type Slice } from "../model/slice.ts";
import { decodeJson, encodeJson } from "./json.ts";
import { claimKey, sliceLockKey } from "./keys.ts";
import { settle } from "./settle.ts";
import { sliceSchema } from "./slice-schema.ts";
import type { ControlStore, Entry } from "./store.ts";

/**
 * Which job moves which keys. One key for each keyspace, so that "overlaps none" and "is now mine" are one guarded
 * write: two jobs never hold the same part of a keyspace. A lock is not bound to a lease: a crashed job still owns its
 * half-made copy until it is resumed or aborted.
 */
const locksSchema = z.strictObject({
  locks: z.array(
    z.strictObject({
      job: z.string().min(1),
      slice: sliceSchema,
      /** Shards that the job moves the slice from and to. */
      from: z.array(z.string().min(1)),
      to: z.array(z.string().min(1)),
      stamp: z.string().min(1),
    }),
  ),
});

export interface SliceLock {
  readonly job: string;
  readonly slice: Slice;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly stamp: string;
}

const writeMs = 5000;

/** Takes the slice for the claim's job, instead of what it held of this keyspace before. Throws E_SLICE_HELD. */
export async function lockSlice(
  store: ControlStore,
  claim: Claim,
  keyspace: string,
  { keyType, ...wanted }: { readonly keyType: KeyType } & Pick<SliceLock, "slice" | "from" | "to">,
): Promise<void> {
  const stamp = randomUUID();
  await change(store, claim, keyspace, stamp, (locks) => {
    const others = locks.filter((lock) => lock.job !== claim.job);
    for (const other of others) {
      const why = whyApart(keyType, other, wanted);
      if (why === undefined) continue;
      throw new ShardliftError("E_SLICE_HELD", `job ${other.job} ${why} in ${keyspace}`, {
        next: `finish or abort job ${other.job} first: \`shardlift status ${other.job}\``,
      });
    }
    return [...others, { job: claim.job, stamp, ...wanted }];
  });
}

/**
 * Why two jobs can not be at work together. Not only for the same keys: a mirror gate refuses all that its shard does
 * not own, as its job knows it, so a shard that one job moves to must not be moved to, or from, by another one.
 */
function whyApart(
  keyType: KeyType,
  other: SliceLock,
  wanted: Pick<SliceLock, "slice" | "from" | "to">,
): string | undefined {
  if (slicesOverlap(keyType, other.slice, wanted.slice)) return `moves ${formatSlice(other.slice)}`;
  const shared = [...wanted.from, ...wanted.to].find((shard) => other.to.includes(shard));
  if (shared !== undefined) return `moves a slice to ${shared}`;
  const given = wanted.to.find((shard) => other.from.includes(shard));
  return given === undefined ? undefined : `moves a slice from ${given}`;
}

/** Idempotent. */
export async function unlockSlices(store: ControlStore, claim: Claim, keyspace: string): Promise<void> {
  await change(store, claim, keyspace, randomUUID(), (locks) =>
    locks.filter((lock) => lock.job !== claim.job),
  );
}

export async function readSliceLocks(store: ControlStore, keyspace: string): Promise<readonly SliceLock[]> {
  return locksIn(await store.get(sliceLockKey(keyspace)));
}

async function change(
  store: ControlStore,
  claim: Claim,
  keyspace: string,
  stamp: string,
  next: (locks: readonly SliceLock[]) => readonly SliceLock[],
): Promise<void> {
  const key = sliceLockKey(keyspace);
  const end = performance.now() + writeMs;
  while (performance.now() < end) {
    const entry = await store.get(key);
    const before = locksIn(entry);
    const after = next(before);
    if (after.length === before.length && after.every((lock) => before.includes(lock))) return;
    const settled = await settle(
      store,
      {
        guards: [
          { key: claimKey(claim.job), rev: claim.token },
          { key, rev: entry?.rev ?? 0 },
        ],
        ops: [{ put: key, value: encodeJson({ locks: after }) }],
        witness: key,
        // Another job may have written the key since; this job's part of it is what counts.
        isMine: (now) => isDone(locksIn(now), claim.job, stamp, after),
      },
      Math.max(1, end - performance.now()),
    );
    if (settled.kind === "applied") return;
    if (settled.kind === "unknown") throw settled.cause;
    if (settled.current[0]?.rev !== claim.token) {
      throw new ShardliftError(
        "E_JOB_HELD",
        `job ${claim.job}: token ${claim.token} is no longer the newest one`,
      );
    }
  }
  throw new ShardliftError(
    "E_TIMEOUT",
    `the slice locks of ${keyspace} were changed by others all the time`,
    { retryable: true },
  );
}

function isDone(now: readonly SliceLock[], job: string, stamp: string, after: readonly SliceLock[]): boolean {
  const mine = now.filter((lock) => lock.job === job);
  return after.some((lock) => lock.stamp === stamp)
    ? mine.some((lock) => lock.stamp === stamp)
    : mine.length === 0;
}

function locksIn(entry: Entry | undefined): readonly SliceLock[] {
  return entry === undefined ? [] : decodeJson(entry.value, locksSchema, entry.key).locks;
}
