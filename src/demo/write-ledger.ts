import { createWriteStream, type WriteStream } from "node:fs";
import { finished } from "node:stream/promises";

/** A row of the shop: `orders/5`, `order_items/5/2`. */
export type RowName = string;

/** One write to one row, as its writer saw it. */
export interface RowWrite {
  readonly row: RowName;
  /** Unique over all writes. */
  readonly token: string;
  readonly kind: "insert" | "update" | "delete" | "move";
  /** Who has the row afterwards. */
  readonly user: number;
}

/** `unknown`: the application got an error and can not tell whether the write happened. */
export type WriteOutcome = "acknowledged" | "unknown";

/** The row's writes in the order in which its only writer sent them. */
export type RowHistory = readonly { readonly write: RowWrite; readonly outcome: WriteOutcome }[];

/** What the check has to find. */
export interface Promises {
  readonly rows: ReadonlyMap<RowName, RowHistory>;
  /** Tokens of inserts whose outcome and row name are unknown: their rows may be there or not. */
  readonly uncertainInserts: ReadonlySet<string>;
}

/**
 * What the application was promised. Each row is written by one writer only, one write at a time, so the order of a
 * row's writes is known. Kept in memory for the check and, line by line, in a file for people.
 */
export class WriteLedger implements Promises {
  readonly #file: WriteStream;
  readonly #rows = new Map<RowName, { write: RowWrite; outcome: WriteOutcome }[]>();
  readonly #uncertain = new Set<string>();
  readonly #failures: string[] = [];
  #acknowledged = 0;
  #calls = 0;

  constructor(file: string) {
    this.#file = createWriteStream(file, { mode: 0o600 });
  }

  /** Row writes that were acknowledged. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Calls (statements, transactions, row moves) that were acknowledged. */
  get calls(): number {
    return this.#calls;
  }

  /** Errors that the application saw, oldest first. */
  get failures(): readonly string[] {
    return this.#failures;
  }

  get rows(): ReadonlyMap<RowName, RowHistory> {
    return this.#rows;
  }

  get uncertainInserts(): ReadonlySet<string> {
    return this.#uncertain;
  }

  /** One call has come back: all its writes are done. */
  acknowledge(writes: readonly RowWrite[]): void {
    this.#calls += 1;
    this.#acknowledged += writes.length;
    this.#add(writes, "acknowledged");
  }

  /** The application saw an error instead of an answer. `inserts` are the tokens of rows that have no name yet. */
  fail(error: unknown, writes: readonly RowWrite[] = [], inserts: readonly string[] = []): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#failures.push(text);
    this.#add(writes, "unknown");
    for (const token of inserts) this.#uncertain.add(token);
    this.#file.write(`${JSON.stringify({ outcome: "error", error: text, inserts })}\n`);
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (!this.#file.writableEnded) this.#file.end();
    await finished(this.#file);
  }

  #add(writes: readonly RowWrite[], outcome: WriteOutcome): void {
    for (const write of writes) {
      const history = this.#rows.get(write.row);
      if (history === undefined) this.#rows.set(write.row, [{ write, outcome }]);
      else history.push({ write, outcome });
    }
    // The stream buffers what the disk does not take at once; a run writes a few megabytes.
    this.#file.write(writes.map((write) => `${JSON.stringify({ outcome, ...write })}\n`).join(""));
  }
}
