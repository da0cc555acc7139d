import { setTimeout as delay } from "node:timers/promises";
import type { Router } from "../router/router.ts";
import type { Call } from "./latencies.ts";
import { adoptOrders, type Half, type Order, type OrderBook, Users } from "./order-book.ts";
import {
  areApart,
  changeOrder,
  type Clerk,
  deleteOrder,
  insertOrder,
  moveOrder,
  readOrder,
  updateOrder,
} from "./order-writes.ts";
import { seededRandom } from "./random.ts";
import type { Seed } from "./shop-schema.ts";
import type { WriteLedger } from "./write-ledger.ts";

export interface TrafficOptions {
  readonly router: Router;
  readonly ledger: WriteLedger;
  readonly seed: Seed;
  readonly writers: number;
  /** Calls that write, a second, all writers together; as many reads come on top. */
  readonly rate: number;
  /** Repeats the writers' choices. */
  readonly salt: number;
}

/** Milliseconds since 1970 with fractions: comparable with the times in other processes' events. */
export const clock = (): number => performance.timeOrigin + performance.now();

/**
 * Writers that keep their rate whatever the servers do, like requests of users who do not wait for each other: a call
 * that has to wait does not hold the next one back, so a pause of one slice shows in that slice alone. Each order has
 * one writer, with one call for it at a time.
 *
 * Bound: calls on the way, per writer and half of the users; beyond it a writer lets its turn pass.
 */
export class Traffic {
  readonly calls: Call[] = [];
  readonly #options: TrafficOptions;
  readonly #users: Users;
  readonly #writers: readonly Promise<void>[];
  readonly #stopped = new AbortController();
  #movesBack = true;
  #passed = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#users = new Users(options.seed.users);
    const books = adoptOrders(options.seed, this.#users, options.writers, options.salt);
    this.#writers = books.map(async (book, index) => this.#run(book, index));
  }

  /** Turns that were let pass because too many calls were on the way. */
  get passed(): number {
    return this.#passed;
  }

  /**
   * From here until the flip no order goes to a smaller user. Once the map has changed, a row of the moved slice can
   * not go back: its old copy holds its primary key behind the closed gate until `finish` (docs/router.md).
   */
  forbidMovesBack(): void {
    this.#movesBack = false;
  }

  /** Ends the writers and waits for the calls that are on the way. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all(this.#writers);
  }

  async #run(book: OrderBook, index: number): Promise<void> {
    const { router, ledger, rate, writers, salt } = this.#options;
    const random = seededRandom(salt * 1_000 + index);
    let drawn = 0;
    const clerk: Clerk = { router, ledger, random, token: () => `w${index}-${++drawn}` };
    const running = new Set<Promise<void>>();
    const waiting = { lower: 0, upper: 0 };
    const most = Math.max(8, Math.ceil(Math.min(mostWaiting, Math.max(200, rate / 4)) / writers));
    const spacingMs = (1_000 * writers) / rate;
    let due = clock() + random() * spacingMs;
    for (let turn = index; await this.#until(due); turn += 1) {
      const half: Half = turn % 2 === 0 ? "lower" : "upper";
      if (waiting[half] >= most) this.#passed += 1;
      else {
        waiting[half] += 1;
        const call = this.#write(clerk, book, half).finally(() => {
          waiting[half] -= 1;
          running.delete(call);
        });
        running.add(call);
      }
      const read = this.#read(clerk, book, half).finally(() => running.delete(read));
      running.add(read);
      due = Math.max(due + spacingMs * (0.5 + random()), clock() - spacingMs);
    }
    await Promise.all(running);
  }

  async #until(due: number): Promise<boolean> {
    const { signal } = this.#stopped;
    const ms = due - clock();
    if (ms > 0 && !signal.aborted) await delay(ms, undefined, { signal }).catch(() => undefined);
    return !signal.aborted;
  }

  async #write(clerk: Clerk, book: OrderBook, half: Half): Promise<void> {
    const order = book.pick(clerk.random, (found) => this.#users.halfOf(found.user) === half);
    const chance = clerk.random();
    if (order === undefined || (chance < 0.14 && !book.isFull)) {
      const user = this.#users.pick(clerk.random, half);
      await this.#timed("write", [user], async () => {
        const made = await insertOrder(clerk, user);
        if (made !== undefined) book.add(made);
        return made !== undefined;
      });
      return;
    }
    const users = [order.user];
    const work = this.#choose(clerk, book, order, chance, users);
    order.busy = true;
    const isDone = await this.#timed("write", users, work);
    order.busy = false;
    if (!isDone) book.drop(order);
  }

  #choose(clerk: Clerk, book: OrderBook, order: Order, chance: number, users: number[]): () => Promise<boolean> {
    if (chance < (book.isFull ? 0.3 : 0.12)) {
      book.drop(order);
      return async () => deleteOrder(clerk, order);
    }
    if (chance > 0.88 && order.hops.length < mostHops) {
      const other: Half = this.#users.halfOf(order.user) === "lower" ? "upper" : "lower";
      const to = this.#users.pick(clerk.random, other);
      if (this.#mayMove(order, to)) {
        users.push(to);
        return async () => moveOrder(clerk, order, to);
      }
    }
    return chance < 0.6 ? async () => updateOrder(clerk, order) : async () => changeOrder(clerk, order);
  }

  /**
   * Not where the row would meet an old copy of itself (`forbidMovesBack`), and not back with a primary key that the new
   * shard has given out: the old shard's AUTO_INCREMENT would go on from there, and both would give out the same keys.
   */
  #mayMove(order: Order, to: number): boolean {
    if (to > order.user) return true;
    const map = this.#options.router.map();
    if (map.epoch === 1) return this.#movesBack;
    return order.crossed || !areApart(map, order.user, to);
  }

  async #read(clerk: Clerk, book: OrderBook, half: Half): Promise<void> {
    const order = book.pick(clerk.random, (found) => this.#users.halfOf(found.user) === half);
    if (order === undefined) return;
    // Kept from being written meanwhile, so that it is known what the read must find.
    order.busy = true;
    await this.#timed("read", [order.user], async () => readOrder(clerk, order));
    order.busy = false;
  }

  async #timed(kind: Call["kind"], users: readonly number[], call: () => Promise<boolean>): Promise<boolean> {
    const startedAt = clock();
    const isDone = await call();
    this.calls.push({ kind, users, startedAt, endedAt: clock(), isDone });
    return isDone;
  }
}

/** Calls on the way for half of the users: a pause of a second at 500 calls a second, and far from the router's bound. */
const mostWaiting = 500;
/** The column holds 4,000 characters; a hop is a token of a dozen. */
const mostHops = 3_800;
