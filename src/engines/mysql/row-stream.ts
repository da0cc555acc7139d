import { invariant } from "../../errors/error.ts";
import type { Barrier, KeyId, RowStream } from "../engine.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import type { JsonDecimal } from "./json-decimals.ts";
import { keyFromParts } from "./key-codec.ts";
import { LoadText, type FieldKind } from "./load-text.ts";
import { kill, type MysqlConnection } from "./query.ts";
import { readError } from "./row-errors.ts";
import { selectRows, ServerError, type RowSink } from "./row-packets.ts";

/**
 * Rows of one SELECT as blocks of LOAD DATA text. Every iteration of `blocks` runs the statement anew, in a new view:
 * that is how a writer reads the rows again after a deadlock or a conflict without keeping them in memory, and it is
 * sound because a later view after the same barrier is never older (DESIGN rules 2 and 4). Counts and keys are those
 * of the latest iteration.
 *
 * Bounded memory: at most `maxQueuedBlocks` blocks wait; then the socket is paused until one is taken.
 */
export interface RowQuery {
  readonly pool: ConnectionPool;
  readonly table: string;
  readonly sql: string;
  readonly fields: number;
  readonly kinds: readonly FieldKind[];
  /** Collects the keys; the statement then selects the parts of the key after the fields. */
  readonly withKeys: boolean;
  /** Not looked into: whoever makes a query must have one (rule 3). */
  readonly after: Barrier;
}

/** One is written while the next is filled. */
const maxQueuedBlocks = 2;

export class MysqlRowStream implements RowStream {
  readonly blocks: AsyncIterable<Uint8Array>;
  #current: Reading | undefined;

  constructor(query: RowQuery) {
    this.blocks = {
      [Symbol.asyncIterator]: () => {
        this.#current = new Reading(query);
        return this.#current;
      },
    };
  }

  rowCount(): number {
    return this.#current?.text.rows ?? 0;
  }

  byteCount(): number {
    return this.#current?.text.bytes ?? 0;
  }

  get keys(): readonly KeyId[] {
    return this.#current?.keys ?? [];
  }

  /** What is still to be put right in JSON columns after the rows were loaded. */
  get jsonPatches(): readonly JsonPatch[] {
    return this.#current?.jsonPatches ?? [];
  }

  /** ENUM values of index 0 among the rows delivered so far. */
  zeroEnums(): number {
    return this.#current?.text.zeroEnums ?? 0;
  }
}

/** Numbers of one document that its text does not keep. */
export interface JsonPatch {
  readonly key: KeyId;
  /** Place of the column in the select list. */
  readonly field: number;
  readonly decimals: readonly JsonDecimal[];
}

/** A stream that this engine's reader has made. */
export function mysqlRows(rows: RowStream): MysqlRowStream {
  invariant(rows instanceof MysqlRowStream, "these rows were not read by the MySQL engine");
  return rows;
}

interface Waiter {
  readonly resolve: (result: IteratorResult<Uint8Array>) => void;
  readonly reject: (error: unknown) => void;
}

/** One run of the statement. */
class Reading implements AsyncIterator<Uint8Array>, RowSink {
  readonly keys: KeyId[] = [];
  readonly jsonPatches: JsonPatch[] = [];
  readonly text: LoadText;
  readonly #query: RowQuery;
  readonly #queue: Buffer[] = [];
  #connection: MysqlConnection | undefined;
  #waiter: Waiter | undefined;
  #state: "new" | "reading" | "paused" | "ended" = "new";
  #error: unknown;

  constructor(query: RowQuery) {
    this.#query = query;
    this.text = new LoadText({
      fields: query.fields,
      kinds: query.kinds,
      block: (block) => this.#deliver(block),
      decimals: (parts, field, decimals) =>
        this.jsonPatches.push({ key: keyFromParts(parts), field, decimals }),
      ...(query.withKeys ? { key: (parts) => this.keys.push(keyFromParts(parts)) } : {}),
    });
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#state === "new") await this.#start();
    const block = this.#queue.shift();
    if (block !== undefined) {
      this.#resume();
      return { done: false, value: block };
    }
    if (this.#error !== undefined) throw this.#error;
    if (this.#state === "ended") return { done: true, value: undefined };
    return await new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  /** The consumer stops early: a running statement can only be ended with its connection. */
  async return(): Promise<IteratorResult<Uint8Array>> {
    this.#queue.length = 0;
    const connection = this.#connection;
    if (connection !== undefined) kill(connection, new Error(`reading ${this.#query.table} was stopped`));
    this.#state = "ended";
    return { done: true, value: undefined };
  }

  row(buffer: Buffer, start: number, end: number): void {
    this.text.row(buffer, start, end);
  }

  end(error?: unknown): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#state = "ended";
    if (error === undefined) this.text.flush();
    else this.#error = readError(this.#query.pool.connector.endpoint.shard, this.#query.table, error);
    // The server's own error ends the result; after anything else nobody knows what is still on its way.
    if (connection !== undefined && (error === undefined || error instanceof ServerError))
      this.#query.pool.give(connection);
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (this.#error !== undefined) waiter?.reject(this.#error);
    else waiter?.resolve({ done: true, value: undefined });
  }

  async #start(): Promise<void> {
    this.#state = "reading";
    let connection: MysqlConnection;
    try {
      connection = await this.#query.pool.take();
    } catch (error) {
      this.end(error);
      return;
    }
    if (this.#ended()) {
      this.#query.pool.give(connection);
      return;
    }
    this.#connection = connection;
    selectRows(connection, this.#query.sql, this);
  }

  /** `return` may have been called meanwhile. */
  #ended(): boolean {
    return this.#state === "ended";
  }

  #deliver(block: Buffer): void {
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#waiter = undefined;
      waiter.resolve({ done: false, value: block });
      return;
    }
    this.#queue.push(block);
    if (this.#queue.length >= maxQueuedBlocks && this.#state === "reading") {
      this.#state = "paused";
      this.#connection?.pause();
    }
  }

  #resume(): void {
    if (this.#state !== "paused" || this.#queue.length >= maxQueuedBlocks) return;
    this.#state = "reading";
    this.#connection?.resume();
  }
}
