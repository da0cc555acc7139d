import { readSliceLocks, type SliceLock } from "../control/slice-locks.ts";
import type { ControlStore } from "../control/store.ts";
import { formatBound, formatSlice } from "../model/slice.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import type { RegisteredRouter } from "./router-registry.ts";

/** A slice that a job holds, from its start until it is finished or aborted. */
export interface MovingSlice extends Pick<SliceLock, "job" | "slice"> {
  readonly keyspace: string;
}

export interface RouteView {
  readonly map: RoutingMap;
  /** Undefined while there is no control store. */
  readonly store: string | undefined;
  readonly moving: readonly MovingSlice[];
  readonly routers: readonly RegisteredRouter[];
}

export async function movingSlices(store: ControlStore, map: RoutingMap): Promise<readonly MovingSlice[]> {
  const moving: MovingSlice[] = [];
  for (const keyspace of Object.keys(map.keyspaces)) {
    for (const { job, slice } of await readSliceLocks(store, keyspace)) moving.push({ keyspace, job, slice });
  }
  return moving;
}

/** While a job holds a slice its rows are on two shards (DESIGN section 6): whoever reads all shards must know. */
export function twiceWarnings(moving: readonly MovingSlice[]): string[] {
  return moving.map(
    ({ keyspace, job, slice }) =>
      `rows of ${formatSlice(slice)} of keyspace ${keyspace} may be on two shards until job ${job} is finished: a query over all shards must ask each one for the ranges that it owns only`,
  );
}

/** The map for people. */
export function routeText({ map, store, moving, routers }: RouteView): string {
  const origin =
    store === undefined ? "from the configuration; there is no control store yet" : `control store ${store}`;
  const lines = [`routing map, epoch ${map.epoch} (${origin})`];
  for (const [name, keyspace] of Object.entries(map.keyspaces)) {
    lines.push("", `keyspace ${name}, by range of ${keyspace.keyType} keys`);
    lines.push(
      `  tables  ${Object.entries(keyspace.tables)
        .map(([table, { key }]) => `${table} (${key})`)
        .join(", ")}`,
    );
    const ranges = keyspace.ranges.map(
      ({ from, to, shard }) => [`[${formatBound(from)}, ${formatBound(to)})`, shard] as const,
    );
    const width = Math.max(...ranges.map(([range]) => range.length));
    for (const [range, shard] of ranges) lines.push(`  ${range.padEnd(width)}  ${shard}`);
    for (const { job, slice } of moving.filter((one) => one.keyspace === name)) {
      lines.push(`  ${formatSlice(slice)} is held by job ${job}`);
    }
  }
  if (store !== undefined) {
    lines.push("", routers.length === 0 ? "no router is registered" : `${routers.length} registered:`);
    for (const { id, host, pid, since } of routers)
      lines.push(`  router ${id}, process ${pid} on ${host}, since ${since}`);
  }
  return lines.join("\n");
}
