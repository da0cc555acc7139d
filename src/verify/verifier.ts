import type { Digest, KeyId, KeyInterval } from "../engines/engine.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import type { MoveWork, TableWork } from "../job/table-work.ts";
import { Notifier } from "../lib/wait.ts";
import type { Tail } from "../tail/tail.ts";
import { differingKeys, MismatchError, type Mismatch } from "./mismatch.ts";

/** Power of two: a chunk of 50,000 rows is narrowed to about 200 rows a bucket. */
const bucketCount = 256;
const batchKeys = 1_000;
/** How long a look waits for its keys to come to rest. */
const maxCleanMs = 300;
/** Beyond this many keys written since their chunk was verified, they come before the next chunk: memory is bounded. */
const maxUnproven = 100_000;
/** More would not fit a pause; the attempt is given up and tried again (DESIGN, verification). */
const maxKeysInGate = 20_000;

interface TableQueue {
  /** Loaded intervals that are not verified yet, by their lower end. */
  readonly waiting: Map<KeyId | undefined, KeyInterval>;
  /** Keys that differed in a chunk and were not looked at since. */
  readonly suspects: Set<KeyId>;
}

/**
 * Proves that the target's slice equals the source's, behind the copy: chunk hashes on both servers in parallel, a
 * differing chunk narrowed to keys, keys looked at again.
 *
 * A difference is real when the log reader has passed a barrier taken after both reads, the key was recopied, and it
 * differs again without having been dirtied in between (DESIGN section 3; facts/pitfalls, 16). What is written after
 * its interval was read is verified again by key.
 */
export class Verifier {
  readonly #move: MoveWork;
  readonly #tail: Tail;
  readonly #queues: ReadonlyMap<TableWork, TableQueue>;
  readonly #changed = new Notifier();
  readonly #mismatches = new Map<string, Mismatch>();
  #rows = 0;

