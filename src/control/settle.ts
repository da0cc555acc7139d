import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { ShardliftError } from "../errors/error.ts";
import {
  OutcomeUnknown,
  StoreWentBack,
  type ControlStore,
  type Entry,
  type Guard,
  type Op,
  type Rev,
} from "./store.ts";

/**
 * A guarded write whose value carries a stamp of its own. The stamp is what tells "my lost write was applied" from
 * "somebody else's was": a blind repetition reports a false conflict (facts: control.md 2, 3 of 3).
 */
export interface StampedWrite {
  readonly guards: readonly Guard[];
  readonly ops: readonly Op[];
  /** A key that the write guards and writes; its entry shows whose write came first. */
  readonly witness: string;
  /** Whether the witness was written by this very write. For a deletion: absent. */
  readonly isMine: (entry: Entry | undefined) => boolean;
}

export type Settled =
  | { readonly kind: "applied"; readonly rev: Rev }
  /** Never applied, and it can not be any more. `current` holds the entries of the write's guards, in their order. */
  | { readonly kind: "lost"; readonly current: readonly (Entry | undefined)[] }
  /** Still without an answer at the deadline: it may be applied, now or later. */
  | { readonly kind: "unknown"; readonly cause: ShardliftError };

const longestPauseMs = 250;

/**
 * Sends a write until its outcome is known: the *same* guards and the same stamped value every time. A mere read that
 * says "not there" is not final, because the first request may still be travelling; the guarded write is, because its
 * guards make the two copies exclusive (facts: control.md 1.2). Throws when the first copy was
 * surely not applied.
 */
export async function settle(store: ControlStore, write: StampedWrite, deadlineMs: number): Promise<Settled> {
  const end = performance.now() + deadlineMs;
  let unknown: ShardliftError | undefined;
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      const result = await store.txn(write.guards, write.ops, {
        deadlineMs: Math.max(1, end - performance.now()),
      });
      if (result.ok) return { kind: "applied", rev: result.rev };
      const witness = result.current[write.guards.findIndex((guard) => guard.key === write.witness)];
      // Only a write without an answer can have been applied before; else a stamp can not be there yet.
      if (unknown !== undefined && write.isMine(witness))
        return { kind: "applied", rev: witness?.rev ?? result.rev };
      return { kind: "lost", current: result.current };
    } catch (error) {
      if (error instanceof OutcomeUnknown) unknown ??= error;
      if (unknown === undefined || !(error instanceof ShardliftError)) throw error;
      // This copy was surely not applied, but the first one may have been: go on, unless the store is not the same.
      if (error instanceof StoreWentBack) return { kind: "unknown", cause: error };
    }
    const leftMs = end - performance.now();
    if (leftMs <= 0) return { kind: "unknown", cause: unknown };
    await delay(Math.min(pauseMs, leftMs));
  }
}

const stamped = z.looseObject({ stamp: z.string() });

/** For values that carry one stamp at their top: whether it is this one. */
export function hasStamp(stamp: string): (entry: Entry | undefined) => boolean {
  return (entry) => {
    if (entry === undefined) return false;
    const value: unknown = JSON.parse(Buffer.from(entry.value).toString());
    return stamped.safeParse(value).data?.stamp === stamp;
  };
}

/** For a write that deletes its witness: gone is gone, whoever did it. */
export function isAbsent(entry: Entry | undefined): boolean {
  return entry === undefined;
}
