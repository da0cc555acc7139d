import type { Barrier, KeyId, Position } from "../engines/engine.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import type { MoveWork, TableWork } from "../job/table-work.ts";
import { Mutex, Notifier, sleep } from "../lib/wait.ts";
import { Checkpoints } from "./checkpoints.ts";
import { LagMeter } from "./lag-meter.ts";
import { Recopier } from "./recopier.ts";

/** Beyond this many dirty keys the log reader slows down; nothing is dropped. About 100 bytes each. */
const maxDirtyKeys = 300_000;
const checkpointEveryMs = 1_000;

/**
 * Follows the source's log for one move: log → dirty keys → recopy, with checkpoints at the target.
 *
 * Order of use: `start` once, before the first chunk is read (rule 1: the position was saved before); `drain` any
 * number of times; `stop` once. After an error every call throws it: the log is never followed past something that
 * was not understood (rule 10).
 */
export class Tail {
  readonly #move: MoveWork;
  readonly #job: string;
  readonly #changed = new Notifier();
  readonly #stop = new AbortController();
  readonly #checkpoints: Checkpoints;
  readonly #lag = new LagMeter();
  readonly #saving = new Mutex();
  readonly #recopiers: readonly Recopier[];
  #batch = 0;
  #passed = 0;
  #urgent = 0;
  #scanned = 0;
  #tasks: Promise<void> | undefined;
  #failure: unknown;

