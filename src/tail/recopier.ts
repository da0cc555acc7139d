import type { Barrier, KeyId, KeyInterval } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import type { MoveWork, TableWork } from "../job/table-work.ts";
import { sleep, type Notifier } from "../lib/wait.ts";

/** Keys of one recopy transaction: 1,000 cost about 19 ms, 20 about 1.6 ms (DESIGN rule 4). */
const batchKeys = 1_000;
/** While nobody waits for a drain, small batches are given time to grow: each costs a commit at both servers. */
const lingerMs = 50;
/** A lost connection or a deadlock that the writer could not settle by itself. */
const maxAttempts = 8;

export interface RecopierPorts {
  readonly changed: Notifier;
  raise(mark?: { readonly table: string; readonly interval: KeyInterval }): Promise<Barrier>;
  pin(keys: readonly KeyId[]): Promise<void>;
  urgent(): boolean;
}

/**
 * Brings the dirty keys of one table to the target, one batch at a time (rule 4): take keys → barrier → read the
 * current rows → write them in one transaction. One loop a table keeps the batches of a table in order, which tables
 * with server-ordered keys need (rule 5), and makes it impossible for a key to be in two batches.
 */
export class Recopier {
  readonly #move: MoveWork;
  readonly #table: TableWork;
  readonly #ports: RecopierPorts;
  /** Server-ordered keys that were above the copied part at `#asked`. */
  #above = new Set<KeyId>();
  #asked: KeyId | undefined;

  constructor(move: MoveWork, table: TableWork, ports: RecopierPorts) {
    this.#move = move;
    this.#table = table;
    this.#ports = ports;
  }

  async run(signal: AbortSignal): Promise<void> {
    let attempt = 0;
    while (!signal.aborted) {
      const keys = await this.#take();
      if (keys.length === 0) {
        await this.#ports.changed.wait(signal);
        continue;
      }
      try {
        await this.#recopy(keys);
        attempt = 0;
      } catch (error) {
        this.#table.dirty.putBack(keys);
        attempt += 1;
        // Writing the current rows again is harmless, also when the lost answer was a commit's.
        if (!(error instanceof ShardliftError && error.retryable) || attempt >= maxAttempts) throw error;
        await sleep(Math.min(100 * 2 ** attempt, 5_000), signal);
      }
      this.#ports.changed.notify();
      if (!this.#ports.urgent() && keys.length < batchKeys) await sleepUnlessUrgent(this.#ports, signal);
    }
  }

  async #recopy(keys: readonly KeyId[]): Promise<void> {
    const { source, target, slice } = this.#move;
    const { shape, dirty, mayReplace } = this.#table;
    const barrier = await this.#ports.raise();
    const rows = source.reader.rowsAt(shape, slice, keys, barrier);
    await target.writer.recopy(
      { shape, slice, keys, mayReplace, displaced: (displaced) => this.#ports.pin(displaced) },
      rows,
    );
    this.#remember(keys);
    dirty.resolve(keys);
  }

  /** What was written after verification read its interval has to be proven again. */
  #remember(keys: readonly KeyId[]): void {
    const { verified, unproven } = this.#table;
    for (const key of keys) {
      if (verified.ordered && verified.place(key) === "unmarked") continue;
      unproven.add(key);
    }
  }

  async #take(): Promise<KeyId[]> {
    const { copied, dirty } = this.#table;
    if (copied.ordered) return dirty.take(batchKeys, (key) => copied.place(key) === "copied");
    const below = copied.copiedBelow();
    switch (below.part) {
      case "none":
        return [];
      case "all":
        return dirty.take(batchKeys, () => true);
      case "below":
        return await this.#takeBelow(below.key);
    }
  }

  /** The server says which keys lie in the copied part; the others wait until it has grown. */
  async #takeBelow(boundary: KeyId): Promise<KeyId[]> {
    const { dirty, shape } = this.#table;
    if (this.#asked !== boundary) {
      this.#asked = boundary;
      this.#above = new Set();
    }
    const candidates = dirty.take(batchKeys, (key) => !this.#above.has(key));
    if (candidates.length === 0) return [];
    let below: boolean[];
    try {
      below = await this.#move.source.reader.below(shape, candidates, boundary);
    } catch (error) {
      dirty.putBack(candidates);
      throw error;
    }
    const waiting = candidates.filter((_, index) => below[index] !== true);
    for (const key of waiting) this.#above.add(key);
    dirty.putBack(waiting);
    return candidates.filter((_, index) => below[index] === true);
  }
}

async function sleepUnlessUrgent(ports: RecopierPorts, signal: AbortSignal): Promise<void> {
  const until = performance.now() + lingerMs;
  while (!signal.aborted && !ports.urgent() && performance.now() < until) {
    await ports.changed.wait(signal, until - performance.now());
  }
}
