import type { KeyInterval } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import type { MoveWork, TableWork } from "../job/table-work.ts";
import { Mutex, Notifier, sleep } from "../lib/wait.ts";
import type { Tail } from "../tail/tail.ts";
import { withinChunkLimit } from "./chunk-limit.ts";
import { ChunkSize } from "./chunk-size.ts";
import type { Pace } from "./pace.ts";
import type { Throttle } from "./throttle.ts";

/** A connection lost in the middle of a chunk; the chunk is copied again. */
const maxAttempts = 8;

export interface CopierOptions {
  readonly threads: number;
  readonly chunkTargetMs: number;
  readonly pace: Pace;
  readonly throttle: Throttle;
  /** Called after each chunk. */
  readonly copied: (table: TableWork, interval: KeyInterval, rows: number, bytes: number) => void;
}

/**
 * Copies the chunks of one move: mark in flight → barrier → read → load → mark copied (rule 2). Several workers share
 * the tables; a table whose keys only the server can order is copied by one at a time, from the left.
 */
export class Copier {
  readonly #move: MoveWork;
  readonly #tail: Tail;
  readonly #options: CopierOptions;
  readonly #free = new Notifier();
  /** Per table: choosing a chunk's upper end asks the server, and two workers must not choose the same gap. */
  readonly #choosing: ReadonlyMap<TableWork, Mutex>;
  readonly #sizes: ReadonlyMap<TableWork, ChunkSize>;

  constructor(move: MoveWork, tail: Tail, options: CopierOptions) {
    this.#move = move;
    this.#tail = tail;
    this.#options = options;
    this.#choosing = new Map(move.tables.map((table) => [table, new Mutex()]));
    this.#sizes = new Map(move.tables.map((table) => [table, new ChunkSize(options.chunkTargetMs)]));
  }

  /** Returns when every table is copied whole. An abort is obeyed between chunks: one in flight is finished. */
  async run(signal: AbortSignal): Promise<void> {
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    const worker = async (): Promise<void> => {
      try {
        await this.#work(stop);
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    };
    const results = await Promise.allSettled(Array.from({ length: this.#options.threads }, worker));
    if (failed.signal.aborted && !signal.aborted) throw failed.signal.reason;
    for (const result of results) if (result.status === "rejected") throw result.reason;
    for (const table of this.#move.tables) table.copied.assertWhole();
  }

  async #work(signal: AbortSignal): Promise<void> {
    while (this.#move.tables.some((table) => !table.copied.complete)) {
      signal.throwIfAborted();
      this.#tail.throwIfFailed();
      await this.#options.pace.wait(signal);
      await this.#options.throttle.wait(signal);
      const chosen = await this.#choose();
      if (chosen === undefined) await this.#free.wait(signal);
      else await this.#copyChunk(chosen.table, chosen.interval, signal);
    }
    this.#free.notify();
  }

  /** Marks the next chunk of the first table that has one to give. */
  async #choose(): Promise<{ table: TableWork; interval: KeyInterval } | undefined> {
    for (const table of this.#move.tables) {
      const interval = await this.#choosing.get(table)?.run(() => this.#mark(table));
      if (interval !== undefined) return { table, interval };
    }
    return undefined;
  }

  async #mark(table: TableWork): Promise<KeyInterval | undefined> {
    const { copied, shape } = table;
    const gap = copied.nextGap();
    if (gap === undefined || (!copied.ordered && copied.busy)) return undefined;
    const rows = this.#sizes.get(table)?.rows ?? 1_000;
    const end = await this.#move.source.reader.boundary(shape, this.#move.slice, gap.from, rows);
    return copied.mark(this.#within(table, end, gap.to));
  }

  /** The chosen end, but never past the end of the gap. */
  #within(table: TableWork, end: string | undefined, gapEnd: string | undefined): string | undefined {
    if (gapEnd === undefined) return end;
    if (end === undefined) return gapEnd;
    const { shape, copied } = table;
    if (!copied.ordered) return gapEnd;
    return this.#move.source.catalog.compareKeys(shape, end, gapEnd) < 0 ? end : gapEnd;
  }

  async #copyChunk(table: TableWork, interval: KeyInterval, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    const { rows, bytes } = await withinChunkLimit(this.#load(table, interval, signal), table.shape.name);
    table.copied.markCopied(interval);
    table.rowsLoaded += rows;
    this.#sizes.get(table)?.took(rows, performance.now() - startedAt);
    this.#options.pace.spent(bytes);
    this.#options.copied(table, interval, rows, bytes);
    this.#tail.wake();
    this.#free.notify();
  }

  async #load(
    table: TableWork,
    interval: KeyInterval,
    signal: AbortSignal,
  ): Promise<{ rows: number; bytes: number }> {
    const { source, target, slice, from } = this.#move;
    const { shape } = table;
    for (let attempt = 1; ; attempt += 1) {
      const barrier = await this.#tail.raise({ table: shape.name, interval });
      const rows = source.reader.rowsIn(shape, slice, interval, barrier);
      try {
        const displaced = (keys: readonly string[]): Promise<void> => this.#tail.pinDisplaced(table, keys);
        await target.writer.load({ shape, slice, source: from, interval, displaced }, rows);
        return { rows: rows.rowCount(), bytes: rows.byteCount() };
      } catch (error) {
        const loaded = await this.#loadedAfterAll(table, interval, error);
        if (loaded !== undefined) return { rows: loaded, bytes: rows.byteCount() };
        if (attempt >= maxAttempts) throw error;
        await sleep(Math.min(100 * 2 ** attempt, 5_000), signal);
      }
    }
  }

  /** After a lost answer to the commit the progress row tells whether the chunk is there (rule 7). */
  async #loadedAfterAll(
    table: TableWork,
    interval: KeyInterval,
    error: unknown,
  ): Promise<number | undefined> {
    if (!(error instanceof ShardliftError && error.retryable)) throw error;
    const chunks = await this.#move.target.ledger.loadedChunks(this.#move.from);
    return chunks.find(
      (chunk) =>
        chunk.table === table.shape.name &&
        chunk.interval.from === interval.from &&
        chunk.interval.to === interval.to,
    )?.rows;
  }
}
