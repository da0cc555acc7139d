import { invariant } from "../errors/error.ts";
import {
  OutcomeUnknown,
  StoreWentBack,
  type Change,
  type ControlStore,
  type Entry,
  type Guard,
  type Lease,
  type LeaseId,
  type Op,
  type Rev,
  type TxnOptions,
  type TxnResult,
  type WatchOptions,
} from "./store.ts";

/**
 * What every backend can carry, enforced for all, so that what works with one works with each of them. etcd is the
 * narrowest: 1.5 MB a request, 128 operations, no key twice in a transaction (facts: control.md 1.4).
 */
export const limits = {
  keyBytes: 512,
  valueBytes: 256 * 1024,
  ops: 64,
  guards: 64,
  leaseMs: { min: 500, max: 3_600_000 },
};

/** What a client remembers of a store, so that a restored backup or a replaced file is noticed (facts: control.md 3). */
export interface Seen {
  readonly storeId: string;
  readonly rev: Rev;
}

/**
 * Wraps a backend with the rules that are the same for all: sizes, guards that name every key that is written, and the
 * check that the store never goes back below a revision that this client has seen.
 */
export class CheckedStore implements ControlStore {
  readonly #backend: ControlStore;
  #seenRev: Rev;

  constructor(backend: ControlStore, seen?: Seen) {
    if (seen !== undefined && seen.storeId !== backend.storeId) {
      throw new StoreWentBack(
        `this is control store ${backend.storeId}, but ${seen.storeId} was in use before`,
      );
    }
    this.#backend = backend;
    this.#seenRev = seen?.rev ?? 0;
  }

  get storeId(): string {
    return this.#backend.storeId;
  }

  get warnings(): readonly string[] {
    return this.#backend.warnings;
  }

  async revision(): Promise<Rev> {
    return this.#saw(await this.#backend.revision());
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    const entry = await this.#backend.get(key);
    if (entry !== undefined) this.#saw(entry.rev, "part");
    return entry;
  }

  async list(prefix: string): Promise<{ readonly rev: Rev; readonly entries: readonly Entry[] }> {
    checkKey(prefix);
    const listed = await this.#backend.list(prefix);
    this.#saw(listed.rev);
    return listed;
  }

  async txn(guards: readonly Guard[], ops: readonly Op[], options?: TxnOptions): Promise<TxnResult> {
    checkTxn(guards, ops);
    const result = await this.#backend.txn(guards, ops, options);
    try {
      this.#saw(result.rev);
    } catch (cause) {
      // It *was* applied, in a store that is not to be trusted: nobody may conclude that it was not.
      throw result.ok
        ? new OutcomeUnknown("a write was applied to a control store that went back", cause)
        : cause;
    }
    return result;
  }

  async grant(ttlMs: number): Promise<Lease> {
    invariant(ttlMs >= limits.leaseMs.min && ttlMs <= limits.leaseMs.max, `a lease of ${ttlMs} ms`);
    return this.#backend.grant(ttlMs);
  }

  async keepAlive(lease: LeaseId): Promise<number> {
    return this.#backend.keepAlive(lease);
  }

  async revoke(lease: LeaseId): Promise<void> {
    await this.#backend.revoke(lease);
  }

  async *watch(prefixes: readonly string[], after: Rev, options: WatchOptions): AsyncIterable<Change> {
    prefixes.forEach(checkKey);
    let last = after;
    for await (const change of this.#backend.watch(prefixes, after, options)) {
      invariant(change.rev > last, `a watch went from revision ${last} to ${change.rev}`);
      last = this.#saw(change.rev, "part");
      yield change;
    }
  }

  async ack(intentId: string, router: string, lease: LeaseId): Promise<void> {
    checkKey(intentId);
    checkKey(router);
    await this.#backend.ack(intentId, router, lease);
  }

  acks(intentId: string, options: WatchOptions): AsyncIterable<ReadonlySet<string>> {
    checkKey(intentId);
    return this.#backend.acks(intentId, options);
  }

  async now(): Promise<number> {
    return this.#backend.now();
  }

  async close(): Promise<void> {
    await this.#backend.close();
  }

  /** A watch may still be delivering what is older than the newest answer (`part`); an answer may not. */
  #saw(rev: Rev, kind: "answer" | "part" = "answer"): Rev {
    if (kind === "answer" && rev < this.#seenRev) {
      throw new StoreWentBack(
        `control store ${this.storeId} is at revision ${rev}, but ${this.#seenRev} was seen before`,
      );
    }
    this.#seenRev = Math.max(this.#seenRev, rev);
    return rev;
  }
}

function checkTxn(guards: readonly Guard[], ops: readonly Op[]): void {
  invariant(ops.length <= limits.ops, `${ops.length} operations in one transaction`);
  invariant(guards.length <= limits.guards, `${guards.length} guards in one transaction`);
  const guarded = new Set(guards.map((guard) => guard.key));
  invariant(guarded.size === guards.length, "a transaction guards a key twice");
  const written = new Set<string>();
  for (const op of ops) {
    const key = "put" in op ? op.put : op.del;
    checkKey(key);
    invariant(!written.has(key), `a transaction writes ${key} twice`);
    // Without its guard a write that is sent again after a lost answer could undo what came in between.
    invariant(guarded.has(key), `a transaction writes ${key} without a guard`);
    written.add(key);
    if ("put" in op) {
      invariant(op.value.byteLength <= limits.valueBytes, `${op.value.byteLength} bytes for ${key}`);
    }
  }
}

/** Printable ASCII: the same bytes, order and prefixes in every backend. */
function checkKey(key: string): void {
  invariant(
    /^[\x21-\x7e]+$/.test(key) && key.length <= limits.keyBytes,
    `not a key of a control store: ${key}`,
  );
}
