import { currentMapKey, intentPrefix } from "../control/keys.ts";
import { Compacted, type ControlStore } from "../control/store.ts";
import type { Claim } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { Notifier } from "../lib/wait.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { announce, isOver, readIntents, withdraw, type Announcement } from "./announcements.ts";
import { flipMap, type FlipOutcome, type FlipRequest } from "./flip.ts";
import type { Intent, LiveIntent } from "./intent.ts";
import type { MapVersion } from "./map-codec.ts";
import { initialiseMap, readCurrentEpoch, readHistory, readMap, readMapVersion } from "./map-store.ts";
import {
  readRouters,
  RouterRegistration,
  waitForAcks,
  type AckResult,
  type RegisteredRouter,
} from "./router-registry.ts";

/**
 * Who owns what, over any control store: the maps, the flip, the intents and the routers.
 *
 *   currentMap()   mapAt(epoch)   history()   initialise(map)
 *   flip({claim, expectEpoch, next, deadlineMs}) → flipped | not-flipped | unknown
 *   announce(claim, {phase, moves, forMs}) → intents   withdraw(claim)   waitForAcks(intents, {boundMs, signal})
 *   register({ttlMs, supports})   routers()   view()   follow({signal, …}) → views
 *
 * Invariant: epochs are made only by `initialise` and `flip`, each exactly one above the one before it.
 */
export class RoutingStore {
  readonly #store: ControlStore;
  /** The newest map seen. Maps never change, so an epoch that is here need not be read again. */
  #newest: RoutingMap | undefined;

  constructor(store: ControlStore) {
    this.#store = store;
  }

  /** Undefined in a store that has no map yet. */
  async currentMap(): Promise<RoutingMap | undefined> {
    const epoch = await readCurrentEpoch(this.#store);
    if (epoch === undefined) return undefined;
    if (this.#newest?.epoch !== epoch) this.#newest = await readMap(this.#store, epoch);
    return this.#newest;
  }

  async mapAt(epoch: number): Promise<RoutingMap | undefined> {
    return (await readMapVersion(this.#store, epoch))?.map;
  }

  /** Every epoch with the job that flipped to it, oldest first. */
  async history(): Promise<readonly MapVersion[]> {
    return readHistory(this.#store);
  }

  /** Writes the first map if there is none; refuses another first map (E_MAP_DIFFERS). Returns the current map. */
  async initialise(map: RoutingMap): Promise<RoutingMap> {
    return initialiseMap(this.#store, map);
  }

  async flip(request: FlipRequest): Promise<FlipOutcome> {
    return flipMap(this.#store, request);
  }

  /** Replaces what the job announced before. Every announcement has new intent ids. */
  async announce(claim: Claim, announcement: Announcement): Promise<readonly Intent[]> {
    return announce(this.#store, claim, await this.#map(), announcement);
  }

  async withdraw(claim: Claim): Promise<void> {
    await withdraw(this.#store, claim);
  }

  async waitForAcks(
    intents: readonly Intent[],
    options: { readonly boundMs: number; readonly signal: AbortSignal },
  ): Promise<AckResult> {
    return waitForAcks(this.#store, intents, options);
  }

  async register(options: {
    readonly ttlMs: number;
    readonly supports: readonly string[];
    readonly id?: string;
  }): Promise<RouterRegistration> {
    return RouterRegistration.open(this.#store, options);
  }

  async routers(): Promise<readonly RegisteredRouter[]> {
    return readRouters(this.#store);
  }

  /** What a router acts on. Throws E_CONTROL_STORE in a store that has no map yet. */
  async view(): Promise<RoutingView> {
    const confirmedAt = performance.now();
    // The intents first: read the other way round, an intent that a flip has fulfilled could seem to be withdrawn.
    const intents = await readIntents(this.#store);
    const map = await this.#map();
    return { map, intents: intents.filter((intent) => !isOver(intent, map)), confirmedAt };
  }

  /**
   * The view now, then again after each change, and without a change at least every `confirmMs`, so that a router
   * knows how old its map can be. Ends with the signal; throws what the store throws (then the map is not confirmed).
   */
  async *follow(options: FollowOptions): AsyncGenerator<RoutingView, void, undefined> {
    const { signal, confirmMs = 250, idlePollMs = 20, busyPollMs = 2 } = options;
    const stop = new AbortController();
    const ended = AbortSignal.any([signal, stop.signal]);
    const changes = new Notifier();
    let watching: unknown;
    let dirty = true;
    let busy = false;
    const watched = this.#watch(
      ended,
      () => (busy ? busyPollMs : idlePollMs),
      () => {
        dirty = true;
        changes.notify();
      },
    ).catch((error: unknown) => {
      watching = error;
      changes.notify();
    });
    try {
      while (!ended.aborted) {
        dirty = false;
        const view = await this.view();
        busy = view.intents.length > 0;
        yield view;
        if (watching !== undefined) throw watching;
        if (!dirty)
          await changes.wait(ended, confirmMs).catch((error: unknown) => {
            if (!ended.aborted) throw error;
          });
      }
    } finally {
      stop.abort();
      await watched;
    }
  }

  async #watch(signal: AbortSignal, pollMs: () => number, changed: () => void): Promise<void> {
    while (!signal.aborted) {
      const from = await this.#store.revision();
      changed();
      try {
        for await (const _ of this.#store.watch([currentMapKey, intentPrefix], from, { signal, pollMs }))
          changed();
      } catch (error) {
        // Away for too long: whatever was missed shows in the view that `changed` asks for.
        if (!(error instanceof Compacted)) throw error;
      }
    }
  }

  async #map(): Promise<RoutingMap> {
    const map = await this.currentMap();
    if (map !== undefined) return map;
    throw new ShardliftError("E_CONTROL_STORE", "the control store has no routing map yet", {
      next: "run `shardlift route publish`: it writes the configuration's first map",
    });
  }
}

export interface RoutingView {
  readonly map: RoutingMap;
  /** Those whose deadline lies ahead and whose slice is still at `fromShard`. */
  readonly intents: readonly LiveIntent[];
  /** `performance.now()` before the store was read: the map was the newest one at some moment after it. */
  readonly confirmedAt: number;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** How often the map is confirmed without a change; below the router's map lease. */
  readonly confirmMs?: number;
  /** How soon a polled store shows a change: without an intent, and while one stands. */
  readonly idlePollMs?: number;
  readonly busyPollMs?: number;
}
