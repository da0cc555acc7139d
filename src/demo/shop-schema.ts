import type { Connection } from "mysql2/promise";

/**
 * The shop that the demo splits: orders and their items, sharded by user, with every common column type in them.
 *
 * Every row keeps its own history: `ver` counts the writes to it and `trail` lists the token of each one, so that the
 * check can tell from plain reads whether a write was lost, repeated or applied out of order.
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
  PRIMARY KEY (order_id, line),
  KEY by_buyer (buyer_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`;

/** Seeded orders have ids 1 to `rows`; users are spread so that neighbours in id are far apart in user. */
const spread = 7_919;
/** About this many orders a user. */
const ordersPerUser = 15;

export function userCount(rows: number): number {
  return Math.max(20, Math.ceil(rows / ordersPerUser));
}

/** The user of a seeded order; the SQL below computes the same. */
export function seededUser(order: number, rows: number): number {
  return 1 + ((order * spread) % userCount(rows));
}

export async function createShop(connection: Connection, database: string): Promise<void> {
  await connection.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
  await connection.query(`USE ${database}`);
  await connection.query(orders);
  await connection.query(orderItems);
}

/** Fills the shop with `rows` orders, each with one item. Inserts by the server alone, in parts that fit its log. */
export async function seedShop(connection: Connection, rows: number, seed: number): Promise<void> {
  await connection.query("SET time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 0");
  await connection.query("CREATE TEMPORARY TABLE digits (n INT NOT NULL PRIMARY KEY)");
  await connection.query("INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)");
  // A temporary table can be named only once in a statement on MySQL, so a thousand numbers are made by doubling up.
  await connection.query("CREATE TEMPORARY TABLE hundreds (n INT NOT NULL PRIMARY KEY)");
  for (let hundred = 0; hundred < 1_000; hundred += 10) {
    await connection.query(`INSERT INTO hundreds SELECT ${hundred} + n FROM digits`);
  }
  for (let from = 0; from < rows; from += 50_000) {
    for (let base = from; base < Math.min(from + 50_000, rows); base += 1_000) {
      await connection.query(seedOrders(base, rows, seed));
    }
    await connection.query(seedItems(from + 1, Math.min(from + 50_000, rows)));
  }
  await connection.query("DROP TEMPORARY TABLE digits, hundreds");
  await connection.query("ANALYZE TABLE orders, order_items");
}

function seedOrders(base: number, rows: number, seed: number): string {
  const n = `(${base} + n + 1)`;
  return `INSERT INTO orders (id, user_id, status, channels, sku, country, amount, weight, discount, quantity, gift,
      placed_on, pickup, season, created_at, updated_at, note, receipt, attrs, trail)
    SELECT ${n}, 1 + MOD(${n} * ${spread}, ${userCount(rows)}), 1 + MOD(${n}, 4), MOD(${n}, 7) + 1,
      CONCAT('SKU-', UPPER(LEFT(SHA2(CONCAT(${seed}, ':', ${n}), 256), 12))), ELT(1 + MOD(${n}, 3), 'de', 'fr', 'éé'),
      MOD(${n} * 31, 9999999) / 100, IF(MOD(${n}, 5) = 0, NULL, ${n} / 7e0), IF(MOD(${n}, 6) = 0, NULL, ${n} / 3e0),
      1 + MOD(${n}, 60000), MOD(${n}, 32), '2023-01-01' + INTERVAL MOD(${n}, 700) DAY,
      IF(MOD(${n}, 4) = 0, NULL, SEC_TO_TIME(MOD(${n}, 86400) + 0.125)), 2000 + MOD(${n}, 25),
      '2023-01-01 00:00:00.125' + INTERVAL ${n} SECOND, '2024-01-01 00:00:00.000001' + INTERVAL ${n} SECOND,
      IF(MOD(${n}, 16) = 5, NULL, CONCAT(IF(MOD(${n}, 32) = 7, '😀 ünï\\t\\\\ ', ''), LEFT(SHA2(${n} * 7, 256), 60))),
      UNHEX(SHA2(CONCAT('r', ${n}), 256)),
      JSON_OBJECT('src', ELT(1 + MOD(${n}, 3), 'web', 'ios', 'android'), 'qty', MOD(${n}, 9) + 1, 'rate', ${n} / 8e0),
      CONCAT('1=seed-', ${n})
    FROM hundreds WHERE ${base} + n < ${rows}`;
}

function seedItems(from: number, to: number): string {
  return `INSERT INTO order_items (order_id, line, buyer_id, sku, qty, price, trail)
    SELECT id, 1, user_id, sku, quantity, LEAST(amount, 99999999.99), CONCAT('1=seed-', id, '-1')
    FROM orders WHERE id BETWEEN ${from} AND ${to}`;
}
