import { randomUUID } from "node:crypto";
import { ShardliftError } from "../errors/error.ts";
import { encodeJson } from "./json.ts";
import { KeptLease } from "./kept-lease.ts";
import { hasStamp, settle } from "./settle.ts";
import type { ControlStore } from "./store.ts";

export interface ExclusiveOptions {
  readonly ttlMs: number;
  /** How long to wait for whoever works now. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

const writeMs = 2000;
/** The store tells when the key goes; this is for a deletion between a refusal and the watch. */
const lookAgainMs = 100;

/**
 * Runs work that only one process may do at a time, under a key that is bound to a lease: who dies lets go. It orders
 * those who keep to it and fences nobody off: a process that is stopped for longer than the lease finds out afterwards,
 * so the work itself must be safe to repeat.
 */
export async function exclusively<T>(
  store: ControlStore,
  key: string,
  options: ExclusiveOptions,
  work: () => Promise<T>,
): Promise<T> {
  await using lease = await KeptLease.grant(store, options.ttlMs);
  await enter(store, key, lease, options);
  return await work();
}

async function enter(
  store: ControlStore,
  key: string,
  lease: KeptLease,
  options: ExclusiveOptions,
): Promise<void> {
  const end = performance.now() + options.waitMs;
  const stamp = randomUUID();
  for (;;) {
    options.signal.throwIfAborted();
    const settled = await settle(
      store,
      {
        guards: [{ key, rev: 0 }],
        ops: [{ put: key, value: encodeJson({ stamp }), lease: lease.id }],
        witness: key,
        isMine: hasStamp(stamp),
      },
      writeMs,
    );
    if (settled.kind === "applied") return;
    if (settled.kind === "unknown") throw settled.cause;
    if (performance.now() >= end) {
      throw new ShardliftError("E_TIMEOUT", `${key} was held by another process for ${options.waitMs} ms`, {
        retryable: true,
      });
    }
    await changed(store, key, options.signal);
  }
}

async function changed(store: ControlStore, key: string, signal: AbortSignal): Promise<void> {
  const after = await store.revision();
  const stop = AbortSignal.any([signal, AbortSignal.timeout(lookAgainMs)]);
  for await (const _ of store.watch([key], after, { signal: stop })) return;
}
