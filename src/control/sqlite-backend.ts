import { invariant, ShardliftError } from "../errors/error.ts";
import { Notifier } from "../lib/wait.ts";
import type { HostIdentity } from "./host-identity.ts";
import type { SqliteAcks } from "./sqlite-acks.ts";
import { defaultDeadlineMs, immediately, inSnapshot, patiently, type Database } from "./sqlite-database.ts";
import { fileIdentity } from "./sqlite-file.ts";
import { entryOf, keyRange, prepareStatements, type Statements } from "./sqlite-rows.ts";
import { watchSqlite } from "./sqlite-watch.ts";
import {
  LeaseGone,
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

/** About an hour of a busy job; a watcher that was away for longer lists again. */
const defaultKeepRevisions = 4096;
/** How often, at most, a watch looks for leases that ran out. */
const reapEveryMs = 100;

export interface SqliteParts {
  readonly path: string;
  readonly database: Database;
  /** Absent when the store is only read. */
  readonly acks: SqliteAcks | undefined;
  readonly storeId: string;
  readonly host: HostIdentity;
  readonly warnings: readonly string[];
  /** How many of the newest revisions a watch can still ask for. */
  readonly keepRevisions: number | undefined;
}

/**
 * The control store in one SQLite file: for one host (facts: control.md 4). Every write is one BEGIN IMMEDIATE
 * transaction made within one tick, so a transaction of this connection is never open across an await.
 *
 * Invariant: rev grows by exactly one with each transaction that writes, and its events are written with it.
 */
export class SqliteBackend implements ControlStore {
  readonly storeId: string;
  readonly warnings: readonly string[];
  readonly #path: string;
  readonly #database: Database;
  readonly #acks: SqliteAcks | undefined;
  readonly #boot: string;
  readonly #keepRevisions: number;
  readonly #file: string | undefined;
  readonly #sql: Statements;
  readonly #closing = new AbortController();
  readonly #committed = new Notifier();
  #ownCommits = 0;
  #reapedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: SqliteParts) {
    this.storeId = parts.storeId;
    this.warnings = parts.warnings;
    this.#path = parts.path;
    this.#database = parts.database;
    this.#acks = parts.acks;
    this.#boot = parts.host.bootId;
    this.#keepRevisions = parts.keepRevisions ?? defaultKeepRevisions;
    this.#file = fileIdentity(parts.path);
    this.#sql = prepareStatements(parts.database);
  }

  async revision(): Promise<Rev> {
    return this.#read(() => this.#rev());
  }

  async get(key: string): Promise<Entry | undefined> {
    return this.#read(() => this.#entry(key));
  }

  async list(prefix: string): Promise<{ readonly rev: Rev; readonly entries: readonly Entry[] }> {
    return this.#read(() =>
      inSnapshot(this.#database, () => ({
        rev: this.#rev(),
        entries: this.#sql.list
          .all(this.#boot, clock(), ...keyRange(prefix))
          .flatMap((row) => entryOf(row) ?? []),
      })),
    );
  }

  async txn(guards: readonly Guard[], ops: readonly Op[], options: TxnOptions = {}): Promise<TxnResult> {
    return this.#write(options.deadlineMs, () => {
      this.#reap();
      const current = guards.map(({ key }) => this.#entry(key));
      const rev = this.#rev();
      if (!guards.every((guard, index) => (current[index]?.rev ?? 0) === guard.rev))
        return { ok: false, rev, current };
      return { ok: true, rev: this.#apply(rev, ops) };
    });
  }

  async grant(ttlMs: number): Promise<Lease> {
    return this.#write(undefined, () => {
      const row = this.#sql.addLease.get(ttlMs, this.#boot, clock() + ttlMs);
      return { id: Number(row?.["id"]), ttlMs };
    });
  }

  /**
   * Not synced: a power cut ends the boot and with it every lease, so there is nothing to keep. A later FULL commit
   * syncs the whole log before it, so no order is broken either.
   */
  async keepAlive(lease: LeaseId): Promise<number> {
    this.#assertWritable();
    const row = await this.#read(() => {
      this.#database.exec("PRAGMA synchronous = NORMAL");
      try {
        const now = clock();
        return this.#sql.renewLease.get(now, lease, this.#boot, now);
      } finally {
        this.#database.exec("PRAGMA synchronous = FULL");
      }
    });
    if (row === undefined) throw new LeaseGone(lease);
    return Number(row["ttl_ms"]);
  }

  async revoke(lease: LeaseId): Promise<void> {
    await this.#write(undefined, () => this.#endLease(lease));
  }

  watch(prefixes: readonly string[], after: Rev, options: WatchOptions): AsyncIterable<Change> {
    return watchSqlite(this.#database, prefixes, after, {
      signal: AbortSignal.any([options.signal, this.#closing.signal]),
      pollMs: options.pollMs,
      committed: this.#committed,
      version: () => `${String(this.#sql.dataVersion.get()?.["data_version"])}/${this.#ownCommits}`,
      counter: () => {
        const row = this.#sql.rev.get();
        return { rev: Number(row?.["rev"]), keptAfter: Number(row?.["kept_after"]) };
      },
      read: async (work) => this.#read(work),
      idle: async () => this.#reapSometimes(),
    });
  }

  async ack(intentId: string, router: string, lease: LeaseId): Promise<void> {
    const acks = this.#assertWritable();
    if (!(await this.#read(() => this.#isAlive(lease)))) throw new LeaseGone(lease);
    await acks.add(intentId, router, lease);
  }

  acks(intentId: string, options: WatchOptions): AsyncIterable<ReadonlySet<string>> {
    return this.#assertWritable().of(intentId, {
      signal: AbortSignal.any([options.signal, this.#closing.signal]),
      pollMs: options.pollMs,
      aliveLeases: async () =>
        this.#read(
          () => new Set(this.#sql.aliveLeases.all(this.#boot, clock()).map((row) => Number(row["id"]))),
        ),
    });
  }

  async now(): Promise<number> {
    return clock();
  }

  /** Watches see the signal before they touch the database again, so nothing has to be waited for. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#acks?.close();
    this.#database.close();
  }

  async #read<T>(work: () => T): Promise<T> {
    return patiently(this.#path, performance.now() + defaultDeadlineMs, () => {
      this.#assertSameFile();
      return work();
    });
  }

  async #write<T>(deadlineMs: number | undefined, work: () => T): Promise<T> {
    this.#assertWritable();
    const end = performance.now() + (deadlineMs ?? defaultDeadlineMs);
    const result = await immediately(this.#path, this.#database, end, () => {
      // Inside the transaction: what is committed into a file that is no longer the store's would be lost.
      this.#assertSameFile();
      return work();
    });
    this.#ownCommits++;
    this.#committed.notify();
    return result;
  }

  #rev(): Rev {
    return Number(this.#sql.rev.get()?.["rev"]);
  }

  #entry(key: string): Entry | undefined {
    return entryOf(this.#sql.get.get(this.#boot, clock(), key));
  }

  #apply(before: Rev, ops: readonly Op[]): Rev {
    if (ops.length === 0) return before;
    const rev = before + 1;
    for (const [n, op] of ops.entries()) {
      if ("put" in op) {
        if (op.lease !== undefined && !this.#isAlive(op.lease)) throw new LeaseGone(op.lease);
        this.#sql.put.run(op.put, op.value, rev, op.lease ?? null);
        this.#sql.addEvent.run(rev, n, op.put, op.value, op.lease ?? null);
      } else {
        this.#sql.del.run(op.del);
        this.#sql.addEvent.run(rev, n, op.del, null, null);
      }
    }
    this.#sql.setRev.run(rev);
    this.#forgetEvents(rev);
    return rev;
  }

  /** In strides, so that most transactions do not pay for it. */
  #forgetEvents(rev: Rev): void {
    const stride = Math.max(1, this.#keepRevisions >> 4);
    if (rev <= this.#keepRevisions || rev % stride !== 0) return;
    this.#sql.forgetEvents.run(rev - this.#keepRevisions);
    this.#sql.setKeptAfter.run(rev - this.#keepRevisions);
  }

  #isAlive(lease: LeaseId): boolean {
    return this.#sql.leaseTtl.get(lease, this.#boot, clock()) !== undefined;
  }

  /** Within a write transaction: deletes what belongs to leases that ran out, as transactions of their own. */
  #reap(): void {
    for (const row of this.#sql.deadLeases.all(this.#boot, clock())) this.#endLease(Number(row["id"]));
  }

  #endLease(lease: LeaseId): void {
    const keys = this.#sql.keysOfLease.all(lease).map((row) => String(row["key"]));
    this.#apply(
      this.#rev(),
      keys.map((del) => ({ del })),
    );
    this.#sql.delLease.run(lease);
  }

  /** So that a watcher learns of an ended lease although nobody writes. */
  async #reapSometimes(): Promise<void> {
    if (this.#acks === undefined || performance.now() - this.#reapedAt < reapEveryMs) return;
    this.#reapedAt = performance.now();
    const dead = await this.#read(() => this.#sql.deadLeases.get(this.#boot, clock()));
    if (dead !== undefined) await this.#write(undefined, () => this.#reap());
  }

  #assertWritable(): SqliteAcks {
    invariant(this.#acks !== undefined, `control store ${this.#path} was opened for reading only`);
    return this.#acks;
  }

  #assertSameFile(): void {
    if (this.#closing.signal.aborted) {
      throw new ShardliftError("E_CONTROL_STORE", `control store ${this.#path} is closed`);
    }
    if (fileIdentity(this.#path) !== this.#file) {
      throw new StoreWentBack(`control store ${this.#path} was removed or replaced while it was in use`);
    }
  }
}

/** CLOCK_MONOTONIC: one for all processes of a boot, and no one can set it (clock_gettime(2)). */
function clock(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}
