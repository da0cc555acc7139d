import type { ControlStore } from "../control/store.ts";
import { ShardliftError } from "../errors/error.ts";
import { Background } from "../lib/background.ts";
import { keyValueOf, type KeyValue } from "../model/key.ts";
import { keyspaceOf, type RoutingMap } from "../model/routing-map.ts";
import { RoutingStore } from "../routing/routing-store.ts";
import { Admission, type Limit } from "./admission.ts";
import { Follower, mapLeaseMs } from "./follower.ts";
import type { Result, Row, Values } from "./lane.ts";
import { Pools, type ShardOptions } from "./pools.ts";
import type { MovedRow } from "./row-move.ts";
import { type MoveOptions, type MoveResult, RowMoves } from "./row-moves.ts";
import { scatterRead, type ScatterResult, type ScatterSql } from "./scatter.ts";
import { readStatement, writeStatement } from "./statement.ts";
import { runTransaction, type Transaction, type TransactionOptions } from "./transaction.ts";
import { type Need, RouteView } from "./view.ts";
import type { Parts } from "./work.ts";

export interface RouterSettings {
  readonly shards: Readonly<Record<string, ShardOptions>>;
  /** Connections per shard; default 10. */
  readonly poolSize?: number;
  /** How long a call may wait in all before it gives up: hold, refusals, connections. Default 10 s. */
  readonly holdTimeoutMs?: number;
  /** How many calls may wait at once, held or for a connection; default 10,000. */
  readonly maxWaiting?: number;
  /** The sessions' time zone, the same at every shard; default `+00:00`. */
  readonly timeZone?: string;
}

/** For health pages and logs. */
export interface RouterStatus {
  readonly id: string;
  readonly epoch: number;
  /** How long the map may still be used without a new confirmation; 0 = reads are not served. */
  readonly mapLeaseMs: number;
  readonly running: number;
  readonly waiting: number;
  readonly intents: readonly { readonly job: string; readonly phase: string; readonly toShard: string }[];
  /** Why the control store could not be followed the last time, and what hinders abandoned row moves. */
  readonly trouble: readonly string[];
}

/** Builds a router on an open store, which it then owns. */
export async function startRouter(store: ControlStore, settings: RouterSettings): Promise<Router> {
  const routing = new RoutingStore(store);
  const { map } = await routing.view();
  const pools = new Pools(settings.shards, {
    poolSize: settings.poolSize ?? 10,
    maxWaiting: settings.maxWaiting ?? 10_000,
    timeZone: settings.timeZone ?? "+00:00",
  });
  try {
    assertAddresses(map, pools);
    const clock = (): number => performance.now();
    const view = new RouteView(map, Number.NEGATIVE_INFINITY);
    const admission = new Admission(view, { maxWaiting: settings.maxWaiting ?? 10_000, clock });
    const follower = await Follower.start({ routing, view, admission, pools });
    return new Router({
      store,
      settings,
      follower,
      parts: { view, admission, pools, clock, random: Math.random },
    });
  } catch (error) {
    await pools.close();
    throw error;
  }
}

function assertAddresses(map: RoutingMap, pools: Pools): void {
  const named = Object.values(map.keyspaces).flatMap(({ ranges }) => ranges.map(({ shard }) => shard));
  const missing = [...new Set(named)].filter((shard) => !pools.has(shard));
  if (missing.length === 0) return;
  throw new ShardliftError(
    "E_USAGE",
    `the routing map names shards without an address: ${missing.join(", ")}`,
    {
      next: `add ${missing.join(", ")} to the router's shards`,
    },
  );
}

/** Runs statements at the shards that own their keys, through flips of the map. See docs/router.md. */
export class Router implements AsyncDisposable {
  readonly #store: ControlStore;
  readonly #settings: RouterSettings;
  readonly #follower: Follower;
  readonly #parts: Parts;
  readonly #rowMoves: RowMoves;
  readonly #calls = new Set<Promise<unknown>>();
  readonly #background = new Background();
  readonly #ended = new AbortController();
  #closing: Promise<void> | undefined;

  constructor(made: {
    readonly store: ControlStore;
    readonly settings: RouterSettings;
    readonly follower: Follower;
    readonly parts: Parts;
  }) {
    this.#store = made.store;
    this.#settings = made.settings;
    this.#follower = made.follower;
    this.#parts = made.parts;
    this.#rowMoves = new RowMoves(made.parts);
    this.#background.run(async (signal) => this.#rowMoves.sweep(signal));
  }

  /** One autocommit statement at the key's owner. Held during a cutover, run again after a refusal. */
  async query<R = Row>(keyspace: string, key: unknown, sql: string, values: Values = []): Promise<Result<R>> {
    return this.#call(async (limit) =>
      writeStatement<R>(this.#parts, this.#need(keyspace, [key]), { sql, values }, limit),
    );
  }

  /** One read at the key's owner. Never held; served only under a live map lease. */
  async read<R = Row>(keyspace: string, key: unknown, sql: string, values: Values = []): Promise<Result<R>> {
    return this.#call(async (limit) =>
      readStatement<R>(this.#parts, this.#need(keyspace, [key]), { sql, values }, limit),
    );
  }

