import { createPool, type Pool, type PoolConnection, type PoolOptions } from "mysql2/promise";
import { errnoOf } from "../engines/mysql/errors.ts";
import { ShardliftError } from "../errors/error.ts";
import type { Limit } from "./admission.ts";
import { Lane } from "./lane.ts";

/** mysql2 options that would break a promise of the router: exact values, one statement a call, bounded queues. */
type Reserved =
  | "bigNumberStrings"
  | "connectionLimit"
  | "dateStrings"
  | "decimalNumbers"
  | "flags"
  | "jsonStrings"
  | "multipleStatements"
  | "namedPlaceholders"
  | "nestTables"
  | "queryFormat"
  | "queueLimit"
  | "resetOnRelease"
  | "rowsAsArray"
  | "stringifyObjects"
  | "supportBigNumbers"
  | "timezone"
  | "typeCast"
  | "uri"
  | "waitForConnections";

/** How to reach one shard: host, port, user, password, database, TLS … as mysql2 takes them. */
export type ShardOptions = Omit<PoolOptions, Reserved>;

export interface PoolSettings {
  readonly poolSize: number;
  readonly maxWaiting: number;
  readonly timeZone: string;
}

/**
 * One pool of connections per shard. A connection is set up once, before its first use: session time zone, and a
 * sql_mode under which the driver's escaping is right.
 *
 * Invariant: whoever needs connections of several shards takes them in the order of the shards' names, so that two
 * callers never wait for each other.
 */
export class Pools {
  readonly #pools: ReadonlyMap<string, Pool>;
  readonly #ready = new WeakSet<object>();
  readonly #settings: PoolSettings;

  constructor(shards: Readonly<Record<string, ShardOptions>>, settings: PoolSettings) {
    this.#settings = settings;
    this.#pools = new Map(
      Object.entries(shards).map(([shard, options]) => [shard, createPool(exact(options, settings))]),
    );
  }

  has(shard: string): boolean {
    return this.#pools.has(shard);
  }

  get shards(): string[] {
    return [...this.#pools.keys()].toSorted();
  }

  /** One lane per shard, in the shards' order. All or none. */
  async take(shards: readonly string[], limit: Limit): Promise<Lane[]> {
    const lanes: Lane[] = [];
    try {
      for (const shard of shards.toSorted()) lanes.push(await this.#one(shard, limit));
      return lanes;
    } catch (error) {
      for (const lane of lanes) lane.free();
      throw error;
    }
  }

  async close(): Promise<void> {
    const results = await Promise.allSettled([...this.#pools.values()].map(async (pool) => pool.end()));
    const errors = results.flatMap((result) =>
      result.status === "rejected" ? [result.reason as unknown] : [],
    );
    if (errors.length > 0)
      throw new AggregateError(errors, "not all connections of the router could be closed");
  }

  async #one(shard: string, limit: Limit): Promise<Lane> {
    const connection = await this.#connection(shard, limit);
    const lane = new Lane(shard, connection);
    if (this.#ready.has(connection.connection)) return lane;
    try {
      await this.#setUp(lane);
      this.#ready.add(connection.connection);
      return lane;
    } catch (cause) {
      lane.spoil();
      lane.free();
      throw connectError(shard, cause);
    }
  }

  async #connection(shard: string, limit: Limit): Promise<PoolConnection> {
    const pool = this.#pools.get(shard);
    if (pool === undefined) {
      throw new ShardliftError(
        "E_CONNECT",
        `shard ${shard} owns keys but the router was given no address for it`,
        {
          next: `add ${shard} to the router's shards`,
        },
      );
    }
    const pending = pool.getConnection();
    try {
      return await before(pending, limit, () => busy(shard, this.#settings.poolSize));
    } catch (cause) {
      // A connection that comes after all goes straight back, so that none is lost.
      void pending.then(
        (connection) => connection.release(),
        () => undefined,
      );
      throw cause instanceof ShardliftError ? cause : connectError(shard, cause);
    }
  }

  async #setUp(lane: Lane): Promise<void> {
    await lane.run("SET time_zone = ?", [this.#settings.timeZone]);
    const { rows } = await lane.run("SELECT @@SESSION.sql_mode AS mode");
    if (String(rows[0]?.["mode"]).includes("NO_BACKSLASH_ESCAPES")) {
      // The driver escapes with backslashes; under this mode a value could end its own quotes.
      throw new ShardliftError("E_CONNECT", `shard ${lane.shard} runs with sql_mode NO_BACKSLASH_ESCAPES`, {
        next: "remove it from the server's sql_mode",
      });
    }
  }
}

function exact(options: ShardOptions, settings: PoolSettings): PoolOptions {
  return {
    enableKeepAlive: true,
    connectTimeout: 5000,
    ...options,
    connectionLimit: settings.poolSize,
    waitForConnections: true,
    queueLimit: settings.maxWaiting,
    multipleStatements: false,
    namedPlaceholders: false,
    resetOnRelease: false,
    rowsAsArray: false,
    // Exact values: nothing passes through a float or a Date. An object as a value is not expanded to `a = b`.
    supportBigNumbers: true,
    bigNumberStrings: true,
    decimalNumbers: false,
    dateStrings: true,
    jsonStrings: true,
    stringifyObjects: true,
    timezone: "Z",
    typeCast: castDouble,
  };
}

/** The driver's own parser of text doubles is inexact for some values of 16 and 17 digits (facts: hard-cases.md 0.5). */
function castDouble(field: Field, next: () => unknown): unknown {
  if (field.type !== "DOUBLE" && field.type !== "FLOAT") return next();
  const text = field.string();
  return text === null ? null : Number(text);
}

type Field = Parameters<Extract<NonNullable<PoolOptions["typeCast"]>, (...given: never[]) => unknown>>[0];

/** The promise's value, or the error once the limit is reached or the router ends. */
async function before<T>(pending: Promise<T>, limit: Limit, late: () => ShardliftError): Promise<T> {
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), Math.max(0, limit.until - performance.now()));
  const abort = (): void => reject(limit.signal.reason);
  limit.signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([pending, stopped]);
  } finally {
    clearTimeout(timer);
    limit.signal.removeEventListener("abort", abort);
  }
}

function busy(shard: string, poolSize: number): ShardliftError {
  return new ShardliftError(
    "E_HOLD_TIMEOUT",
    `all ${poolSize} connections to shard ${shard} were in use all the time`,
    {
      retryable: true,
    },
  );
}

function connectError(shard: string, cause: unknown): ShardliftError {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (message === "Queue limit reached.") {
    return new ShardliftError("E_HOLD_FULL", `too many statements wait for a connection to shard ${shard}`, {
      cause,
      retryable: true,
    });
  }
  const wrongAccount = [1044, 1045, 1049].includes(errnoOf(cause) ?? 0);
  return new ShardliftError("E_CONNECT", `no connection to shard ${shard}: ${message}`, {
    cause,
    retryable: !wrongAccount,
  });
}
