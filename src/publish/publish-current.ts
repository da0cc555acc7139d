import { exclusively } from "../control/exclusive.ts";
import { publishLockKey } from "../control/keys.ts";
import type { ControlStore } from "../control/store.ts";
import { invariant } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { RoutingStore } from "../routing/routing-store.ts";
import type { Publisher, PublishState } from "./publisher.ts";

export interface Published {
  readonly publisher: string;
  /** Of the map that was published: the job's own epoch or a later one. */
  readonly epoch: number;
  readonly state: PublishState;
  /** Why it is not `applied`. */
  readonly cause?: unknown;
}

/**
 * Brings every publisher to the current map, whoever made it. One process at a time: two jobs that flip one after the
 * other would otherwise let the older map be written last. Failures are reported, one publisher's for itself; the flip
 * stands in any case.
 */
export async function publishCurrent(
  store: ControlStore,
  publishers: readonly Publisher[],
  signal: AbortSignal,
): Promise<readonly Published[]> {
  if (publishers.length === 0) return [];
  return exclusively(store, publishLockKey, { ttlMs: 10_000, waitMs: 30_000, signal }, async () => {
    const map = await new RoutingStore(store).currentMap();
    invariant(map !== undefined, "there is no map to publish");
    return Promise.all(publishers.map(async (publisher) => publishOne(publisher, map, signal)));
  });
}

async function publishOne(publisher: Publisher, map: RoutingMap, signal: AbortSignal): Promise<Published> {
  const base = { publisher: publisher.name, epoch: map.epoch };
  try {
    await publisher.publish(map, signal);
    return { ...base, state: await publisher.confirm(map) };
  } catch (cause) {
    return { ...base, state: "unknown", cause };
  }
}
