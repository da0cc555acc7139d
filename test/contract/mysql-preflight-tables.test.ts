import { expect, test } from "vitest";
import { boundAt, MAX } from "../../src/model/key.ts";
import {
  anew,
  createOrders,
  movedSlice,
  orders,
  preflightLab,
  type Asked,
} from "../support/preflight-lab.ts";
import { claimOf, openRunner, sqlAsRoot } from "../support/session-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

describeServers("preflight of tables", (flavor) => {
  const source = useServer(flavor, { databases: ["shop"] });
  const target = useServer(flavor, { databases: ["shop"] });
  const { saying, mends } = preflightLab(source, target);

  test("refuses tables that are not plain InnoDB tables", async () => {
    await anew(
      source(),
      `${createOrders}; ALTER TABLE orders ENGINE = MyISAM; CREATE VIEW seen AS SELECT * FROM orders;
       CREATE TABLE parts (user_id INT NOT NULL PRIMARY KEY) PARTITION BY HASH (user_id) PARTITIONS 2`,
    );
    await anew(target(), "");
    const tables = [
      orders,
      { ...orders, name: "seen" },
      { ...orders, name: "parts" },
      { ...orders, name: "absent" },
    ];
    const found = await saying("tables", { tables });
    expect(found.map(({ level, where }) => [level, where])).toEqual([
      ["blocker", "s0 table shop.absent"],
      ["blocker", "s0 table shop.orders"],
      ["blocker", "s0 table shop.seen"],
      ["warning", "s0 table shop.parts"],
    ]);
    expect(await mends(source(), "tables")).toMatchObject({ why: expect.stringContaining("MyISAM") });
  });

  test.runIf(flavor === "mariadb")("refuses system-versioned tables and periods", async () => {
    await anew(
      source(),
      `CREATE TABLE orders (user_id INT NOT NULL PRIMARY KEY) WITH SYSTEM VERSIONING;
       CREATE TABLE booked (user_id INT NOT NULL PRIMARY KEY, a DATE, b DATE, PERIOD FOR p (a, b))`,
    );
    const found = await saying("tables", { tables: [orders, { ...orders, name: "booked" }] });
    expect(found.map((finding) => finding.why.split(":")[0])).toEqual([
      "it is system-versioned",
      "it has an application-time period, which one DELETE may split into new rows",
    ]);
  });

  test("refuses tables without a usable primary key", async () => {
    await anew(source(), "CREATE TABLE orders (id DOUBLE PRIMARY KEY, user_id INT NOT NULL, KEY (user_id))");
    await anew(target(), "");
    expect(await saying("primary-key")).toEqual([
      expect.objectContaining({ level: "blocker", why: expect.stringContaining("type double") }),
    ]);
    await anew(source(), "CREATE TABLE orders (id INT UNIQUE, user_id INT NOT NULL, KEY (user_id))");
    const [found] = await saying("primary-key");
    expect(found?.fix).toBe("ALTER TABLE `shop`.`orders` ADD PRIMARY KEY (…)");
    await sqlAsRoot(source(), found?.fix.replace("…", "id") ?? "");
    expect(await saying("primary-key")).toEqual([]);
  });

  test("refuses shard keys that may be NULL, have no index, no exact order or another type", async () => {
    await anew(
      source(),
      "CREATE TABLE orders (id INT PRIMARY KEY, user_id BIGINT UNSIGNED, name VARCHAR(10) NOT NULL)",
    );
    await anew(target(), "");
    const found = await saying("shard-key");
    expect(found).toHaveLength(2);
    for (const { fix } of found) await sqlAsRoot(source(), fix);
    expect(await saying("shard-key")).toEqual([]);
    expect(await saying("shard-key", { tables: [{ ...orders, shardKey: "name" }] })).toEqual([
      expect.objectContaining({ why: expect.stringContaining("varchar(10)") }),
    ]);
    expect(await saying("shard-key", { tables: [{ ...orders, shardKey: "nobody" }] })).toEqual([
      expect.objectContaining({ why: "it has no column nobody" }),
    ]);
    const decimals = await saying("shard-key", { keyType: "decimal", slice: [] });
    expect(decimals).toEqual([
      expect.objectContaining({ why: expect.stringContaining("ordered as integer") }),
    ]);
  });

  test("refuses a bound that is finer than the shard key", async () => {
    await anew(
      source(),
      "CREATE TABLE orders (id INT PRIMARY KEY, user_id DATETIME(3) NOT NULL, KEY (user_id))",
    );
    const bounds = (key: string): Asked => ({
      keyType: "temporal",
      slice: [{ from: boundAt(key), to: MAX }],
    });
    expect(await saying("shard-key", bounds("2024-05-01 10:00:00.250"))).toEqual([]);
    expect(await saying("shard-key", bounds("2024-05-01 10:00:00.250000"))).toEqual([
      expect.objectContaining({ level: "blocker", fix: "cut at 2024-05-01 10:00:00.250" }),
    ]);
  });

  test("refuses foreign keys in either direction, also from a database that the account may not read", async () => {
    await anew(
      source(),
      `${createOrders}; CREATE TABLE items (id INT PRIMARY KEY, o BIGINT, CONSTRAINT of_order FOREIGN KEY (o) REFERENCES orders (id))`,
    );
    await anew(target(), "");
    const parent = await saying("foreign-keys");
    expect(parent).toEqual([
      expect.objectContaining({
        level: "blocker",
        where: "s0 table shop.orders",
        why: expect.stringContaining("foreign key of_order of `shop`.`items` refers to it"),
      }),
    ]);
    const child = await saying("foreign-keys", { tables: [{ name: "items", shardKey: "o" }] });
    expect(child[0]?.why).toBe("foreign key of_order refers to `shop`.`orders`");
    await mends(source(), "foreign-keys");

    await sqlAsRoot(
      source(),
      "CREATE DATABASE hidden; CREATE TABLE hidden.`se-cret` (id INT PRIMARY KEY, o BIGINT, CONSTRAINT unseen FOREIGN KEY (o) REFERENCES shop.orders (id)); CREATE USER blind@'%' IDENTIFIED BY 'b'; GRANT SELECT, TRIGGER ON shop.* TO blind@'%'; GRANT PROCESS ON *.* TO blind@'%'",
    );
    await sqlAsRoot(
      target(),
      "CREATE USER blind@'%' IDENTIFIED BY 'b'; GRANT SELECT ON shop.* TO blind@'%'; GRANT PROCESS ON *.* TO blind@'%'",
    );
    const hidden = await saying("foreign-keys", { account: { user: "blind", password: "b" } });
    expect(hidden).toEqual([
      expect.objectContaining({ fix: "ALTER TABLE `hidden`.`se-cret` DROP FOREIGN KEY `unseen`" }),
    ]);
    await sqlAsRoot(source(), "DROP DATABASE hidden; DROP USER blind@'%'");
    await sqlAsRoot(target(), "DROP USER blind@'%'");
  });

  test("refuses triggers on moved tables, those of the owner and those that a job has left", async () => {
    await anew(
      source(),
      `${createOrders}; CREATE TRIGGER audit BEFORE INSERT ON orders FOR EACH ROW SET NEW.v = 1`,
    );
    await anew(target(), "");
    expect(await mends(source(), "user-triggers")).toMatchObject({
      why: "it has a trigger audit (BEFORE INSERT)",
    });
    await sqlAsRoot(
      source(),
      "CREATE TRIGGER shardlift_0123_i AFTER INSERT ON orders FOR EACH ROW SET @x = 1",
      "shop",
    );
    const [left, ...more] = await saying("user-triggers");
    expect(more).toEqual([]);
    expect(left?.why).toContain("the gate of another job");
    expect(left?.fix).not.toMatch(/DROP TRIGGER/i);
  });

  test("names the job whose gate a table carries, and never says how to drop the gate", async () => {
    await anew(source(), createOrders);
    await anew(target(), "");
    const claim = claimOf("shop-split-s0-aa11", 1);
    await using runner = await openRunner(source(), { database: "shop", claim });
    const tables = await runner.catalog.describe([orders]);
    const gate = { role: "gate", tables, slice: movedSlice, owned: [], afterEpoch: 1 } as const;
    await runner.gates.arm(gate);
    const found = await saying("user-triggers");
    expect(found).toHaveLength(3);
    for (const { level, why, fix } of found) {
      expect(level).toBe("blocker");
      expect(why).toContain("the gate of job shop-split-s0-aa11");
      expect(why).toContain("once that job is finished or aborted");
      expect(fix).toContain("shardlift status shop-split-s0-aa11");
      expect(fix).not.toMatch(/DROP TRIGGER/i);
    }
    await runner.gates.disarm(gate);
    await runner.ledger.uninstall();
  });

  test("warns of unique keys that hold per shard only", async () => {
    await anew(
      source(),
      `${createOrders}; ALTER TABLE orders ADD UNIQUE KEY by_v (v), ADD UNIQUE KEY fine (user_id, v)`,
    );
    await anew(target(), "");
    expect(await saying("unique-keys")).toEqual([
      expect.objectContaining({ level: "warning", why: expect.stringContaining("by_v (v)") }),
    ]);
  });

  test("refuses a target's table of another structure", async () => {
    await anew(
      source(),
      `${createOrders}; ALTER TABLE orders ADD name VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, ADD UNIQUE KEY u (user_id, v)`,
    );
    await anew(
      target(),
      `CREATE TABLE orders (v INT, id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id INT NOT NULL, name VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, extra INT)`,
    );
    const reasons = (await saying("target-structure")).map((finding) => finding.why);
    expect(reasons).toHaveLength(4);
    expect(reasons[0]).toMatch(
      /column user_id is bigint NOT NULL at the source and int NOT NULL at the target/,
    );
    expect(reasons[1]).toMatch(
      /COLLATE utf8mb4_bin at the source and .* COLLATE utf8mb4_general_ci at the target/,
    );
    expect(reasons[2]).toBe("column extra is missing at the source");
    expect(reasons[3]).toBe("unique key (user_id, v) is missing at the target");
    // Another order of columns is fine.
    await anew(
      target(),
      `${createOrders.replace("id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT NOT NULL, v INT", "v INT, user_id BIGINT NOT NULL, id BIGINT PRIMARY KEY AUTO_INCREMENT")}; ALTER TABLE orders ADD name VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, ADD UNIQUE KEY u (user_id, v)`,
    );
    expect(await saying("target-structure")).toEqual([]);
  });

  test("refuses a target that already holds rows of the slice, and leaves its other rows alone", async () => {
    await anew(source(), createOrders);
    await anew(target(), `${createOrders}; INSERT INTO orders VALUES (1, 5, 0), (2, 99, 0)`);
    expect(await saying("target-rows")).toEqual([]);
    await sqlAsRoot(target(), "INSERT INTO orders VALUES (3, 100, 0), (4, 101, 0)", "shop");
    expect(await saying("target-rows")).toEqual([
      expect.objectContaining({
        level: "blocker",
        where: "s1 table orders",
        why: "it already holds 2 rows of the slice [100, MAX)",
      }),
    ]);
  });

  test("refuses a counter that leaves too little for two shards, before anything is copied", async () => {
    await anew(source(), createOrders);
    expect(await saying("counter-room")).toEqual([]);
    await anew(
      source(),
      `${createOrders.replace("id BIGINT", "id SMALLINT")}; INSERT INTO orders VALUES (32000, 100, 0)`,
    );
    expect(await saying("counter-room")).toEqual([
      expect.objectContaining({
        level: "blocker",
        where: "s0 table orders",
        why: expect.stringContaining("stands at 32001 of 32767"),
      }),
    ]);
  });
});
