import { expect, test } from "vitest";
import { openLogLab } from "../support/log-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

/** Each is run alone; what it changes must never pass unseen. */
const changes: Readonly<Record<"mariadb" | "mysql", readonly string[]>> = {
  mariadb: [
    "SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE TABLE orders",
    "SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE orders ADD COLUMN late INT",
    "/*!100100 SET STATEMENT lock_wait_timeout=1 FOR */ TRUNCATE TABLE orders",
    "SET SESSION binlog_format=STATEMENT; SET STATEMENT lock_wait_timeout=1 FOR UPDATE orders SET v=2",
    "SET SESSION binlog_format=STATEMENT; SET STATEMENT lock_wait_timeout=1 FOR INSERT INTO orders VALUES (2, 2)",
    "SET SESSION binlog_format=STATEMENT; SET STATEMENT lock_wait_timeout=1 FOR DELETE FROM orders",
    "SET SESSION binlog_format=STATEMENT; ANALYZE UPDATE orders SET v=2",
    "SET SESSION binlog_format=STATEMENT; ANALYZE FORMAT=JSON DELETE FROM orders",
    "SET SESSION binlog_format=STATEMENT; BEGIN NOT ATOMIC UPDATE orders SET v=3; END",
    "SET SESSION binlog_format=STATEMENT; WITH c AS (SELECT 1 AS one) SELECT one INTO @x FROM c; UPDATE orders SET v=@x+7",
    "SET SESSION binlog_format=STATEMENT; EXECUTE IMMEDIATE 'UPDATE orders SET v=4'",
    "SET SESSION binlog_format=STATEMENT; /*!50000 UPDATE */ orders SET v=5",
  ],
  mysql: [
    "/*!50000 TRUNCATE */ TABLE orders",
    "SET SESSION binlog_format=STATEMENT; WITH c AS (SELECT 9 AS nine) UPDATE orders, c SET orders.v=c.nine",
    "SET SESSION binlog_format=STATEMENT; /*!50000 UPDATE */ orders SET v=5",
    "SET SESSION binlog_format=STATEMENT; UPDATE /*+ MAX_EXECUTION_TIME(1000) */ orders SET v=6",
  ],
};

const bystanders: Readonly<Record<"mariadb" | "mysql", readonly string[]>> = {
  mariadb: [
    "SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE TABLE other",
    "SET STATEMENT lock_wait_timeout=1 FOR ANALYZE TABLE orders",
    "SET PASSWORD FOR bystander@'%' = PASSWORD('x')",
    "SET DEFAULT ROLE NONE FOR bystander@'%'",
  ],
  mysql: [
    "SET PASSWORD FOR bystander@'%' = 'x'",
    "SET DEFAULT ROLE NONE TO bystander@'%'",
    "ALTER USER bystander@'%' IDENTIFIED BY 'y'",
  ],
};

const everywhere = [
  "ANALYZE TABLE orders",
  "OPTIMIZE TABLE orders",
  "/*!40000 ALTER TABLE other DISABLE KEYS */",
  "CREATE TABLE parts (id INT PRIMARY KEY) /*!50100 PARTITION BY HASH (id) PARTITIONS 2 */",
  "FLUSH TABLES",
];

describeServers("statements in the log", (flavor) => {
  const server = useServer(flavor);

  test.each(changes[flavor])("stop the reader: %s", async (sql) => {
    await using lab = await openLogLab(server(), "statements");
    await lab.root.query("CREATE TABLE orders (id INT PRIMARY KEY, v INT); INSERT INTO orders VALUES (1, 1)");
    const follower = await lab.follow([await lab.describe("orders")]);
    const app = await lab.session();
    try {
      await app.query(sql);
    } finally {
      await app.end();
    }
    await lab.barrier(1);
    await expect(follower.reached(1)).rejects.toMatchObject({
      code: expect.stringMatching(/^E_(DDL|STATEMENT_LOGGED)$/),
    });
  });

  test("pass by when they change no row and no column of the table", async () => {
    await using lab = await openLogLab(server(), "bystanders");
    await lab.root.query(
      "CREATE TABLE orders (id INT PRIMARY KEY, v INT); CREATE TABLE other (id INT PRIMARY KEY)",
    );
    await lab.root.query("CREATE USER bystander@'%' IDENTIFIED BY 'first'");
    const follower = await lab.follow([await lab.describe("orders")]);
    for (const sql of [...everywhere, ...bystanders[flavor]]) await lab.root.query(sql);
    await lab.root.query("DROP USER bystander@'%'; INSERT INTO orders VALUES (7, 7)");
    await lab.barrier(1);
    await follower.reached(1);
    expect(follower.keys("orders")).toEqual(["7"]);
  });
});
