import type { KeyBatch, Position } from "../../engine.ts";
import type { KeySink } from "./moved-table.ts";

/** Bounds of one batch: about 50,000 keys are a second of recopying, and keys can be long strings. */
export interface BatchLimits {
  readonly keys: number;
  readonly bytes: number;
}

/** Gathers keys until somebody takes them. What is gathered is not delivered yet: a lost connection throws it away. */
export class PendingBatch implements KeySink {
  readonly #limits: BatchLimits;
  #keys: Map<string, string[]>;
  #count: number;
  #bytes: number;
  #scanned: number;
  #sourceTime: number;
  #barrier: number | undefined;
  /** A transaction ended since the batch was taken last. */
  #moved: boolean;

  constructor(limits: BatchLimits, barrier: number | undefined) {
    this.#limits = limits;
    this.#keys = new Map();
    this.#count = 0;
    this.#bytes = 0;
    this.#scanned = 0;
    this.#sourceTime = 0;
    this.#barrier = barrier;
    this.#moved = false;
  }

  add(table: string, key: string): void {
    const keys = this.#keys.get(table);
    if (keys === undefined) this.#keys.set(table, [key]);
    else keys.push(key);
    this.#count += 1;
    this.#bytes += key.length;
  }

  scanned(rows: number, time: number): void {
    this.#scanned += rows;
    if (time > this.#sourceTime) this.#sourceTime = time;
  }

  barrier(n: number): void {
    if (this.#barrier === undefined || n > this.#barrier) this.#barrier = n;
  }

  transactionEnded(time: number): void {
    this.#moved = true;
    if (time > this.#sourceTime) this.#sourceTime = time;
  }

  get isFull(): boolean {
    return this.#count >= this.#limits.keys || this.#bytes >= this.#limits.bytes;
  }

  /** Whether a transaction has ended that nobody has been told of. */
  get hasNews(): boolean {
    return this.#moved;
  }

  take(position: Position | undefined): KeyBatch {
    const batch: KeyBatch = {
      changes: [...this.#keys].map(([table, keys]) => ({ table, keys })),
      barrier: this.#barrier,
      position,
      sourceTime: this.#sourceTime,
      scanned: this.#scanned,
    };
    this.#keys = new Map();
    this.#count = 0;
    this.#bytes = 0;
    this.#scanned = 0;
    this.#moved = false;
    return batch;
  }
}
