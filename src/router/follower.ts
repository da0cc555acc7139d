import { LeaseGone, StoreWentBack } from "../control/store.ts";
import { Background } from "../lib/background.ts";
import { sleep } from "../lib/wait.ts";
import type { LiveIntent } from "../routing/intent.ts";
import type { RouterRegistration } from "../routing/router-registry.ts";
import type { RoutingStore, RoutingView } from "../routing/routing-store.ts";
import type { Admission } from "./admission.ts";
import type { Pools } from "./pools.ts";
import type { RouteView } from "./view.ts";

export interface FollowerParts {
  readonly routing: RoutingStore;
  readonly view: RouteView;
  readonly admission: Admission;
  readonly pools: Pools;
}

/** How long a map may be used after the store was asked; reads rest on it (DESIGN section 6: at most 1 s). */
export const mapLeaseMs = 1000;
/** Four tries within the map's lease. */
const confirmMs = 250;
/** Long enough for a busy process, short enough that the tool need not wait long for a dead one (control.md 5). */
const registrationMs = 3000;
const retryMs = 100;

/**
 * Keeps the router in step with the control store: it is registered there under a lease, its view follows the map and
 * the intents, and an intent is acknowledged as soon as it is true, never before.
 *
 * Order: register, then read the map and the intents, then let work begin; so the tool, which lists the routers after
 * its intent is committed, misses none that could still write by the old map (control.md 5).
 */
export class Follower {
  readonly #parts: FollowerParts;
  readonly #background = new Background();
  #registration: RouterRegistration;
  readonly #acked = new Set<string>();
  readonly #acking = new Map<string, Promise<void>>();

  private constructor(parts: FollowerParts, registration: RouterRegistration) {
    this.#parts = parts;
    this.#registration = registration;
  }

  static async start(parts: FollowerParts): Promise<Follower> {
    const follower = new Follower(parts, await register(parts.routing));
    try {
      follower.#learn(await parts.routing.view());
    } catch (error) {
      await follower.#registration.close();
      throw error;
    }
    parts.admission.onEnd = () => follower.#acknowledge();
    follower.#background.run(async (signal) => follower.#follow(signal));
    return follower;
  }

  get routerId(): string {
    return this.#registration.id;
  }

  async stop(): Promise<void> {
    this.#parts.admission.onEnd = () => undefined;
    await this.#background.stop();
    await Promise.all(this.#acking.values());
    await this.#registration.close();
  }

  /** Never throws: whatever the store does is kept in the view, which stops trusting its map in time. */
  async #follow(signal: AbortSignal): Promise<void> {
    const { routing, view } = this.#parts;
    while (!signal.aborted) {
      try {
        if (this.#registration.lost.aborted) await this.#registerAnew();
        const either = AbortSignal.any([signal, this.#registration.lost]);
        for await (const seen of routing.follow({ signal: either, confirmMs })) this.#learn(seen);
        if (this.#registration.lost.aborted) view.distrust(this.#registration.lost.reason);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof StoreWentBack) view.distrust(error);
        else view.fail(error);
        await sleep(retryMs, signal).catch(() => undefined);
      }
    }
  }

  /** The map is trusted again only when it was read after the new registration. */
  async #registerAnew(): Promise<void> {
    const old = this.#registration;
    this.#parts.view.distrust(old.lost.reason);
    this.#registration = await register(this.#parts.routing);
    await old.close();
  }

  #learn({ map, intents, confirmedAt }: RoutingView): void {
    this.#parts.view.learn(map, intents, confirmedAt + mapLeaseMs);
    for (const id of this.#acked) if (!intents.some((intent) => intent.id === id)) this.#acked.delete(id);
    this.#acknowledge();
  }

  #acknowledge(): void {
    for (const intent of this.#parts.view.intents) {
      if (this.#acked.has(intent.id) || this.#acking.has(intent.id) || !this.#isMet(intent)) continue;
      this.#acking.set(intent.id, this.#send(intent));
    }
  }

  /** `prepare`: it was seen. `hold`: no work here can still write to the slice, and none begins. */
  #isMet(intent: LiveIntent): boolean {
    // Without an address of the new owner this router can not follow; staying silent tells the operator before the flip.
    if (!this.#parts.pools.has(intent.toShard)) return false;
    return intent.phase === "prepare" || this.#parts.admission.isDrained(intent);
  }

  async #send(intent: LiveIntent): Promise<void> {
    try {
      await this.#registration.ack(intent);
      this.#acked.add(intent.id);
    } catch (error) {
      // Sent again with the next view; a lost lease is noticed by `#follow`, and the tool does without this router.
      if (!(error instanceof LeaseGone)) this.#parts.view.fail(error);
    } finally {
      this.#acking.delete(intent.id);
    }
  }
}

async function register(routing: RoutingStore): Promise<RouterRegistration> {
  return routing.register({ ttlMs: registrationMs, supports: ["hold", "move-row"] });
}