  constructor(move: MoveWork, job: string, from: Position) {
    this.#move = move;
    this.#job = job;
    this.#checkpoints = new Checkpoints(from);
    this.#recopiers = move.tables.map(
      (table) =>
        new Recopier(move, table, {
          changed: this.#changed,
          raise: (mark) => this.raise(mark),
          pin: (keys) => this.#pin(table, keys),
          urgent: () => this.#urgent > 0,
        }),
    );
  }

  start(): void {
    invariant(this.#tasks === undefined, "a tail was started twice");
    const signal = this.#stop.signal;
    const guarded = async (task: Promise<void>): Promise<void> => {
      try {
        await task;
      } catch (error) {
        // The end of our own stop is no failure; anything else ends all loops, and the first one is kept.
        if (this.#failure === undefined && !(signal.aborted && error === signal.reason))
          this.#failure = error;
        this.#stop.abort(error);
        this.#changed.notify();
      }
    };
    this.#tasks = Promise.all([
      guarded(this.#readLog(signal)),
      guarded(this.#saveCheckpoints(signal)),
      guarded(this.#probe(signal)),
      ...this.#recopiers.map((recopier) => guarded(recopier.run(signal))),
    ]).then(() => undefined);
  }

  /** Commits a marker at the source; reads that start afterwards see all that the log has shown. */
  async raise(mark?: Parameters<MoveWork["source"]["barriers"]["raise"]>[0]): Promise<Barrier> {
    const startedAt = performance.now();
    const barrier = await this.#move.source.barriers.raise(mark);
    this.#lag.raised(barrier.n, startedAt);
    return barrier;
  }

  /** Waits until the log reader has passed the barrier. */
  async passed(barrier: Barrier, signal: AbortSignal): Promise<void> {
    while (this.#passed < barrier.n) await this.#wait(signal);
  }

  /** Waits until the log is read up to the barrier and no key is dirty: then target = source as of the barrier. */
  async drain(barrier: Barrier, signal: AbortSignal): Promise<void> {
    this.#urgent += 1;
    this.#changed.notify();
    try {
      await this.passed(barrier, signal);
      while (this.#move.tables.some((table) => table.dirty.size > 0)) await this.#wait(signal);
    } finally {
      this.#urgent -= 1;
    }
  }

  /** Throws the error that ended the tail, if one did. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Wakes everybody who waits for progress, for example after a chunk was copied. */
  wake(): void {
    this.#changed.notify();
  }

  status(): {
    readonly lagMs: number;
    readonly livenessMs: number;
    readonly dirtyKeys: number;
    readonly checkpointAgeMs: number | undefined;
    readonly scanned: number;
    readonly position: Position;
  } {
    return {
      lagMs: this.#lag.lagMs(),
      livenessMs: this.#lag.livenessMs(),
      dirtyKeys: this.#dirtyCount(),
      checkpointAgeMs: this.#checkpoints.ageMs(),
      scanned: this.#scanned,
      position: this.#checkpoints.saved.position,
    };
  }

  /** Called by writers before they commit a delete that made room for a unique key (rule 6). */
  async pinDisplaced(table: TableWork, keys: readonly KeyId[]): Promise<void> {
    await this.#pin(table, keys);
  }

  /**
   * Ends following: the batch in hand is finished, a last checkpoint is saved unless nobody will need it (the slice is
   * about to flip, and each commit makes its writers wait). Idempotent.
   */
  async stop(options: { readonly checkpoint: boolean } = { checkpoint: true }): Promise<void> {
    this.#stop.abort(new ShardliftError("E_INTERRUPTED", "the tail was stopped"));
    this.#changed.notify();
    await this.#tasks;
    if (options.checkpoint && this.#failure === undefined) await this.#saveCheckpoint();
  }

  async #readLog(signal: AbortSignal): Promise<void> {
    const { source, slice, tables } = this.#move;
    const byName = new Map(tables.map((table) => [table.shape.name, table]));
    const scope = { job: this.#job, tables: tables.map((table) => table.shape), slice };
    for await (const batch of source.log.since(this.#checkpoints.saved.position, scope, signal)) {
      this.#batch += 1;
      for (const { table: name, keys } of batch.changes) {
        const table = byName.get(name);
        invariant(table !== undefined, `the log reader delivered keys of ${name}, which does not move`);
        this.#mark(table, keys);
      }
      if (batch.position !== undefined) this.#checkpoints.reached(this.#batch, batch.position);
      if (batch.barrier !== undefined && batch.barrier > this.#passed) {
        this.#passed = batch.barrier;
        this.#lag.passed(batch.barrier);
      }
      this.#lag.heard();
      this.#scanned += batch.scanned;
      this.#changed.notify();
      while (this.#dirtyCount() >= maxDirtyKeys) await this.#changed.wait(signal);
    }
    signal.throwIfAborted();
    throw new ShardliftError("E_BUG", "the log reader ended by itself");
  }

  /** Rule 2: a key of an interval that is not yet marked is dropped, since its read comes after the barrier. */
  #mark(table: TableWork, keys: readonly KeyId[]): void {
    const { copied, dirty } = table;
    for (const key of keys) {
      if (copied.ordered && copied.place(key) === "unmarked") continue;
      dirty.mark(key, this.#batch);
    }
  }

  async #saveCheckpoints(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(checkpointEveryMs, signal);
      await this.#saveCheckpoint();
    }
  }

  /** Rule 7: a position is saved only when every change up to it is applied. */
  async #saveCheckpoint(): Promise<void> {
    await this.#saving.run(async () => {
      const next = this.#checkpoints.nextToSave(this.#oldestUnresolved());
      if (next === undefined) return;
      const { source, target, from } = this.#move;
      await target.ledger.saveCheckpoint(from, next.position, source.server.id);
      this.#checkpoints.markSaved(next);
    });
  }

  /**
   * A displaced row's own event may lie below the saved checkpoint, so no later position may be saved until the key
   * was copied again (facts/pitfalls, 3). A save in progress is waited for.
   */
  async #pin(table: TableWork, keys: readonly KeyId[]): Promise<void> {
    await this.#saving.run(() => {
      for (const key of keys) table.dirty.mark(key, this.#checkpoints.saved.batch + 1);
      return Promise.resolve();
    });
    this.#changed.notify();
  }

  /** A quiet source shows no lag by itself: a marker of our own is timed once a second. */
  async #probe(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.raise();
      await sleep(1_000, signal);
    }
  }

  #oldestUnresolved(): number | undefined {
    let oldest: number | undefined;
    for (const { dirty } of this.#move.tables) {
      const batch = dirty.oldest();
      if (batch !== undefined && (oldest === undefined || batch < oldest)) oldest = batch;
    }
    return oldest;
  }

  #dirtyCount(): number {
    let count = 0;
    for (const { dirty } of this.#move.tables) count += dirty.size;
    return count;
  }

  async #wait(signal: AbortSignal): Promise<void> {
    this.throwIfFailed();
    await this.#changed.wait(signal);
    this.throwIfFailed();
  }
}
