/**
 * An independent witness for the gate: writers that remember what the server has acknowledged, and the question which
 * states of a row a read may show. It knows nothing of triggers and locks.
 */
import type { Connection } from "mysql2/promise";

/** A row of `orders` as far as the witness looks, or null where there is none. */
export type State = { readonly userId: number; readonly v: number } | null;

interface Write {
  readonly state: State;
  readonly sentAt: number;
  ackedAt: number;
}

/** What was written to each key, in order: one writer per key, so the order is certain. */
export class History {
  readonly #writes = new Map<number, Write[]>();
  acked = 0;
  ackedInSlice = 0;

  keys(): Iterable<number> {
    return this.#writes.keys();
  }

  /** About to be decided: the statement (autocommit) or the COMMIT is on its way. */
  send(states: ReadonlyMap<number, State>): { ack(inSlice: boolean): void; withdraw(): void } {
    const sent = [...states].map(([key, state]) => {
      const writes = this.#writes.get(key) ?? [];
      this.#writes.set(key, writes);
      const write: Write = { state, sentAt: performance.now(), ackedAt: Infinity };
      writes.push(write);
      return { writes, write };
    });
    return {
      ack: (inSlice) => {
        for (const { write } of sent) write.ackedAt = performance.now();
        this.acked += 1;
        if (inSlice) this.ackedInSlice += 1;
      },
      withdraw: () => {
        for (const { writes, write } of sent) writes.splice(writes.indexOf(write), 1);
      },
    };
  }

  /** The last state acknowledged before `from`, and all that were on their way before `to`. */
  allowed(key: number, from: number, to: number): State[] {
    const writes = this.#writes.get(key) ?? [];
    const last = writes.findLastIndex((write) => write.ackedAt < from);
    const later = writes.slice(last + 1).filter((write) => write.sentAt < to);
    const acknowledged = writes[last]?.state ?? null;
    // What lies before is decided for good; the list would grow with every write.
    if (last > 50) writes.splice(0, last);
    return [acknowledged, ...later.map((write) => write.state)];
  }
}

/** A repeatable source of chance (mulberry32). */
export function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

interface Statement {
  readonly sql: string;
  readonly after: ReadonlyMap<number, State>;
}

const isolations = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/** An application's connection with keys of its own: autocommit and longer transactions, every kind of write. */
export class Writer {
  readonly #connection: Connection;
  readonly #keys: readonly number[];
  readonly #history: History;
  readonly #random: (below: number) => number;
  readonly #inSlice: (state: State) => boolean;
  /** What the server has acknowledged. */
  readonly #known = new Map<number, State>();
  #version = 0;
  refusals = 0;
  conflicts = 0;

  constructor(options: {
    readonly connection: Connection;
    readonly keys: readonly number[];
    readonly history: History;
    readonly random: (below: number) => number;
    readonly inSlice: (state: State) => boolean;
  }) {
    this.#connection = options.connection;
    this.#keys = options.keys;
    this.#history = options.history;
    this.#random = options.random;
    this.#inSlice = options.inSlice;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#random(10) < 3)
        await this.#sql(`SET SESSION TRANSACTION ISOLATION LEVEL ${this.#pick(isolations)}`);
      if (this.#random(2) === 0) await this.#autocommit();
      else await this.#transaction();
      if (this.#random(10) < 3) await pause(this.#random(4));
    }
  }

  async #autocommit(): Promise<void> {
    const { sql, after } = this.#next(this.#known);
    const inSlice = this.#touches(after, this.#known);
    const sent = this.#history.send(after);
    if (await this.#accepted(sql)) {
      sent.ack(inSlice);
      for (const [key, state] of after) this.#known.set(key, state);
    } else {
      sent.withdraw();
    }
  }

