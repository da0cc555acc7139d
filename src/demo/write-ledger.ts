import { appendFileSync } from "node:fs";

/** A row of the shop: `orders/5`, `order_items/5/2`. */
export type RowName = string;

/** One write to one row, as its writer saw it. */
export interface RowWrite {
  readonly row: RowName;
  readonly token: string;
  readonly user: number;
  readonly deleted: boolean;
}

/** `unknown`: the application got an error and can not tell whether the write happened. */
export type WriteOutcome = "acknowledged" | "unknown";

export interface RowHistory {
  /** The row's writes in the order in which its only writer sent them. */
  readonly writes: { readonly write: RowWrite; readonly outcome: WriteOutcome }[];
}

/**
 * What the application was promised. Each row is written by one writer only, one write at a time, so the order of a
 * row's writes is known. Kept in memory for the check and, line by line, in a file for people.
 */
export class WriteLedger {
  readonly #file: string;
  readonly #rows = new Map<RowName, RowHistory>();
  readonly failures: string[] = [];
  acknowledged = 0;

  constructor(file: string) {
    this.#file = file;
  }

  acknowledge(writes: readonly RowWrite[]): void {
    this.acknowledged += 1;
    this.#add(writes, "acknowledged");
  }

  /** The application saw an error. */
  fail(writes: readonly RowWrite[], error: unknown): void {
    this.failures.push(error instanceof Error ? error.message : String(error));
    this.#add(writes, "unknown");
  }

  get rows(): ReadonlyMap<RowName, RowHistory> {
    return this.#rows;
  }

  #add(writes: readonly RowWrite[], outcome: WriteOutcome): void {
    for (const write of writes) {
      const history = this.#rows.get(write.row) ?? { writes: [] };
      history.writes.push({ write, outcome });
      this.#rows.set(write.row, history);
    }
    appendFileSync(this.#file, writes.map((write) => `${JSON.stringify({ outcome, ...write })}\n`).join(""));
  }
}
