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
 * Writers, each with orders of its own and one call for an order at a time. A writer works on both halves of the users
 * side by side, so that a pause of one slice shows in that slice alone.
 *
 * Bound: two writes and one read on the way, per writer and half; a writer that is late catches up a little and lets
 * the rest of its turns pass. So a machine that can not keep up shows in the rate and does not pile up waiting calls.
 */
export class Traffic {
  readonly calls: Call[] = [];
  readonly #options: TrafficOptions;
  readonly #users: Users;
  readonly #writers: readonly Promise<void>[];
  readonly #stopped = new AbortController();
  #movesBack = true;

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#users = new Users(options.seed.users);
    const books = adoptOrders(options.seed, this.#users, options.writers, options.salt);
    this.#writers = books.map(async (book, index) => this.#run(book, index));
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
    const { router, ledger, salt } = this.#options;
    let drawn = 0;
    const clerk: Clerk = {
      router,
      ledger,
      random: seededRandom(salt * 1_000 + index),
      token: () => `w${index}-${++drawn}`,
    };
    const work = async (half: Half): Promise<unknown> =>
      Promise.all([
        this.#repeat(clerk, writesAtOnce, async () => this.#write(clerk, book, half)),
        this.#repeat(clerk, readsAtOnce, async () => this.#read(clerk, book, half)),
      ]);
    await Promise.all([work("lower"), work("upper")]);
  }

  /** Half of a writer's rate, at most so many at once. */
  async #repeat(clerk: Clerk, atOnce: number, call: () => Promise<void>): Promise<void> {
    const { rate, writers } = this.#options;
    const spacingMs = (1_000 * 2 * writers) / rate;
    const running = new Set<Promise<void>>();
    let due = clock() + clerk.random() * spacingMs;
    while (await this.#until(due)) {
      const one = call().finally(() => running.delete(one));
      running.add(one);
      if (running.size >= atOnce) await Promise.race(running);
      due = Math.max(due + spacingMs * (0.5 + clerk.random()), clock() - mostLateMs);
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

  #choose(
    clerk: Clerk,
    book: OrderBook,
    order: Order,
    chance: number,
    users: number[],
  ): () => Promise<boolean> {
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

const writesAtOnce = 2;
const readsAtOnce = 1;
/** What a late writer catches up. */
const mostLateMs = 250;
/** The column holds 4,000 characters; a hop is a token of a dozen. */
const mostHops = 3_800;
