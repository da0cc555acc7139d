import { ownerOf, type RoutingMap } from "../model/routing-map.ts";
import type { Result, Router, Transaction } from "../router/router.ts";
import { newOrder, type Order } from "./order-book.ts";
import { between } from "./random.ts";
import type { RowWrite, WriteLedger } from "./write-ledger.ts";

/**
 * What the demo's application does, through the router like any other application. Each call is told to the ledger
 * once: acknowledged with all its row writes, or failed, and then the order is never written again.
 *
 * Invariant: the callback of a transaction may run several times, so all tokens are drawn before the call.
 */
export interface Clerk {
  readonly router: Router;
  readonly ledger: WriteLedger;
  readonly random: () => number;
  /** Draws a token that nobody else has. */
  readonly token: () => string;
}

export const keyspace = "shop";

/** An order with up to three items, in one transaction, or an order alone as a single statement. */
export async function insertOrder(clerk: Clerk, user: number): Promise<Order | undefined> {
  const order = clerk.token();
  const items = Array.from({ length: between(clerk.random, 0, 3) }, () => clerk.token());
  try {
    const id =
      items.length === 0
        ? Number((await clerk.router.query(keyspace, user, ...orderInsert(clerk, user, order))).insertId)
        : await clerk.router.transaction(keyspace, user, async (tx) => {
            const made = Number((await tx.query(...orderInsert(clerk, user, order))).insertId);
            for (const [index, token] of items.entries()) await insertItem(tx, made, index + 1, user, token);
            return made;
          });
    clerk.ledger.acknowledge([
      { row: `orders/${id}`, token: order, kind: "insert", user },
      ...items.map((token, index) => itemWrite(id, index + 1, token, "insert", user)),
    ]);
    return newOrder({ id, user, items: new Map(items.map((_, index) => [index + 1, { hops: "" }])) });
  } catch (error) {
    clerk.ledger.fail(error, [], [order, ...items]);
    return undefined;
  }
}

/** One autocommit statement. */
export async function updateOrder(clerk: Clerk, order: Order): Promise<boolean> {
  const token = clerk.token();
  return told(clerk, [orderWrite(order, token, "update")], async () => {
    const values = [...changes(clerk, token), order.id, order.user];
    one(
      await clerk.router.query(keyspace, order.user, `${orderUpdate} WHERE id = ? AND user_id = ?`, values),
      order,
    );
    order.ver += 1;
  });
}

/** Reads the order and writes it by what was read, changes its items, adds one and takes one away. */
export async function changeOrder(clerk: Clerk, order: Order): Promise<boolean> {
  const token = clerk.token();
  const changed = [...order.items.keys()].map((line) => ({ line, token: clerk.token() }));
  const removed = changed.length > 2 ? changed.pop() : undefined;
  // A line number that was used before comes back now and then: a new row under an old primary key.
  const line = clerk.random() < 0.3 ? unusedLine(order) : order.nextLine;
  const added = { line, token: clerk.token() };
  const writes = [
    orderWrite(order, token, "update"),
    ...changed.map((item) => itemWrite(order.id, item.line, item.token, "update", order.user)),
    ...(removed === undefined
      ? []
      : [itemWrite(order.id, removed.line, removed.token, "delete", order.user)]),
    itemWrite(order.id, added.line, added.token, "insert", order.user),
  ];
  return told(clerk, writes, async () => {
    await clerk.router.transaction(keyspace, order.user, async (tx) => {
      const { rows } = await tx.query("SELECT ver FROM orders WHERE id = ? AND user_id = ? FOR UPDATE", [
        order.id,
        order.user,
      ]);
      const ver = Number(rows[0]?.["ver"]) + 1;
      const values = [ver, ver, token, order.id, order.user];
      const set = "UPDATE orders SET ver = ?, trail = CONCAT(trail, ' ', ?, '=', ?)";
      one(await tx.query(`${set} WHERE id = ? AND user_id = ?`, values), order);
      for (const item of changed) {
        one(await tx.query(itemUpdate, [item.token, order.id, item.line, order.user]), order);
      }
      if (removed !== undefined) one(await tx.query(itemDelete, [order.id, removed.line, order.user]), order);
      await insertItem(tx, order.id, added.line, order.user, added.token);
    });
    order.ver += 1;
    if (removed !== undefined) order.items.delete(removed.line);
    order.items.set(added.line, { hops: "" });
    order.nextLine = Math.max(order.nextLine, added.line + 1);
  });
}

/** The items first, then the order. */
export async function deleteOrder(clerk: Clerk, order: Order): Promise<boolean> {
  const lines = [...order.items.keys()];
  const writes = [
    orderWrite(order, clerk.token(), "delete"),
    ...lines.map((line) => itemWrite(order.id, line, clerk.token(), "delete", order.user)),
  ];
  return told(clerk, writes, async () => {
    await clerk.router.transaction(keyspace, order.user, async (tx) => {
      const items = "DELETE FROM order_items WHERE order_id = ? AND buyer_id = ?";
      const { affectedRows } = await tx.query(items, [order.id, order.user]);
      if (affectedRows !== lines.length)
        throw new Error(`order ${order.id} had ${affectedRows} items, not ${lines.length}`);
      one(await tx.query("DELETE FROM orders WHERE id = ? AND user_id = ?", [order.id, order.user]), order);
    });
  });
}

