import { errnoOf, isConnectionLost } from "../engines/mysql/errors.ts";
import { parseRefusal, type Refusal } from "../routing/refusal.ts";

/**
 * What a failed statement means for the work that it belongs to. Told apart by number, never by the driver's name.
 *
 * - `refused`: the gate of a job of ours turned the write away; the statement changed nothing. An application's own
 *   SIGNAL 45000 is not ours and stays `other`.
 * - `conflict`: the server chose this transaction to give way; it may be run again from its start.
 * - `lost`: the connection is gone. What was sent last may or may not have been done.
 * - `other`: the application's to judge.
 */
export type Failure =
  | { readonly kind: "refused"; readonly refusal: Refusal }
  | { readonly kind: "conflict" | "lost" | "other" };

export function failureOf(error: unknown): Failure {
  const errno = errnoOf(error) ?? 0;
  if (isConnectionLost(error) || unclear.has(errno)) return { kind: "lost" };
  if (conflicts.has(errno)) return { kind: "conflict" };
  const refusal = errno === signalled && error instanceof Error ? parseRefusal(error.message) : undefined;
  return refusal === undefined ? { kind: "other" } : { kind: "refused", refusal };
}

/**
 * Whether a failed COMMIT leaves it open if the transaction was committed. 1317: KILL met the commit itself; it may
 * have been too late to stop it.
 */
export function isCommitInDoubt(error: unknown): boolean {
  return failureOf(error).kind === "lost" || errnoOf(error) === 1317;
}

/** ER_SIGNAL_EXCEPTION: a trigger's SIGNAL, the gate's or the application's own. */
const signalled = 1644;

/** 1180 "error during commit": the server itself does not say whether the transaction was applied. */
const unclear: ReadonlySet<number> = new Set([1180]);

/**
 * 1205 lock wait timeout, 1213 deadlock, and MariaDB's 1020: with innodb_snapshot_isolation a transaction whose
 * snapshot is older than the gate row's last change gets it instead of the refusal (facts: gate.md 1.3); run again
 * with a new snapshot, it meets the gate as it is now.
 */
const conflicts: ReadonlySet<number> = new Set([1020, 1205, 1213]);
