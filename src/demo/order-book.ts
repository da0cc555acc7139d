import { between, seededRandom } from "./random.ts";
import type { Seed } from "./shop-schema.ts";

/** An order with its items, as its only writer knows it: what the next read must find. */
export interface Order {
  readonly id: number;
  user: number;
  ver: number;
  hops: string;
  /** By line number. */
  readonly items: Map<number, { hops: string }>;
  nextLine: number;
  /** A call for it is on the way: a row has one write at a time. */
  busy: boolean;
  /** It went over to the other shard after the flip, so it has left no copy there and has the old shard's key. */
  crossed: boolean;
}

export type Half = "lower" | "upper";

/** Users around the place where the split will cut: half of all keys on each side. */
export class Users {
  readonly count: number;
  readonly middle: number;
  readonly near: number;

  constructor(count: number) {
    this.count = count;
    this.middle = Math.floor(count / 2);
    this.near = Math.max(2, Math.ceil(count * 0.02));
  }

  halfOf(user: number): Half {
    return user > this.middle ? "upper" : "lower";
  }

  isNearMiddle(user: number): boolean {
    return user > this.middle - this.near && user <= this.middle + this.near;
  }

  /** Often one near the border, where a mistake about the slice's ends would show. */
  pick(random: () => number, half: Half): number {
    const isNear = random() < 0.4;
    return half === "lower"
      ? between(random, isNear ? this.middle - this.near + 1 : 1, this.middle)
      : between(random, this.middle + 1, isNear ? this.middle + this.near : this.count);
  }
}

/** The orders of one writer. Nobody else writes them. */
export class OrderBook {
  readonly #orders: Order[];
  readonly #wanted: number;

  constructor(orders: readonly Order[]) {
    this.#orders = [...orders];
    this.#wanted = Math.max(minOrders, orders.length);
  }

  get isFull(): boolean {
    return this.#orders.length > this.#wanted * 1.3;
  }

  add(order: Order): void {
    this.#orders.push(order);
  }

  /** Deleted, or its state is in doubt: it is not written again. */
  drop(order: Order): void {
    const index = this.#orders.indexOf(order);
    if (index >= 0) this.#orders.splice(index, 1);
  }

  /** An order of that half that nobody is writing; undefined when none is found quickly. */
  pick(random: () => number, isWanted: (order: Order) => boolean): Order | undefined {
    if (this.#orders.length === 0) return undefined;
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const order = this.#orders[between(random, 0, this.#orders.length - 1)];
      if (order !== undefined && !order.busy && isWanted(order)) return order;
    }
    return undefined;
  }
}

/** Enough for a writer to find a free one. */
const minOrders = 20;
/** Each gets a few dozen writes in a run; the others stay untouched, and must. */
const ordersPerWriter = 150;
/** At least three of four orders stay untouched. */
const share = 4;

/** Seeded orders for each writer, half of them of users near the border. No order is in two books. */
export function adoptOrders(seed: Seed, users: Users, writers: number, salt: number): OrderBook[] {
  const random = seededRandom(salt);
  const wanted = Math.min(ordersPerWriter * writers, Math.floor(seed.orders / share));
  const near: number[] = [];
  const far: number[] = [];
  for (let order = 1; order <= seed.orders; order += 1) {
    (users.isNearMiddle(seed.userOf(order)) ? near : far).push(order);
  }
  const chosen = takeSome(random, near, Math.floor(wanted / 2));
  chosen.push(...takeSome(random, far, wanted - chosen.length));
  const books: Order[][] = Array.from({ length: writers }, () => []);
  for (const [index, id] of chosen.entries()) books[index % writers]?.push(seededOrder(seed, id));
  return books.map((orders) => new OrderBook(orders));
}

function seededOrder(seed: Seed, id: number): Order {
  const items = new Map(seed.hasItem(id) ? [[1, { hops: "" }]] : []);
  return newOrder({ id, user: seed.userOf(id), items });
}

export function newOrder({ id, user, items }: Pick<Order, "id" | "user" | "items">): Order {
  return {
    id,
    user,
    ver: 1,
    hops: "",
    items,
    nextLine: Math.max(0, ...items.keys()) + 1,
    busy: false,
    crossed: false,
  };
}

function takeSome(random: () => number, from: number[], count: number): number[] {
  const taken: number[] = [];
  while (taken.length < count && from.length > 0) {
    const index = between(random, 0, from.length - 1);
    const last = from.pop();
    const picked = index === from.length ? last : from[index];
    if (picked === undefined || last === undefined) break;
    if (index < from.length) from[index] = last;
    taken.push(picked);
  }
  return taken;
}
