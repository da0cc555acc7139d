import { ShardliftError } from "../errors/error.ts";

/** What the counter of a generated key can still give out. */
export interface Counter {
  /** The next value that the server would hand out. */
  readonly next: bigint;
  /** The greatest value of the column's type. */
  readonly max: bigint;
}

const wantedGap = 2n ** 32n;
/** A smaller reserve could run out while a rollback is still possible. */
const smallestGap = 1_000n;

/**
 * Where the new shard's counter starts. Both shards go on inserting into the same table after a split, so the old one
 * keeps a reserve below the new one's start; without it the first inserts at both would collide in the reverse
 * stream (facts/pitfalls, 20): 2^32, or a tenth of what is left (shared by the
 * targets) where the type is smaller.
 */
export function reservedStart(
  table: string,
  counter: Counter,
  /** Which of the job's targets: each gets a part of its own, since they insert side by side too. */
  place: { readonly index: number; readonly targets: number } = { index: 0, targets: 1 },
): bigint {
  const left = counter.max - counter.next;
  const part = left / (10n * BigInt(place.targets));
  const gap = part < wantedGap ? part : wantedGap;
  if (gap < smallestGap) {
    throw new ShardliftError(
      "E_COUNTER_FULL",
      `the AUTO_INCREMENT counter of ${table} stands at ${counter.next} of ${counter.max}: too little is left to reserve for both shards`,
    );
  }
  return counter.next + gap * BigInt(place.index + 1);
}
