import { resolve } from "node:path";
import { invariant } from "../errors/error.ts";
import { isKeyValue, MAX, MIN, type Bound, type KeyType } from "../model/key.ts";
import type { Keyspace, RoutingMap } from "../model/routing-map.ts";
import type { HostPort } from "../lib/host-port.ts";
import type { ConfigFile } from "./schema.ts";

/**
 * The configuration as the rest of the tool sees it: checked, with absolute paths and with units in the names. It
 * holds no secret, only where one can be read (endpoint.ts does that at use time), so it may be printed and logged.
 */
export interface Config {
  /** The file that it was read from. */
  readonly path: string;
  readonly control: { readonly type: "sqlite"; readonly path: string };
  readonly shards: Readonly<Record<string, ShardConfig>>;
  readonly keyspaces: Readonly<Record<string, Keyspace>>;
  readonly publishers: readonly { readonly type: "file"; readonly path: string }[];
  readonly copy: {
    readonly threads: number;
    readonly chunkTargetMs: number;
    /** Infinity when there is no limit. */
    readonly bytesPerSecond: number;
    readonly deferIndexes: boolean;
  };
  readonly throttle: {
    readonly maxThreadsRunning: number | undefined;
    readonly historyList: number | undefined;
  };
  readonly cutover: {
    readonly mode: "manual" | "auto";
    readonly maxPauseMs: number;
    readonly maxLagMs: number;
    readonly retries: number;
    readonly flipDeadlineMs: number;
  };
  readonly rollback: { readonly reverseWindowMs: number };
}

export interface ShardConfig {
  readonly engine: "mysql";
  readonly hosts: readonly HostPort[];
  readonly user: string;
  readonly password: PasswordSource;
  readonly database: string;
}

export type PasswordSource =
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "env"; readonly name: string }
  | { readonly from: "nowhere" };

/** Paths in the file are relative to `directory`, where the file lies: the tool may be started anywhere. */
export function toConfig(file: ConfigFile, path: string, directory: string): Config {
  const absolute = (part: string): string => resolve(directory, part);
  return {
    path,
    control: { type: file.control.type, path: absolute(file.control.path) },
    shards: mapValues(file.shards, ({ engine, hosts, user, database, ...rest }) => ({
      engine,
      hosts,
      user,
      password: passwordSource(rest, directory),
      database,
    })),
    keyspaces: mapValues(file.keyspaces, toKeyspace),
    publishers: file.proxies.map(({ type, path: target }) => ({ type, path: absolute(target) })),
    copy: {
      threads: file.copy.threads,
      chunkTargetMs: file.copy.chunkTarget,
      bytesPerSecond: file.copy.rate,
      deferIndexes: file.copy.deferIndexes,
    },
    throttle: {
      maxThreadsRunning: file.throttle.maxThreadsRunning,
      historyList: file.throttle.historyList,
    },
    cutover: {
      mode: file.cutover.mode,
      maxPauseMs: file.cutover.maxPause,
      maxLagMs: file.cutover.maxLag,
      retries: file.cutover.retries,
      flipDeadlineMs: file.cutover.flipDeadline,
    },
    rollback: { reverseWindowMs: file.rollback.reverseWindow },
  };
}

/** The first routing map: what the control store starts with. Afterwards the store owns the map. */
export function initialMap(config: Config): RoutingMap {
  return { epoch: 1, keyspaces: config.keyspaces };
}

export function passwordSource(
  shard: { readonly password?: string | undefined; readonly passwordFile?: string | undefined },
  directory: string,
): PasswordSource {
  if (shard.passwordFile !== undefined) return { from: "file", path: resolve(directory, shard.passwordFile) };
  const name = /^\$\{ENV:(.+)\}$/.exec(shard.password ?? "")?.[1];
  return name === undefined ? { from: "nowhere" } : { from: "env", name };
}

/** A bound as it stands in the file; undefined when it is no key value of the type. */
export function boundOf(type: KeyType, value: string | number): Bound | undefined {
  // An unsafe number has lost digits already; where the file was readable it arrives as text (document.ts).
  if (typeof value === "number" && !Number.isSafeInteger(value)) return undefined;
  const key = String(value).trim();
  if (key === "MIN") return MIN;
  if (key === "MAX") return MAX;
  return isKeyValue(type, key) ? { at: "KEY", key } : undefined;
}

function toKeyspace(keyspace: ConfigFile["keyspaces"][string]): Keyspace {
  const bound = (value: string | number): Bound => {
    const parsed = boundOf(keyspace.keyType, value);
    invariant(parsed !== undefined, "a bound passed the rules of the configuration but is no key value");
    return parsed;
  };
  return {
    function: keyspace.function,
    keyType: keyspace.keyType,
    tables: mapValues(keyspace.tables, ({ key }) => ({ key: key ?? keyspace.key })),
    ranges: keyspace.map.map(({ from, to, shard }) => ({ from: bound(from), to: bound(to), shard })),
  };
}

function mapValues<A, B>(record: Readonly<Record<string, A>>, change: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