  async #transaction(): Promise<void> {
    await this.#sql(this.#random(3) === 0 ? "START TRANSACTION WITH CONSISTENT SNAPSHOT" : "BEGIN");
    if (this.#random(5) === 0) await pause(this.#random(30));
    const changed = new Map<number, State>();
    let inSlice = false;
    for (let left = 1 + this.#random(5); left > 0; left -= 1) {
      // Hot rows outside the slice: two transactions that meet here and at the gate deadlock.
      if (
        this.#random(7) === 0 &&
        (await this.#failed("UPDATE elsewhere SET v = v + 1 WHERE id = ?", [this.#random(8)]))
      )
        return;
      const seen = new Map([...this.#known, ...changed]);
      const { sql, after } = this.#next(seen);
      const outcome = await this.#attempt(sql);
      if (outcome === "conflict") return await this.#rollback();
      if (outcome === "refused" && this.#random(2) === 0) return await this.#rollback();
      if (outcome === "done") {
        inSlice ||= this.#touches(after, seen);
        for (const [key, state] of after) changed.set(key, state);
      }
      if (this.#random(7) === 0) await pause(this.#random(12));
    }
    if (this.#random(10) === 0) return await this.#rollback();
    const sent = this.#history.send(changed);
    await this.#sql("COMMIT");
    sent.ack(inSlice);
    for (const [key, state] of changed) this.#known.set(key, state);
  }

  #touches(after: ReadonlyMap<number, State>, before: ReadonlyMap<number, State>): boolean {
    return [...after].some(([key, state]) => this.#inSlice(state) || this.#inSlice(before.get(key) ?? null));
  }

  #next(seen: ReadonlyMap<number, State>): Statement {
    const id = this.#pick(this.#keys);
    const row = seen.get(id) ?? null;
    const userId = this.#random(300);
    this.#version += 1;
    const v = this.#version;
    const whole = new Map<number, State>([[id, { userId, v }]]);
    const insert = `orders VALUES (${id}, ${userId}, ${v}, NULL)`;
    if (row === null) {
      return this.#pick([
        { sql: `INSERT INTO ${insert}`, after: whole },
        { sql: `INSERT IGNORE INTO ${insert}`, after: whole },
        { sql: `INSERT INTO ${insert} ON DUPLICATE KEY UPDATE v = ${v}`, after: whole },
      ]);
    }
    const kept = new Map<number, State>([[id, { userId: row.userId, v }]]);
    const several = this.#keys.filter(
      (key) => key === id || (this.#random(3) === 0 && (seen.get(key) ?? null) !== null),
    );
    return this.#pick([
      { sql: `UPDATE orders SET v = ${v} WHERE id = ${id}`, after: kept },
      { sql: `UPDATE IGNORE orders SET v = ${v} WHERE id = ${id}`, after: kept },
      { sql: `UPDATE orders SET user_id = ${userId}, v = ${v} WHERE id = ${id}`, after: whole },
      { sql: `DELETE FROM orders WHERE id = ${id}`, after: new Map([[id, null]]) },
      { sql: `INSERT INTO ${insert} ON DUPLICATE KEY UPDATE user_id = ${userId}, v = ${v}`, after: whole },
      { sql: `REPLACE INTO ${insert}`, after: whole },
      {
        sql: `UPDATE orders SET v = ${v} WHERE id IN (${several.join(", ")})`,
        after: new Map(several.map((key) => [key, { userId: seen.get(key)?.userId ?? 0, v }])),
      },
    ]);
  }

  async #accepted(sql: string): Promise<boolean> {
    const outcome = await this.#attempt(sql);
    return outcome === "done";
  }

  /** Any error that is neither a refusal nor a conflict is a failure of the test. */
  async #attempt(sql: string): Promise<"done" | "refused" | "conflict"> {
    try {
      if (this.#random(3) === 0) await this.#connection.execute(sql);
      else await this.#sql(sql);
      return "done";
    } catch (error) {
      const { errno } = error as { errno?: number };
      if (errno === 1644) {
        this.refusals += 1;
        return "refused";
      }
      // Deadlock, lock wait timeout; the statement was rolled back, of a deadlock the transaction too.
      if (errno !== 1213 && errno !== 1205) throw error;
      this.conflicts += 1;
      return "conflict";
    }
  }

  /** True when the transaction is over because of a conflict. */
  async #failed(sql: string, values: readonly number[]): Promise<boolean> {
    const outcome = await this.#attempt(sql.replace("?", String(values[0])));
    if (outcome === "done") return false;
    await this.#rollback();
    return true;
  }

  async #rollback(): Promise<void> {
    await this.#sql("ROLLBACK");
  }

  async #sql(sql: string): Promise<void> {
    await this.#connection.query(sql);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random(from.length)] as T;
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
