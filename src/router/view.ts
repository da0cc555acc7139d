import { ShardliftError } from "../errors/error.ts";
import { Notifier } from "../lib/wait.ts";
import type { KeyValue } from "../model/key.ts";
import { keyspaceOf, ownerOf, type RoutingMap } from "../model/routing-map.ts";
import { sliceContains } from "../model/slice.ts";
import { StoreWentBack } from "../control/store.ts";
import type { LiveIntent } from "../routing/intent.ts";

/**
 * What the router knows: the map, how long it may be trusted, and the intents. The follower writes it, everything
 * else only asks. No I/O and no clock of its own, so each rule can be tested by itself.
 *
 * Invariant: the epoch never goes down, and an answer about owners always comes from one map.
 */
export class RouteView {
  /** Notified whenever an answer of this view may have changed. */
  readonly changed: Notifier = new Notifier();
  #map: RoutingMap;
  #intents: readonly LiveIntent[] = [];
  #trustedUntil: number;
  #trouble: unknown;

  constructor(map: RoutingMap, trustedUntil: number) {
    this.#map = map;
    this.#trustedUntil = trustedUntil;
  }

  get map(): RoutingMap {
    return this.#map;
  }

  get intents(): readonly LiveIntent[] {
    return this.#intents;
  }

  /** Why the store could not be read the last time; undefined while all is well. */
  get trouble(): unknown {
    return this.#trouble;
  }

  /**
   * The store was read. `trustedUntil` is counted from *before* that read was sent: a reader that was stopped in
   * between must not think that its map is younger than it is (facts: control.md 1.3).
   */
  learn(map: RoutingMap, intents: readonly LiveIntent[], trustedUntil: number): void {
    if (map.epoch < this.#map.epoch) {
      throw new StoreWentBack(`the routing map went back from epoch ${this.#map.epoch} to ${map.epoch}`);
    }
    this.#map = map;
    this.#intents = intents;
    this.#trustedUntil = Math.max(this.#trustedUntil, trustedUntil);
    this.#trouble = undefined;
    this.changed.notify();
  }

  /** The store could not be read; what is known stays trusted until its time is up. */
  fail(trouble: unknown): void {
    this.#trouble = trouble;
    this.changed.notify();
  }

  /** Nothing may be trusted any more until the next `learn`: the lease was lost, or the store went back. */
  distrust(trouble: unknown): void {
    this.#trustedUntil = Number.NEGATIVE_INFINITY;
    this.fail(trouble);
  }

  isTrusted(nowMs: number): boolean {
    return nowMs < this.#trustedUntil;
  }

  trustedForMs(nowMs: number): number {
    return Math.max(0, this.#trustedUntil - nowMs);
  }

  /** The shards that own the keys by the present map: each once, sorted, so that locks are taken in one order. */
  owners(need: Need): string[] {
    return ownersIn(this.#map, need);
  }

  /**
   * The intent that makes a new write to these keys wait now. A key that the map no longer gives to the old shard is
   * free, whatever the epoch: another job may flip other slices in between (facts: pitfalls.md 25).
   */
  heldBy(need: Need, nowMs: number): LiveIntent | undefined {
    return this.#intents.find(
      (intent) => intent.phase === "hold" && nowMs < intent.letGoAt && this.#covers(intent, need),
    );
  }

  #covers(intent: LiveIntent, need: Need): boolean {
    if (intent.keyspace !== need.keyspace) return false;
    const keyspace = keyspaceOf(this.#map, need.keyspace);
    return need.keys.some(
      (key) =>
        sliceContains(keyspace.keyType, intent.slice, key) && ownerOf(keyspace, key) === intent.fromShard,
    );
  }

  /** Whether a piece of work lies in the intent's slice, so that it must end before the intent is acknowledged. */
  touches(intent: LiveIntent, need: Need): boolean {
    if (intent.keyspace !== need.keyspace) return false;
    const { keyType } = keyspaceOf(this.#map, need.keyspace);
    return need.keys.some((key) => sliceContains(keyType, intent.slice, key));
  }

  /** Why the map can not be used now, for the application's log. */
  leaseError(): ShardliftError {
    const why = this.#trouble instanceof Error ? `: ${this.#trouble.message}` : "";
    return new ShardliftError(
      "E_MAP_LEASE",
      `the routing map of epoch ${this.#map.epoch} could not be confirmed in time${why}`,
      { cause: this.#trouble, retryable: true },
    );
  }
}

/** The keys that a piece of work uses, in canonical text. */
export interface Need {
  readonly keyspace: string;
  readonly keys: readonly KeyValue[];
}

export function ownersIn(map: RoutingMap, need: Need): string[] {
  const keyspace = keyspaceOf(map, need.keyspace);
  return [...new Set(need.keys.map((key) => ownerOf(keyspace, key)))].toSorted();
}
