import type { Connection } from "mysql2/promise";

/**
 * The shop that the demo splits: orders and their items, sharded by user, with every common column type in them.
 *
 * Every row keeps its own history. `ver` counts the writes to it and `trail` lists the token of each one, both worked
 * out by the server from what it finds in the row, so that a lost or repeated write shows in every later version;
 * `hops` lists the moves to another user. What may break: the check (independent-check.ts) names the columns too.
 */
const orders = `CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id BIGINT NOT NULL,
  status ENUM('new','paid','shipped','cancelled') NOT NULL DEFAULT 'new',
  channels SET('web','app','shop') NOT NULL DEFAULT 'web',
  sku VARCHAR(40) NOT NULL,
  country CHAR(2) CHARACTER SET latin1 NOT NULL DEFAULT 'de',
  amount DECIMAL(12,2) NOT NULL,
  weight DOUBLE NULL,
  discount FLOAT NULL,
  quantity SMALLINT UNSIGNED NOT NULL DEFAULT 1,
  gift BIT(5) NOT NULL DEFAULT b'0',
  placed_on DATE NOT NULL,
  pickup TIME(3) NULL,
  season YEAR NOT NULL,
  created_at DATETIME(3) NOT NULL,
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  note VARCHAR(200) NULL,
  receipt VARBINARY(32) NOT NULL,
  attrs JSON NOT NULL,
  cents BIGINT GENERATED ALWAYS AS (amount * 100) VIRTUAL,
  ver INT UNSIGNED NOT NULL DEFAULT 1,
  trail TEXT NOT NULL,
  hops VARCHAR(4000) NOT NULL DEFAULT '',
  KEY by_user (user_id),
  KEY by_status (status, created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`;

const orderItems = `CREATE TABLE order_items (
  order_id BIGINT UNSIGNED NOT NULL,
  line INT NOT NULL,
  buyer_id BIGINT NOT NULL,
  sku VARCHAR(40) NOT NULL,
  qty INT NOT NULL,
  price DECIMAL(10,2) NOT NULL,
  ver INT UNSIGNED NOT NULL DEFAULT 1,
  trail TEXT NOT NULL,
  hops VARCHAR(4000) NOT NULL DEFAULT '',
  PRIMARY KEY (order_id, line),
  KEY by_buyer (buyer_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`;

/** What lies in the shop at the start. Users are spread so that neighbours in id are far apart in user. */
export class Seed {
  /** They have the ids 1 to this. */
  readonly orders: number;
  /** As many orders, the first ones, have one item. */
  readonly items: number;
  /** Users are 1 to this. */
  readonly users: number;
  readonly #step: number;
  readonly #salt: number;

  constructor(counts: { readonly orders: number; readonly items: number }, salt: number) {
    this.orders = counts.orders;
    this.items = counts.items;
    this.users = Math.max(20, Math.ceil(this.orders / ordersPerUser));
    // Prime to the number of users, or some users would get all orders and others none.
    this.#step = this.users % 7_919 === 0 ? 7_907 : 7_919;
    this.#salt = salt;
  }

  userOf(order: number): number {
    return 1 + ((order * this.#step) % this.users);
  }

  hasItem(order: number): boolean {
    return order <= this.items;
  }

  /** Inserts everything, by the server alone, in parts that fit its log. */
  async fill(connection: Connection, signal?: AbortSignal): Promise<void> {
    await connection.query("SET time_zone = '+00:00'");
    await createNumbers(connection);
    for (let from = 0; from < this.orders; from += partRows) {
      signal?.throwIfAborted();
      await connection.query(this.#ordersSql(from));
    }
    for (let from = 0; from < this.items; from += partRows) {
      signal?.throwIfAborted();
      await connection.query(this.#itemsSql(from));
    }
    await connection.query("DROP TEMPORARY TABLE numbers");
    await connection.query("ANALYZE TABLE orders, order_items");
  }

  #ordersSql(from: number): string {
    const n = `(${from} + n)`;
    return `INSERT INTO orders (id, user_id, status, channels, sku, country, amount, weight, discount, quantity, gift,
        placed_on, pickup, season, created_at, updated_at, note, receipt, attrs, trail)
      SELECT ${n}, 1 + MOD(${n} * ${this.#step}, ${this.users}), 1 + MOD(${n}, 4), MOD(${n}, 7) + 1,
        CONCAT('SKU-', UPPER(LEFT(SHA2(CONCAT(${this.#salt}, ':', ${n}), 256), 12))),
        ELT(1 + MOD(${n}, 3), 'de', 'fr', 'éé'), MOD(${n} * 31, 9999999) / 100,
        IF(MOD(${n}, 5) = 0, NULL, ${n} / 7e0), IF(MOD(${n}, 6) = 0, NULL, ${n} / 3e0), 1 + MOD(${n}, 60000),
        MOD(${n}, 32), '2023-01-01' + INTERVAL MOD(${n}, 700) DAY,
        IF(MOD(${n}, 4) = 0, NULL, SEC_TO_TIME(MOD(${n}, 86400) + 0.125)), 2000 + MOD(${n}, 25),
        '2023-01-01 00:00:00.125' + INTERVAL ${n} SECOND, '2024-01-01 00:00:00.000001' + INTERVAL ${n} SECOND,
        IF(MOD(${n}, 16) = 5, NULL,
          CONCAT(IF(MOD(${n}, 32) = 7, '😀 ünï\\t\\\\ ', ''), LEFT(SHA2(${n} * 7, 256), 60))),
        UNHEX(SHA2(CONCAT('r', ${n}), 256)),
        JSON_OBJECT('src', ELT(1 + MOD(${n}, 3), 'web', 'ios', 'android'), 'qty', MOD(${n}, 9) + 1,
          'rate', ${n} / 8e0),
        CONCAT('1=seed-', ${n})
      FROM numbers WHERE ${n} <= ${this.orders} ORDER BY n`;
  }

  #itemsSql(from: number): string {
    return `INSERT INTO order_items (order_id, line, buyer_id, sku, qty, price, trail)
      SELECT id, 1, user_id, sku, quantity, LEAST(amount, 99999999.99), CONCAT('1=seed-', id, '-1')
      FROM orders WHERE id > ${from} AND id <= ${Math.min(from + partRows, this.items)} ORDER BY id`;
  }
}

/** So many rows in all: two thirds orders, one third items. */
export function seedOf(rows: number, salt: number): Seed {
  const items = Math.floor(rows / 3);
  return new Seed({ orders: rows - items, items }, salt);
}

/** About this many orders a user. */
const ordersPerUser = 15;
/** One transaction of the seeding; about 10 MB of log. */
const partRows = 20_000;

export async function createShop(connection: Connection, database: string): Promise<void> {
  await connection.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
  await connection.query(`USE ${database}`);
  await createShopTables(connection);
}

/** In the connection's database. */
export async function createShopTables(connection: Connection): Promise<void> {
  await connection.query(orders);
  await connection.query(orderItems);
}

/** A table with 1 to `partRows`. */
async function createNumbers(connection: Connection): Promise<void> {
  await connection.query("CREATE TEMPORARY TABLE numbers (n INT NOT NULL PRIMARY KEY)");
  const list = (from: number): string =>
    Array.from({ length: 1_000 }, (_, index) => `(${from + index})`).join();
  for (let from = 1; from < partRows; from += 1_000) {
    await connection.query(`INSERT INTO numbers VALUES ${list(from)}`);
  }
}
