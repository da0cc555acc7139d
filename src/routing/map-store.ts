import { randomUUID } from "node:crypto";
import { currentMapKey, mapKey, mapPrefix } from "../control/keys.ts";
import { canonicalJson, decodeJson, encodeJson } from "../control/json.ts";
import { hasStamp, settle } from "../control/settle.ts";
import type { ControlStore, Entry, Rev } from "../control/store.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { currentMapSchema, encodeMapVersion, mapVersionSchema, type MapVersion } from "./map-codec.ts";

/**
 * The maps in the control store: `map/<epoch>`, written once each, and the pointer `map/current`, moved in the same
 * transaction. A map is never overwritten, so the pointer and the map that it names can be read one after the other.
 */
const firstEpoch = 1;

const writeMs = 5000;

export interface CurrentMap {
  readonly map: RoutingMap;
  /** Of the pointer: what a flip guards. */
  readonly rev: Rev;
}

export async function readCurrentMap(store: ControlStore): Promise<CurrentMap | undefined> {
  const pointer = await store.get(currentMapKey);
  return pointer === undefined
    ? undefined
    : { map: await readMap(store, epochOf(pointer)), rev: pointer.rev };
}

/** Cheap: the pointer only. */
export async function readCurrentEpoch(store: ControlStore): Promise<number | undefined> {
  const pointer = await store.get(currentMapKey);
  return pointer === undefined ? undefined : epochOf(pointer);
}

/** The map of an epoch that there must be. */
export async function readMap(store: ControlStore, epoch: number): Promise<RoutingMap> {
  const version = await readMapVersion(store, epoch);
  if (version !== undefined) return version.map;
  throw new ShardliftError(
    "E_CONTROL_STORE",
    `the control store has no map of epoch ${epoch}, which it names as current`,
  );
}

function epochOf(pointer: Entry): number {
  return decodeJson(pointer.value, currentMapSchema, currentMapKey).epoch;
}

export async function readMapVersion(store: ControlStore, epoch: number): Promise<MapVersion | undefined> {
  const entry = await store.get(mapKey(epoch));
  if (entry === undefined) return undefined;
  const version = decodeJson(entry.value, mapVersionSchema, entry.key);
  invariant(version.map.epoch === epoch, `${entry.key} holds the map of epoch ${version.map.epoch}`);
  return version;
}

/** All epochs, oldest first. */
export async function readHistory(store: ControlStore): Promise<MapVersion[]> {
  const { entries } = await store.list(mapPrefix);
  return entries
    .filter((entry) => entry.key !== currentMapKey)
    .map((entry) => decodeJson(entry.value, mapVersionSchema, entry.key))
    .toSorted((a, b) => a.map.epoch - b.map.epoch);
}

/**
 * Gives a new store its first map. Running it again with the same map changes nothing, whatever has been flipped since;
 * another first map is refused, because after it the store owns the map and not the configuration.
 */
export async function initialiseMap(store: ControlStore, map: RoutingMap): Promise<RoutingMap> {
  invariant(map.epoch === firstEpoch, `a first map has epoch ${firstEpoch}, not ${map.epoch}`);
  const stamp = randomUUID();
  const first = await readMapVersion(store, firstEpoch);
  if (first === undefined) {
    const value = encodeMapVersion({ map, flip: null, at: new Date().toISOString(), stamp });
    const settled = await settle(
      store,
      {
        guards: [
          { key: mapKey(firstEpoch), rev: 0 },
          { key: currentMapKey, rev: 0 },
        ],
        ops: [
          { put: mapKey(firstEpoch), value },
          { put: currentMapKey, value: encodeJson({ epoch: firstEpoch, stamp }) },
        ],
        witness: mapKey(firstEpoch),
        isMine: hasStamp(stamp),
      },
      writeMs,
    );
    if (settled.kind === "unknown") throw settled.cause;
  }
  // Lost means that another process was quicker: then its map is compared like one from before.
  const stands = (first ?? (await readMapVersion(store, firstEpoch)))?.map;
  invariant(stands !== undefined, "the first map is missing after it was written");
  refuseDifference(stands, map);
  const current = await readCurrentMap(store);
  invariant(current !== undefined, "there is a first map but no current one");
  return current.map;
}

function refuseDifference(stands: RoutingMap, given: RoutingMap): void {
  const names = new Set([...Object.keys(stands.keyspaces), ...Object.keys(given.keyspaces)]);
  const different = [...names].filter(
    (name) => canonicalJson(stands.keyspaces[name] ?? null) !== canonicalJson(given.keyspaces[name] ?? null),
  );
  if (different.length === 0) return;
  throw new ShardliftError(
    "E_MAP_DIFFERS",
    `keyspace ${different.join(", ")} of the configuration is not what the control store was started with`,
  );
}
