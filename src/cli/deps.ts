import { initialMap, type Config } from "../config/config.ts";
import { resolveEndpoint } from "../config/endpoint.ts";
import { openExistingSqliteStore, openSqliteStore } from "../control/sqlite-store.ts";
import type { ControlStore } from "../control/store.ts";
import type { Engine } from "../engines/engine.ts";
import { mysqlEngine } from "../engines/mysql/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import type { Reporter } from "../job/events.ts";
import type { JobDeps, ServerAccess } from "../job/job-context.ts";
import type { Secrets } from "../lib/redact.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { FilePublisher } from "../publish/file-publisher.ts";
import { RoutingStore } from "../routing/routing-store.ts";

const engines: Readonly<Record<string, Engine>> = { mysql: mysqlEngine };

export interface DepsOptions {
  readonly config: Config;
  readonly secrets: Secrets;
  readonly reporter: Reporter;
}

/** The composition root: everything that a job is built from, made from the configuration. Close the store at the end. */
export async function openDeps(options: DepsOptions): Promise<JobDeps & AsyncDisposable> {
  const store = await openSqliteStore(options.config.control.path);
  try {
    const deps = depsOver(store, options);
    await deps.routing.initialise(initialMap(options.config));
    return deps;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** For commands that must not change anything, not even make a store: undefined when there is none yet. */
export async function openReadOnlyStore(config: Config): Promise<ControlStore | undefined> {
  return await openExistingSqliteStore(config.control.path);
}

function depsOver(
  store: ControlStore,
  { config, secrets, reporter }: DepsOptions,
): JobDeps & AsyncDisposable {
  return {
    ...serverAccess(config, secrets),
    store,
    routing: new RoutingStore(store),
    publishers: config.publishers.map(({ path }) => new FilePublisher({ path, storeId: store.storeId })),
    reporter,
    [Symbol.asyncDispose]: () => store.close(),
  };
}

/** For commands that only look at servers. */
export function serverAccess(config: Config, secrets: Secrets): ServerAccess {
  return {
    config,
    engineOf(shard) {
      const engine = engines[config.shards[shard]?.engine ?? ""];
      if (engine === undefined) throw new ShardliftError("E_USAGE", `${config.path} has no shard "${shard}"`);
      return engine;
    },
    endpointOf: (shard) => resolveEndpoint(config, shard, { secrets }),
  };
}

/** The map of the store, or the configuration's first map where there is no store yet. */
export async function currentOrFirstMap(
  config: Config,
  store: ControlStore | undefined,
): Promise<RoutingMap> {
  const map = store === undefined ? undefined : await new RoutingStore(store).currentMap();
  return map ?? initialMap(config);
}
