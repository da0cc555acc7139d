import { ShardliftError } from "../errors/error.ts";

/**
 * The contract of every control store: a small key-value store with guarded transactions, leases and a watch. Maps,
 * jobs, journals, locks and router acknowledgements live in it. Backends differ in speed, never in these promises
 * (facts: control.md section 1); one contract suite runs against all of them.
 *
 * - Order: transactions are totally ordered by `rev`, which grows by one with each; a watch delivers whole
 *   transactions in that order, without a gap.
 * - Writes: every write is a transaction whose guards name every key that it writes, and every value carries a stamp.
 *   The client never repeats a write by itself; an unknown outcome is settled by `settle` (control/settle.ts).
 * - Clock: leases and deadlines are measured by the store's clock (`now`), never by the caller's.
 */
export interface ControlStore {
  /** Made once, at random, with the store. Servers carry it, so that two stores can never both own a shard. */
  readonly storeId: string;
  /** What an operator should know about where the store lives (tmpfs, FUSE …). */
  readonly warnings: readonly string[];
  /** The newest revision; throws StoreWentBack when it is below one that this client has seen. */
  revision(): Promise<Rev>;
  get(key: string): Promise<Entry | undefined>;
  /** One snapshot, in key order; a watch from `rev` then has no gap. */
  list(prefix: string): Promise<{ readonly rev: Rev; readonly entries: readonly Entry[] }>;
  /**
   * All guards hold and all operations are done, or none. Throws OutcomeUnknown when it was sent but not answered;
   * every other error means that nothing was written.
   */
  txn(guards: readonly Guard[], ops: readonly Op[], options?: TxnOptions): Promise<TxnResult>;
  grant(ttlMs: number): Promise<Lease>;
  /** Starts the lease's time anew; returns the ms that it now has. Throws LeaseGone. */
  keepAlive(lease: LeaseId): Promise<number>;
  /** Ends the lease and deletes its keys. Idempotent. */
  revoke(lease: LeaseId): Promise<void>;
  /**
   * The transactions after `after` that touch one of the prefixes, whole for those prefixes, in order. Ends when the
   * signal aborts or the store is closed; throws Compacted when events after `after` are no longer kept.
   */
  watch(prefixes: readonly string[], after: Rev, options: WatchOptions): AsyncIterable<Change>;
  /** Says that a router has done what the intent asks for. Cheap: no revision, weaker durability. Throws LeaseGone. */
  ack(intentId: string, router: string, lease: LeaseId): Promise<void>;
  /** The routers that have acknowledged and whose lease is alive; the set now, then again whenever it changed. */
  acks(intentId: string, options: WatchOptions): AsyncIterable<ReadonlySet<string>>;
  /** The store's clock in ms. Only differences mean something; it never goes back while the store's host is up. */
  now(): Promise<number>;
  /** Ends all watches first. Idempotent. */
  close(): Promise<void>;
}

/** Global revision: the number of the newest committed transaction. */
export type Rev = number;
export type LeaseId = number;

export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  /** The transaction that wrote the entry last; a claim's fencing token is the `rev` of its key. */
  readonly rev: Rev;
  readonly lease: LeaseId | undefined;
}

/** The key must stand at exactly this revision; 0 = it must not exist. */
export interface Guard {
  readonly key: string;
  readonly rev: Rev;
}

export type Op =
  | { readonly put: string; readonly value: Uint8Array; readonly lease?: LeaseId }
  | { readonly del: string };

export type TxnResult =
  | { readonly ok: true; readonly rev: Rev }
  /** `current` holds the guards' entries, in the order of the guards, from one snapshot. */
  | { readonly ok: false; readonly rev: Rev; readonly current: readonly (Entry | undefined)[] };

export interface TxnOptions {
  /** How long to try, in ms from now. */
  readonly deadlineMs?: number;
}

export interface Lease {
  readonly id: LeaseId;
  /** What was granted; a backend may round up. */
  readonly ttlMs: number;
}

export interface WatchOptions {
  readonly signal: AbortSignal;
  /** For backends that poll: asked before each wait, so that the caller can hurry. Default 20 ms. */
  readonly pollMs?: () => number;
}

export interface Change {
  readonly rev: Rev;
  readonly events: readonly StoreEvent[];
}

export type StoreEvent =
  | { readonly kind: "put"; readonly key: string; readonly entry: Entry }
  | { readonly kind: "del"; readonly key: string };

/** A write was sent and its answer is missing: it may have been applied, or may still be. Settle it. */
export class OutcomeUnknown extends ShardliftError {
  constructor(message: string, cause: unknown) {
    super("E_WRITE_UNKNOWN", message, { cause });
  }
}

/** The lease ran out or was revoked; its keys are gone. */
export class LeaseGone extends ShardliftError {
  constructor(lease: LeaseId) {
    super("E_LEASE_LOST", `lease ${lease} has run out or was revoked`);
  }
}

/** Events after the asked revision are no longer kept; list again and watch from there. */
export class Compacted extends ShardliftError {
  readonly keptAfter: Rev;

  constructor(after: Rev, keptAfter: Rev) {
    super(
      "E_CONTROL_STORE",
      `events after revision ${after} are gone; only those after ${keptAfter} are kept`,
      {
        retryable: true,
      },
    );
    this.keptAfter = keptAfter;
  }
}

/** The store has forgotten acknowledged writes (restored backup, replaced file): nothing in it may be trusted. */
export class StoreWentBack extends ShardliftError {
  constructor(message: string) {
    super("E_STORE_WENT_BACK", message);
  }
}