  /**
   * A transaction at the one owner of all the keys (else E_TWO_SHARDS). The callback may run several times, each time
   * from its start, and must use nothing but what it is given.
   */
  async transaction<T>(
    keyspace: string,
    keys: unknown,
    callback: (tx: Transaction) => Promise<T>,
    options: TransactionOptions = {},
  ): Promise<T> {
    const canonical = (key: unknown): KeyValue => this.#key(keyspace, key);
    return this.#call(async (limit) => {
      const need = this.#need(keyspace, Array.isArray(keys) ? keys : [keys]);
      return runTransaction(this.#parts, { need, canonical, callback, options }, limit);
    });
  }

  /** Gives a row another shard key, wherever the two owners are. Exactly once for a token. */
  async moveRow(keyspace: string, move: MovedRow & MoveOptions): Promise<MoveResult> {
    const { table, primaryKey, set, ...options } = move;
    return this.moveRows(keyspace, {
      ...options,
      rows: [set === undefined ? { table, primaryKey } : { table, primaryKey, set }],
    });
  }

  /** Like `moveRow` for several rows of one key: all of them or none. */
  async moveRows(
    keyspace: string,
    move: MoveOptions & { readonly rows: readonly MovedRow[] },
  ): Promise<MoveResult> {
    return this.#call(async (limit) => {
      const [from, to] = [this.#key(keyspace, move.from), this.#key(keyspace, move.to)];
      return this.#rowMoves.move({ keyspace, from, to, rows: move.rows, token: move.token }, limit);
    });
  }

  /** Reads at every shard that owns a part of the keyspace, by one map; each shard's own rows only. */
  async scatter<R = Row>(
    keyspace: string,
    build: ScatterSql,
    values: Values = [],
  ): Promise<ScatterResult<R>> {
    return this.#call(async (limit) => {
      const zone = this.#settings.timeZone ?? "+00:00";
      if (zone !== "+00:00" && keyspaceOf(this.#parts.view.map, keyspace).keyType === "temporal") {
        throw new ShardliftError(
          "E_USAGE",
          `a scatter over temporal keys needs the time zone +00:00, not ${zone}`,
        );
      }
      return scatterRead<R>(this.#parts, { keyspace, build, values }, limit);
    });
  }

  /** The newest map that this router has seen. For people: ask again for each decision. */
  map(): RoutingMap {
    return this.#parts.view.map;
  }

  status(): RouterStatus {
    const { view, admission, clock } = this.#parts;
    return {
      id: this.#follower.routerId,
      epoch: view.map.epoch,
      mapLeaseMs: Math.min(mapLeaseMs, view.trustedForMs(clock())),
      running: admission.running,
      waiting: admission.waiting,
      intents: view.intents.map(({ job, phase, toShard }) => ({ job, phase, toShard })),
      trouble: [...this.#store.warnings, ...messages(view.trouble), ...messages(this.#rowMoves.trouble)],
    };
  }

  /** Creates the table in which row moves are remembered at every shard. Needs CREATE; not while a job runs. */
  async installRowMoves(): Promise<void> {
    await this.#call(async (limit) => this.#rowMoves.install(limit));
  }

  /** Waits for the calls that have begun, then leaves the control store and closes every connection. Idempotent. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    while (this.#calls.size > 0) await Promise.allSettled(this.#calls);
    await this.#background.stop();
    this.#ended.abort(new ShardliftError("E_USAGE", "the router is closed"));
    const errors: unknown[] = [];
    // The store last: the follower takes its registration back there.
    for (const part of [
      async () => this.#follower.stop(),
      async () => this.#parts.pools.close(),
      async () => this.#store.close(),
    ]) {
      await part().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw new AggregateError(errors, "the router did not close cleanly");
  }

  async #call<T>(work: (limit: Limit) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new ShardliftError("E_USAGE", "the router is closed");
    const until = this.#parts.clock() + (this.#settings.holdTimeoutMs ?? 10_000);
    const call = work({ until, signal: this.#ended.signal });
    this.#calls.add(call);
    try {
      return await call;
    } finally {
      this.#calls.delete(call);
    }
  }

  #need(keyspace: string, keys: readonly unknown[]): Need {
    if (keys.length === 0) throw new ShardliftError("E_USAGE", "no key was given");
    return { keyspace, keys: keys.map((key) => this.#key(keyspace, key)) };
  }

  #key(keyspace: string, key: unknown): KeyValue {
    const { keyType } = keyspaceOf(this.#parts.view.map, keyspace);
    try {
      return keyValueOf(keyType, key);
    } catch (cause) {
      throw new ShardliftError(
        "E_USAGE",
        `not a shard key of keyspace ${keyspace} (${keyType}): ${String(key)}`,
        { cause },
      );
    }
  }
}

function messages(trouble: unknown): string[] {
  if (trouble === undefined) return [];
  return [trouble instanceof Error ? trouble.message : JSON.stringify(trouble)];
}