  constructor(move: MoveWork, tail: Tail) {
    this.#move = move;
    this.#tail = tail;
    this.#queues = new Map(
      move.tables.map((table) => [table, { waiting: new Map(), suspects: new Set<KeyId>() }]),
    );
  }

  /** A chunk is on the target and may be read. */
  add(table: TableWork, interval: KeyInterval): void {
    this.#queue(table).waiting.set(interval.from, interval);
    this.#changed.notify();
  }

  get mismatches(): readonly Mismatch[] {
    return [...this.#mismatches.values()];
  }

  /** Rows whose hash was compared by chunk. */
  get rows(): number {
    return this.#rows;
  }

  /** Every chunk was read once, every suspicion was looked into, and at most a few new keys are left to prove. */
  get settled(): boolean {
    return this.#move.tables.every(
      (table) =>
        table.verified.complete && this.#queue(table).suspects.size === 0 && table.unproven.size <= batchKeys,
    );
  }

  /** Verifies until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!(await this.#step(signal))) await this.#changed.wait(signal, 100);
    }
  }

  throwIfDifferent(): void {
    if (this.#mismatches.size > 0) {
      throw new MismatchError(this.mismatches, this.#move.from, this.#move.to);
    }
  }

  /**
   * Inside the gate, after the drain: nothing moves any more, so every difference is real. Keys that the background
   * loop has in hand are compared here too: they are still in their sets.
   */
  async verifyLast(signal: AbortSignal): Promise<void> {
    for (const table of this.#move.tables) {
      const keys = [...new Set([...table.unproven, ...this.#queue(table).suspects])];
      if (keys.length > maxKeysInGate) {
        throw new ShardliftError(
          "E_CUTOVER_NOT_DONE",
          `${keys.length} keys of ${table.shape.name} were written since they were verified; at most ${maxKeysInGate} are checked inside the gate`,
          { retryable: true },
        );
      }
      for (let index = 0; index < keys.length; index += batchKeys) {
        signal.throwIfAborted();
        const differing = await this.#compare(table, keys.slice(index, index + batchKeys));
        for (const found of differing) this.#report(table, found);
      }
    }
    this.throwIfDifferent();
  }

  /** Does one piece of work; false when there is none. */
  async #step(signal: AbortSignal): Promise<boolean> {
    this.#tail.throwIfFailed();
    const tables = this.#move.tables;
    for (const table of tables) {
      const interval = table.unproven.size > maxUnproven ? undefined : this.#nextInterval(table);
      if (interval === undefined) continue;
      await this.#verifyInterval(table, interval);
      return true;
    }
    for (const table of tables) {
      const { suspects } = this.#queue(table);
      if (suspects.size === 0) continue;
      await this.#look(table, suspects, signal);
      return true;
    }
    for (const table of tables) {
      if (table.unproven.size === 0) continue;
      if ((await this.#look(table, table.unproven, signal)) >= batchKeys / 10) return true;
    }
    return false;
  }

  /**
   * Looks at some keys of a set, first without waiting for anything: nearly all are equal. Only a key that was clean
   * all the while leaves the set; every other one goes to the end of `unproven`. Returns how many were looked at.
   */
  async #look(table: TableWork, set: Set<KeyId>, signal: AbortSignal): Promise<number> {
    const keys = headOf(set, batchKeys);
    using watch = table.dirty.watch(keys);
    // The recopy of a key that is dirty now may come after the reads, under a mark that is older than the watch.
    const moving = new Set(keys.filter((key) => table.dirty.has(key)));
    const differing = await this.#compare(table, keys);
    if (differing.length > 0) {
      const suspects = differing.map(({ key }) => key);
      for (const key of await this.#prove(table, suspects, signal)) moving.add(key);
    }
    for (const key of keys) {
      set.delete(key);
      if (moving.has(key) || watch.touched(key)) table.unproven.add(key);
    }
    return keys.length;
  }

  /** From the left, so that `verified` stays one interval; chunks are loaded almost in this order. */
  #nextInterval(table: TableWork): KeyInterval | undefined {
    const gap = table.verified.nextGap();
    return gap === undefined ? undefined : this.#queue(table).waiting.get(gap.from);
  }

  async #verifyInterval(table: TableWork, next: KeyInterval): Promise<void> {
    const { shape, verified } = table;
    const { source, target, slice } = this.#move;
    // Marked before the reads: what is recopied from now on has to be proven by key.
    const interval = verified.mark(next.to);
    this.#queue(table).waiting.delete(next.from);
    try {
      const [here, there] = await Promise.all([
        source.digests.of(shape, slice, interval),
        target.digests.of(shape, slice, interval),
      ]);
      if (!sameDigest(here, there)) await this.#narrow(table, interval);
      this.#rows += here.rows;
    } catch (error) {
      verified.unmark(interval);
      this.#queue(table).waiting.set(next.from, next);
      throw error;
    }
    verified.markCopied(interval);
  }

  async #narrow(table: TableWork, interval: KeyInterval): Promise<void> {
    const { shape } = table;
    const { source, target, slice } = this.#move;
    const [here, there] = await Promise.all([
      source.digests.buckets(shape, slice, interval, bucketCount),
      target.digests.buckets(shape, slice, interval, bucketCount),
    ]);
    const buckets = [...new Set([...here.keys(), ...there.keys()])].filter(
      (bucket) => !sameDigest(here.get(bucket), there.get(bucket)),
    );
    if (buckets.length === 0) return;
    const [ours, theirs] = await Promise.all([
      source.digests.listed(shape, slice, interval, bucketCount, buckets),
      target.digests.listed(shape, slice, interval, bucketCount, buckets),
    ]);
    const keys = differingKeys(ours, theirs).map(({ key }) => key);
    for (const key of keys) this.#queue(table).suspects.add(key);
  }

  /**
   * One look at keys that differed: they are equal now, really different (reported), or too restless to tell. Returns
   * the restless ones; they are looked at again, at the latest inside the gate.
   */
  async #prove(table: TableWork, suspects: readonly KeyId[], signal: AbortSignal): Promise<KeyId[]> {
    using watch = table.dirty.watch(suspects);
    await this.#clean(table, suspects, signal);
    // Still dirty: its recopy may land between the reads below and the last look, and would not be seen by the watch.
    const dirty = new Set(suspects.filter((key) => table.dirty.has(key)));
    const differing = await this.#compare(table, suspects);
    if (differing.length === 0) return [];
    // The second reads may have seen a change that the log had not shown yet.
    await this.#tail.passed(await this.#tail.raise(), signal);
    const moved = ({ key }: Found): boolean => dirty.has(key) || watch.touched(key) || table.dirty.has(key);
    for (const found of differing) if (!moved(found)) this.#report(table, found);
    return differing.filter(moved).map(({ key }) => key);
  }

  /** Waits until the log is read up to now and none of the keys is dirty; not for ever, since hot keys never rest. */
  async #clean(table: TableWork, keys: readonly KeyId[], signal: AbortSignal): Promise<void> {
    await this.#tail.passed(await this.#tail.raise(), signal);
    const until = performance.now() + maxCleanMs;
    while (performance.now() < until && keys.some((key) => table.dirty.has(key))) {
      this.#tail.throwIfFailed();
      await this.#changed.wait(signal, 10);
    }
  }

  async #compare(table: TableWork, keys: readonly KeyId[]): Promise<Found[]> {
    const { source, target, slice } = this.#move;
    const [here, there] = await Promise.all([
      source.digests.at(table.shape, slice, keys),
      target.digests.at(table.shape, slice, keys),
    ]);
    return differingKeys(here, there).map(({ key, kind }) => ({
      key,
      kind,
      sourceHash: here.get(key),
      targetHash: there.get(key),
    }));
  }

  #queue(table: TableWork): TableQueue {
    const queue = this.#queues.get(table);
    invariant(queue !== undefined, `table ${table.shape.name} is not verified here`);
    return queue;
  }

  #report(table: TableWork, found: Found): void {
    const shown = this.#move.source.catalog.formatKey(table.shape, found.key);
    this.#mismatches.set(mismatchId(table, found.key), { table: table.shape.name, shown, ...found });
  }
}

type Found = Omit<Mismatch, "table" | "shown">;

function mismatchId(table: TableWork, key: KeyId): string {
  return `${table.shape.name}\0${key}`;
}

function sameDigest(a: Digest | undefined, b: Digest | undefined): boolean {
  return (a?.rows ?? 0) === (b?.rows ?? 0) && (a === undefined || b === undefined || a.hash === b.hash);
}

function headOf(set: ReadonlySet<KeyId>, limit: number): KeyId[] {
  const keys: KeyId[] = [];
  for (const key of set) {
    if (keys.length >= limit) break;
    keys.push(key);
  }
  return keys;
}
