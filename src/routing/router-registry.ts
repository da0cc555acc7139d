import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { z } from "zod";
import { routerKey, routerPrefix } from "../control/keys.ts";
import { decodeJson, encodeJson } from "../control/json.ts";
import { KeptLease } from "../control/kept-lease.ts";
import { hasStamp, settle } from "../control/settle.ts";
import type { ControlStore } from "../control/store.ts";
import { ShardliftError } from "../errors/error.ts";
import type { Intent } from "./intent.ts";

/** A router that is alive, as the tool sees it: one for each process, not for each pool. */
const routerSchema = z.strictObject({
  id: z.string().min(1),
  host: z.string(),
  pid: z.int(),
  /** What it can do for a cutover. */
  supports: z.array(z.string()),
  since: z.iso.datetime(),
  stamp: z.string().min(1),
});

export type RegisteredRouter = z.infer<typeof routerSchema>;

const writeMs = 5000;

/**
 * A router's own entry in the store, there as long as its lease. Order for a router: register, then read the intents,
 * then run the first statement; the tool waits for the routers that it lists *after* its intent is committed.
 */
export class RouterRegistration implements AsyncDisposable {
  readonly id: string;
  readonly #store: ControlStore;
  readonly #lease: KeptLease;

  /** `id` must be unique for each process and start: a random one unless given. */
  static async open(
    store: ControlStore,
    options: { readonly ttlMs: number; readonly supports: readonly string[]; readonly id?: string },
  ): Promise<RouterRegistration> {
    const id = options.id ?? randomUUID();
    const lease = await KeptLease.grant(store, options.ttlMs);
    try {
      await register(store, lease, id, options.supports);
      return new RouterRegistration(store, lease, id);
    } catch (error) {
      await lease.close();
      throw error;
    }
  }

  private constructor(store: ControlStore, lease: KeptLease, id: string) {
    this.#store = store;
    this.#lease = lease;
    this.id = id;
  }

  /** Aborted with E_LEASE_LOST; a router then stops, and registers anew under another id. */
  get lost(): AbortSignal {
    return this.#lease.lost;
  }

  isLive(): boolean {
    return this.#lease.isLive();
  }

  /**
   * For `prepare`: seen. For `hold`: new writes to the slice are held *and* none is in flight here; never earlier
   * (facts: own-proxy.md, prototype acked undrained: wrong). Throws LeaseGone.
   */
  async ack(intent: Intent): Promise<void> {
    await this.#store.ack(intent.id, this.id, this.#lease.id);
  }

  async close(): Promise<void> {
    await this.#lease.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function register(
  store: ControlStore,
  lease: KeptLease,
  id: string,
  supports: readonly string[],
): Promise<void> {
  const stamp = randomUUID();
  const router: RegisteredRouter = {
    id,
    host: hostname(),
    pid: process.pid,
    supports: [...supports],
    since: new Date().toISOString(),
    stamp,
  };
  const key = routerKey(id);
  const settled = await settle(
    store,
    {
      guards: [{ key, rev: 0 }],
      ops: [{ put: key, value: encodeJson(router), lease: lease.id }],
      witness: key,
      isMine: hasStamp(stamp),
    },
    writeMs,
  );
  if (settled.kind === "unknown") throw settled.cause;
  if (settled.kind === "lost") throw new ShardliftError("E_USAGE", `another router is registered as ${id}`);
}

export async function readRouters(store: ControlStore): Promise<readonly RegisteredRouter[]> {
  const { entries } = await store.list(routerPrefix);
  return entries.map((entry) => decodeJson(entry.value, routerSchema, entry.key));
}

export interface AckResult {
  /** Router ids that have acknowledged all of the intents. */
  readonly acked: readonly string[];
  /** Routers that are registered and have not. */
  readonly missing: readonly RegisteredRouter[];
}

/**
 * Waits until every router that is alive has acknowledged all intents, at most for the bound. The intents must have
 * been committed before the call: only then is the list of routers the whole set.
 */
export async function waitForAcks(
  store: ControlStore,
  intents: readonly Intent[],
  { boundMs, signal }: { readonly boundMs: number; readonly signal: AbortSignal },
): Promise<AckResult> {
  const bound = new AbortController();
  const timer = setTimeout(() => bound.abort(), boundMs);
  const routers = await readRouters(store);
  const stop = AbortSignal.any([signal, bound.signal]);
  try {
    const sets = await Promise.all(intents.map(async (intent) => ackedBy(store, intent, routers, stop)));
    signal.throwIfAborted();
    // Once more: a router that is gone by now is waited for no longer.
    const alive = await readRouters(store);
    const hasAcked = ({ id }: RegisteredRouter): boolean => sets.every((acked) => acked.has(id));
    return {
      acked: routers.filter(hasAcked).map(({ id }) => id),
      missing: routers.filter((router) => !hasAcked(router) && alive.some(({ id }) => id === router.id)),
    };
  } finally {
    clearTimeout(timer);
  }
}

async function ackedBy(
  store: ControlStore,
  intent: Intent,
  routers: readonly RegisteredRouter[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  let last: ReadonlySet<string> = new Set();
  if (routers.length === 0) return last;
  for await (const acked of store.acks(intent.id, { signal })) {
    last = acked;
    if (routers.every(({ id }) => acked.has(id))) break;
  }
  return last;
}