/** Gives the order with its items to another user, wherever that user's rows are: the router's named operation. */
export async function moveOrder(clerk: Clerk, order: Order, to: number): Promise<boolean> {
  const crosses = areApart(clerk.router.map(), order.user, to);
  const hop = (hops: string, token: string): string => (hops === "" ? token : `${hops} ${token}`);
  const main = clerk.token();
  const lines = [...order.items].map(([line, item]) => ({ line, item, token: clerk.token() }));
  const writes: RowWrite[] = [
    { row: `orders/${order.id}`, token: main, kind: "move", user: to },
    ...lines.map(({ line, token }) => itemWrite(order.id, line, token, "move", to)),
  ];
  return told(clerk, writes, async () => {
    const { outcome } = await clerk.router.moveRows(keyspace, {
      from: order.user,
      to,
      token: main,
      rows: [
        { table: "orders", primaryKey: { id: order.id }, set: { hops: hop(order.hops, main) } },
        ...lines.map(({ line, item, token }) => ({
          table: "order_items",
          primaryKey: { order_id: order.id, line },
          set: { hops: hop(item.hops, token) },
        })),
      ],
    });
    if (outcome !== "moved")
      throw new Error(`moving order ${order.id} from user ${order.user} to ${to}: ${outcome}`);
    order.user = to;
    order.hops = hop(order.hops, main);
    for (const { item, token } of lines) item.hops = hop(item.hops, token);
    order.crossed ||= crosses;
  });
}

/** A read must find the last acknowledged version, wherever the row is by now. */
export async function readOrder({ router, ledger }: Clerk, order: Order): Promise<boolean> {
  try {
    const sql = "SELECT ver, note, attrs FROM orders WHERE id = ? AND user_id = ?";
    const { rows, shard } = await router.read(keyspace, order.user, sql, [order.id, order.user]);
    const found = rows.length === 0 ? "nothing" : `version ${String(rows[0]?.["ver"])}`;
    if (found === `version ${order.ver}`) return true;
    throw new Error(`a read of order ${order.id} at ${shard} found ${found}, not version ${order.ver}`);
  } catch (error) {
    ledger.fail(error);
    return false;
  }
}

/** Whether two users' rows are on different shards. */
export function areApart(map: RoutingMap, user: number, other: number): boolean {
  const { [keyspace]: shop } = map.keyspaces;
  return shop !== undefined && ownerOf(shop, String(user)) !== ownerOf(shop, String(other));
}

// Assignments are worked out from left to right, so `ver` is the new one in the second (MySQL manual, "UPDATE").
const orderUpdate =
  "UPDATE orders SET ver = ver + 1, trail = CONCAT(trail, ' ', ver, '=', ?), status = ?, quantity = ?, note = ?";
const itemUpdate =
  "UPDATE order_items SET ver = ver + 1, trail = CONCAT(trail, ' ', ver, '=', ?), qty = qty + 1 WHERE order_id = ? AND line = ? AND buyer_id = ?";
const itemDelete = "DELETE FROM order_items WHERE order_id = ? AND line = ? AND buyer_id = ?";

const states = ["new", "paid", "shipped", "cancelled"];

function changes({ random }: Clerk, token: string): unknown[] {
  return [token, states[between(random, 0, 3)], between(random, 1, 60_000), `by ${token} – größer, 東京, 😀`];
}

function orderInsert({ random }: Clerk, user: number, token: string): [sql: string, values: unknown[]] {
  const sql = `INSERT INTO orders (user_id, status, channels, sku, country, amount, weight, discount, quantity, gift,
      placed_on, pickup, season, created_at, note, receipt, attrs, trail)
    VALUES (?, ?, 'web,shop', ?, 'fr', ?, ?, ?, ?, ?, CURRENT_DATE, '07:30:00.125', 2024, UTC_TIMESTAMP(3), ?,
      UNHEX(SHA2(?, 256)), ?, CONCAT('1=', ?))`;
  const attrs = JSON.stringify({ by: token, rate: random(), tags: ["új", "新"] });
  const [, status, quantity, note] = changes({ random } as Clerk, token);
  const amount = (between(random, 1, 999_999) / 100).toFixed(2);
  const numbers = [amount, random() * 100, random(), quantity, between(random, 0, 31)];
  return [sql, [user, status, `SKU-${token}`, ...numbers, note, token, attrs, token]];
}

async function insertItem(
  tx: Transaction,
  order: number,
  line: number,
  user: number,
  token: string,
): Promise<void> {
  await tx.query(
    "INSERT INTO order_items (order_id, line, buyer_id, sku, qty, price, trail) VALUES (?, ?, ?, ?, 1, 9.99, CONCAT('1=', ?))",
    [order, line, user, `SKU-${token}`, token],
  );
}

function unusedLine(order: Order): number {
  for (let line = 1; line < order.nextLine; line += 1) if (!order.items.has(line)) return line;
  return order.nextLine;
}

function orderWrite(order: Order, token: string, kind: "update" | "delete"): RowWrite {
  return { row: `orders/${order.id}`, token, kind, user: order.user };
}

function itemWrite(
  order: number,
  line: number,
  token: string,
  kind: RowWrite["kind"],
  user: number,
): RowWrite {
  return { row: `order_items/${order}/${line}`, token, kind, user };
}

function one({ affectedRows }: Result, order: Order): void {
  if (affectedRows !== 1)
    throw new Error(`order ${order.id} of user ${order.user}: ${affectedRows} rows, not 1`);
}

async function told(
  { ledger }: Clerk,
  writes: readonly RowWrite[],
  call: () => Promise<void>,
): Promise<boolean> {
  try {
    await call();
    ledger.acknowledge(writes);
    return true;
  } catch (error) {
    ledger.fail(error, writes);
    return false;
  }
}
