import type { RoutingMap } from "../model/routing-map.ts";

/**
 * Brings one reader of the routing map (a file, a proxy) to an epoch and reads back that it is there. Correctness never
 * depends on it: the gate keeps a reader that is behind safe, and its clients see one retryable error.
 *
 * - `publish` is idempotent and may be repeated after any failure; a reader sees the old map or the new one, never a
 *   part. It never takes a reader back: given an older map than the reader has, it changes nothing.
 * - `confirm` believes only what it has read back.
 * - Calls for one reader are made one after the other (publish/publish-current.ts sees to it).
 */
export interface Publisher {
  /** `file routing.json`: names the reader in journal and messages. */
  readonly name: string;
  /** What `publish` would do, for the dry run; touches nothing. */
  preview(from: RoutingMap, to: RoutingMap): readonly PublishStep[];
  /** Throws E_PUBLISH when it can not be done; the reader then has what it had. */
  publish(to: RoutingMap, signal: AbortSignal): Promise<void>;
  confirm(to: RoutingMap): Promise<PublishState>;
}

export interface PublishStep {
  /** What is changed where, in words; or the exact command. */
  readonly what: string;
}

/**
 * `applied`: the reader has exactly this map. `stale`: it has another epoch: an older one (publish again), or a newer
 * one (publish the current map). `unknown`: what it has could not be read, or is not a map of this control store.
 */
export type PublishState = "applied" | "stale" | "unknown";
