import { expect, test } from "vitest";
import type { TableShape, TableSpec } from "../../src/engines/engine.ts";
import { readAutoIncrement } from "../../src/engines/mysql/counters.ts";
import { queryArrays } from "../../src/engines/mysql/query.ts";
import { findSplitPoints, shardKeyText } from "../../src/engines/mysql/split-points.ts";
import { sliceWhere } from "../../src/engines/mysql/slice-sql.ts";
import { mysqlTable } from "../../src/engines/mysql/table.ts";
import { boundAt, MAX, MIN, type KeyValue } from "../../src/model/key.ts";
import { sliceContains, wholeSlice, type Slice } from "../../src/model/slice.ts";
import { claimOf, openRunner, openSession, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";

async function shapeOf(session: MysqlSession, table: TableSpec): Promise<TableShape> {
  const [shape] = await session.catalog.describe([table]);
  if (shape === undefined) throw new Error(`no shape of ${table.name}`);
  return shape;
}

/** Names, comments and columns that a tool which reads SQL by pattern stumbles over. */
const strange = {
  name: "we`ird.na(me, 'x",
  mysql: "GENERATED ALWAYS AS (CONCAT(`na,me`, ')')) STORED",
  mariadb: "GENERATED ALWAYS AS (CONCAT(`na,me`, ')')) STORED",
};

describeServers("the catalog", (flavor) => {
  const source = useServer(flavor, { databases: ["shop"] });
  const target = useServer(flavor, { databases: ["shop_1"] });

  test("describes columns, keys and the counter of a table", async () => {
    await sqlAsRoot(
      source(),
      `CREATE TABLE orders (
         tenant INT UNSIGNED NOT NULL, id BIGINT NOT NULL AUTO_INCREMENT, price DECIMAL(12,4), at DATETIME(3),
         mail VARCHAR(50) COLLATE utf8mb4_bin, kind ENUM('unsigned','b'), twice BIGINT AS (tenant * 2) VIRTUAL,
         hidden INT NOT NULL DEFAULT 7 INVISIBLE,
         PRIMARY KEY (tenant, id), UNIQUE KEY by_mail (mail), KEY by_id (id), KEY by_at (at, kind), FULLTEXT KEY ft (mail)
       ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
      "shop",
    );
    await using session = await openSession(source(), { database: "shop" });
    const shape = await shapeOf(session, { name: "orders", shardKey: "TENANT" });
    expect(shape).toMatchObject({
      name: "orders",
      shardKey: "tenant",
      keyType: "integer",
      primaryKey: ["tenant", "id"],
      keyOrder: "client",
      secondaryUniqueKeys: ["by_mail"],
    });
    const { detail } = mysqlTable(shape);
    expect(detail.columns.map((column) => column.name)).toEqual(
      "tenant id price at mail kind twice hidden".split(" "),
    );
    expect(detail.columns.filter((column) => column.unsigned).map((column) => column.name)).toEqual([
      "tenant",
    ]);
    expect(detail.columns.find((column) => column.name === "price")).toMatchObject({
      precision: 12,
      scale: 4,
    });
    expect(detail.columns.find((column) => column.name === "at")).toMatchObject({
      fraction: 3,
      nullable: true,
    });
    expect(detail.columns.find((column) => column.name === "twice")?.generated).toBe("virtual");
    expect(detail.columns.find((column) => column.name === "hidden")?.invisible).toBe(true);
    // The counter leans on by_id, and a FULLTEXT build would stop writes.
    expect(detail.deferrableIndexes.map((index) => index.name)).toEqual(["by_at"]);
    expect(detail.uniqueKeys.map((key) => key.name)).toEqual(["PRIMARY", "by_mail"]);
    expect(session.catalog.formatKey(shape, "5,7")).toBe("tenant=5, id=7");
    expect(session.catalog.compareKeys(shape, "5,7", "5,10")).toBeLessThan(0);
  });

  test("changes a table's fingerprint with its structure only", async () => {
    await sqlAsRoot(source(), "CREATE TABLE f (id INT PRIMARY KEY AUTO_INCREMENT, v INT)", "shop");
    await using session = await openSession(source(), { database: "shop" });
    const spec = { name: "f", shardKey: "id" };
    const before = await shapeOf(session, spec);
    await sqlAsRoot(source(), "INSERT INTO f VALUES (NULL, 1), (NULL, 2)", "shop");
    expect((await shapeOf(session, spec)).fingerprint).toBe(before.fingerprint);
    await sqlAsRoot(source(), "ALTER TABLE f MODIFY v BIGINT", "shop");
    expect((await shapeOf(session, spec)).fingerprint).not.toBe(before.fingerprint);
  });

  test("names every table that can not be moved, and why", async () => {
    await sqlAsRoot(
      source(),
      `CREATE TABLE nokey (a INT NOT NULL, b INT UNIQUE); CREATE TABLE floatkey (a DOUBLE PRIMARY KEY, b INT NOT NULL);
       CREATE TABLE text_shard (id INT PRIMARY KEY, s VARCHAR(10) NOT NULL); CREATE VIEW v AS SELECT 1 AS one;
       CREATE TABLE uniq (a INT NOT NULL, b INT, UNIQUE KEY by_a (a))`,
      "shop",
    );
    await using session = await openSession(source(), { database: "shop" });
    const refused = await session.catalog
      .describe([
        { name: "absent", shardKey: "a" },
        { name: "nokey", shardKey: "b" },
        { name: "floatkey", shardKey: "b" },
        { name: "text_shard", shardKey: "s" },
        { name: "v", shardKey: "one" },
      ])
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "E_PREFLIGHT" });
    const { message } = refused as Error;
    expect(message).toContain("no table shop.absent");
    expect(message).toContain("shop.nokey can not be moved: it has no primary key");
    expect(message).toMatch(/shop\.nokey .*b may be NULL/);
    expect(message).toContain("a key of type double");
    expect(message).toContain("its shard key s is of type varchar(10)");
    expect(message).toContain("shop.v is a view");
    // A unique key of NOT NULL columns tells rows apart as well.
    expect((await shapeOf(session, { name: "uniq", shardKey: "a" })).primaryKey).toEqual(["a"]);
  });

  test("creates a strange table at the target as it is, without foreign keys and counter, then its indexes", async () => {
    const name = `\`${strange.name.replaceAll("`", "``")}\``;
    await sqlAsRoot(
      source(),
      `CREATE TABLE parent (id INT PRIMARY KEY);
       CREATE TABLE ${name} (
         id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, \`na,me\` VARCHAR(20) CHARACTER SET latin1 NOT NULL DEFAULT 'a,\`(b''' COMMENT 'one\ntwo, KEY \`x\` (',
         p INT, \`mixed\nname\` INT, z DATE NOT NULL DEFAULT '2000-01-01', full_name VARCHAR(40) ${strange[flavor]}, gone INT NOT NULL DEFAULT 3 INVISIBLE,
         j JSON, PRIMARY KEY (id), UNIQUE KEY \`u\`\`q\` (\`na,me\`, id), KEY \`k)1\` (p, \`na,me\`(3)), KEY k2 (\`mixed\nname\`),
         CONSTRAINT \`f k,(\` FOREIGN KEY (p) REFERENCES parent (id), CHECK (p > 0)
       ) ENGINE=InnoDB AUTO_INCREMENT=900 DEFAULT CHARSET=utf8mb4 COMMENT='said AUTO_INCREMENT=5'`,
      "shop",
    );
    await using from = await openSession(source(), { database: "shop" });
    await using to = await openRunner(target(), {
      database: "shop_1",
      shard: "s1",
      claim: claimOf("strange", 1),
    });
    const shape = await shapeOf(from, { name: strange.name, shardKey: "id" });
    expect(mysqlTable(shape).detail.deferrableIndexes.map((index) => index.name)).toEqual(["k2"]);
    expect(await to.catalog.existing([strange.name, "parent"])).toEqual(new Set());
    await to.catalog.create(shape, { deferIndexes: true });
    // Again, as after a crash: the stamp says that it is ours.
    await to.catalog.create(shape, { deferIndexes: true });
    expect(await to.catalog.existing([strange.name, "parent"])).toEqual(new Set([strange.name]));

    const spec = { name: strange.name, shardKey: "id" };
    const bare = mysqlTable(await shapeOf(to, spec)).detail.createSql;
    expect(bare).not.toContain("KEY `k2`");
    expect(bare).not.toContain("FOREIGN KEY");
    expect(bare).not.toContain("AUTO_INCREMENT=900");
    expect(bare).toContain("said AUTO_INCREMENT=5");
    await to.catalog.buildDeferredIndexes(shape);
    await to.catalog.buildDeferredIndexes(shape);
    const built = mysqlTable(await shapeOf(to, spec)).detail;
    expect(built.columns).toEqual(mysqlTable(shape).detail.columns);
    const lines = (sql: string): string[] =>
      sql
        .split("\n")
        .map((line) => line.replace(/,$/, "").replace(" AUTO_INCREMENT=900", ""))
        .toSorted();
    const expected = lines(mysqlTable(shape).detail.createSql).filter(
      (line) => !line.includes("FOREIGN KEY"),
    );
    expect(lines(built.createSql)).toEqual(expected);
  });

  test("creates partitioned tables", async () => {
    await sqlAsRoot(
      source(),
      `CREATE TABLE parts (id INT NOT NULL PRIMARY KEY, v INT, KEY by_v (v)) ENGINE=InnoDB
         PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10) COMMENT 'a ) b', PARTITION p1 VALUES LESS THAN MAXVALUE)`,
      "shop",
    );
    await using from = await openSession(source(), { database: "shop" });
    await using to = await openRunner(target(), { database: "shop_1", claim: claimOf("parts", 1) });
    const shape = await shapeOf(from, { name: "parts", shardKey: "id" });
    await to.catalog.create(shape, { deferIndexes: true });
    await to.catalog.buildDeferredIndexes(shape);
    const there = await shapeOf(to, { name: "parts", shardKey: "id" });
    expect(mysqlTable(there).detail.createSql).toBe(mysqlTable(shape).detail.createSql);
  });

  test("does not touch a table that somebody else has made", async () => {
    await sqlAsRoot(source(), "CREATE TABLE taken (id INT PRIMARY KEY, v INT, KEY by_v (v))", "shop");
    await sqlAsRoot(target(), "CREATE TABLE taken (id INT PRIMARY KEY, v INT)", "shop_1");
    await using from = await openSession(source(), { database: "shop" });
    await using to = await openRunner(target(), { database: "shop_1", claim: claimOf("taken", 1) });
    const shape = await shapeOf(from, { name: "taken", shardKey: "id" });
    await expect(to.catalog.create(shape, { deferIndexes: true })).rejects.toMatchObject({
      code: "E_PREFLIGHT",
    });
    await to.catalog.buildDeferredIndexes(shape);
    const there = await shapeOf(to, { name: "taken", shardKey: "id" });
    expect(mysqlTable(there).detail.deferrableIndexes).toEqual([]);
  });

  test("takes over its own table after a crash, but not one that somebody else made meanwhile", async () => {
    await sqlAsRoot(source(), "CREATE TABLE crashed (id INT PRIMARY KEY, k INT)", "shop");
    await using from = await openSession(source(), { database: "shop" });
    await using to = await openRunner(target(), { database: "shop_1", claim: claimOf("crashed", 1) });
    const shape = await shapeOf(from, { name: "crashed", shardKey: "id" });
    // As if the run had ended just after the CREATE, then as if just before it.
    await sqlAsRoot(
      target(),
      "INSERT INTO _shardlift.created VALUES ('crashed', 'crashed', 0); CREATE TABLE crashed (id INT PRIMARY KEY, k INT)",
      "shop_1",
    );
    await to.catalog.create(shape, { deferIndexes: false });
    await sqlAsRoot(
      target(),
      "UPDATE _shardlift.created SET complete = 0 WHERE job = 'crashed'; INSERT INTO crashed VALUES (1, 1)",
      "shop_1",
    );
    await expect(to.catalog.create(shape, { deferIndexes: false })).rejects.toMatchObject({
      code: "E_PREFLIGHT",
    });
  });

  test("counts rows inside and outside a slice up to a limit", async () => {
    await sqlAsRoot(
      source(),
      "CREATE TABLE counted (id INT PRIMARY KEY, k BIGINT UNSIGNED NOT NULL, KEY (k)); INSERT INTO counted VALUES (1,0),(2,5),(3,6),(4,18446744073709551615)",
      "shop",
    );
    await using session = await openSession(source(), { database: "shop" });
    const shape = await shapeOf(session, { name: "counted", shardKey: "k" });
    const slice: Slice = [{ from: boundAt("5"), to: MAX }];
    expect(await session.catalog.countRows(shape, slice, 100)).toBe(3);
    expect(await session.catalog.countRows(shape, slice, 2)).toBe(2);
    expect(await session.catalog.countOutside(shape, slice, 100)).toBe(1);
    expect(await session.catalog.countOutside(shape, wholeSlice, 100)).toBe(0);
    expect(await session.catalog.countRows(shape, [], 100)).toBe(0);
    const high: Slice = [{ from: boundAt("18446744073709551615"), to: MAX }];
    expect(await session.catalog.countRows(shape, high, 100)).toBe(1);
    const negative: Slice = [{ from: boundAt("-5"), to: boundAt("1") }];
    expect(await session.catalog.countRows(shape, negative, 100)).toBe(1);
  });

  test("cuts a slice into equal parts, exactly and by estimate", async () => {
    await sqlAsRoot(
      source(),
      `CREATE TABLE spread (id INT PRIMARY KEY AUTO_INCREMENT, k BIGINT NOT NULL, KEY (k)) ENGINE=InnoDB;
       INSERT INTO spread (k) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n;
       INSERT INTO spread (k) SELECT 100000 + a.k * 7 + b.k % 5 FROM spread a JOIN spread b ON b.k <= 8;
       ANALYZE TABLE spread`,
      "shop",
    );
    await using session = await openSession(source(), { database: "shop" });
    const shape = await shapeOf(session, { name: "spread", shardKey: "k" });
    const table = mysqlTable(shape);
    for (const exactRows of [500_000, 100]) {
      const points = await session.control.use((connection) =>
        findSplitPoints(connection, table, wholeSlice, 3, exactRows),
      );
      const bounds = [MIN, ...points.map((point: KeyValue) => boundAt(point)), MAX];
      const sizes = [];
      for (const [index, from] of bounds.slice(0, -1).entries()) {
        sizes.push(await session.catalog.countRows(shape, [{ from, to: bounds[index + 1] ?? MAX }], 100_000));
      }
      for (const size of sizes)
        expect(size / 2250, `${exactRows}: ${sizes.join(", ")}`).toBeGreaterThan(
          exactRows === 100 ? 0.6 : 0.9,
        );
    }
  });

  test("steps over a key with very many rows when it cuts, and says when a slice can not be cut", async () => {
    await sqlAsRoot(
      source(),
      "CREATE TABLE lumpy (id INT PRIMARY KEY, k DATE NOT NULL, KEY (k)); INSERT INTO lumpy VALUES (1,'2024-01-01'),(2,'2024-01-01'),(3,'2024-01-01'),(4,'2024-01-01'),(5,'2024-02-01')",
      "shop",
    );
    await using session = await openSession(source(), { database: "shop" });
    const shape = await shapeOf(session, { name: "lumpy", shardKey: "k" });
    expect(await session.catalog.splitPoints(shape, wholeSlice, 1)).toEqual(["2024-02-01"]);
    await expect(session.catalog.splitPoints(shape, wholeSlice, 2)).rejects.toMatchObject({
      code: "E_USAGE",
    });
    const empty: Slice = [{ from: boundAt("2030-01-01"), to: MAX }];
    await expect(session.catalog.splitPoints(shape, empty, 1)).rejects.toMatchObject({ code: "E_USAGE" });
  });

  test("reads the counter exactly and only ever raises it", async () => {
    await sqlAsRoot(
      source(),
      "CREATE TABLE counter (id SMALLINT NOT NULL PRIMARY KEY AUTO_INCREMENT); CREATE TABLE uncounted (id INT PRIMARY KEY)",
      "shop",
    );
    await using session = await openRunner(source(), { database: "shop", claim: claimOf("counter", 1) });
    const shape = await shapeOf(session, { name: "counter", shardKey: "id" });
    expect(await session.catalog.autoIncrement(shape)).toEqual({ next: 1n, max: 32767n });
    await sqlAsRoot(
      source(),
      "INSERT INTO counter VALUES (),(),(); DELETE FROM counter WHERE id = 3",
      "shop",
    );
    expect(await session.catalog.autoIncrement(shape)).toMatchObject({ next: 4n });
    await session.catalog.raiseAutoIncrement(shape, 1000n);
    await session.catalog.raiseAutoIncrement(shape, 500n);
    expect(await session.catalog.autoIncrement(shape)).toMatchObject({ next: 1000n });
    await sqlAsRoot(source(), "INSERT INTO counter VALUES ()", "shop");
    const next = await session.control.use((connection) => readAutoIncrement(connection, mysqlTable(shape)));
    expect(next?.next).toBe(1001n);
    await expect(session.catalog.raiseAutoIncrement(shape, 40_000n)).rejects.toMatchObject({
      code: "E_COUNTER_FULL",
    });
    const uncounted = await shapeOf(session, { name: "uncounted", shardKey: "id" });
    expect(await session.catalog.autoIncrement(uncounted)).toBeUndefined();
  });

  const keys: Readonly<
    Record<
      string,
      { readonly type: string; readonly values: readonly string[]; readonly bounds: readonly string[] }
    >
  > = {
    integers: {
      type: "BIGINT UNSIGNED",
      values: ["0", "1", "9007199254740993", "18446744073709551615"],
      bounds: [
        "-1",
        "1",
        "9007199254740993",
        "9007199254740994",
        "18446744073709551615",
        "18446744073709551616",
      ],
    },
    "signed integers": { type: "INT ZEROFILL", values: ["0", "5", "4294967295"], bounds: ["-3", "5", "6"] },
    decimals: {
      type: "DECIMAL(40,10)",
      values: ["-123456789012345678901234567890.1234567890", "0", "0.0000000001", "12.5"],
      bounds: ["-0.5", "0.00000000005", "0.0000000001", "12.50", "12.6"],
    },
    bytes: {
      type: "VARBINARY(8)",
      values: ["x''", "x'00'", "x'0000'", "x'61'", "x'6120'", "x'41'", "x'ff'"],
      bounds: ["0x", "0x00", "0x41", "0x61", "0x612000", "0xff00"],
    },
    "padded bytes": {
      type: "BINARY(3)",
      values: ["x'61'", "x'610001'", "x'00'"],
      bounds: ["0x61", "0x6100", "0x61000000"],
    },
    dates: {
      type: "DATE",
      values: ["'0000-00-00'", "'2024-02-29'", "'1000-01-01'"],
      bounds: ["0000-00-00", "2024-02-29", "2024-03-01"],
    },
    moments: {
      type: "TIMESTAMP(6)",
      values: ["'0000-00-00'", "'1970-01-01 00:00:01'", "'2024-05-01 10:00:00.25'", "'2024-05-01 10:00:00'"],
      bounds: [
        "0000-00-00 00:00:00",
        "2024-05-01",
        "2024-05-01 10:00:00",
        "2024-05-01 10:00:00.250000",
        "2024-05-01 10:00:00.250001",
      ],
    },
  };

  test.each(Object.entries(keys))(
    "agrees with this process on which %s lie in a slice, also in a trigger",
    async (_, { type, values, bounds }) => {
      const rows = values.map((value, index) => `(${index}, ${value})`).join(", ");
      await using root = await connect(source(), "root", { database: "shop", multipleStatements: true });
      await root.query("SET SESSION sql_mode = '', time_zone = '+00:00'");
      await root.query(
        `DROP TABLE IF EXISTS sliced, seen; CREATE TABLE sliced (id INT PRIMARY KEY, k ${type} NOT NULL, KEY (k)); CREATE TABLE seen (id INT PRIMARY KEY)`,
      );
      await root.query(`INSERT INTO sliced VALUES ${rows}`);
      await using session = await openSession(source(), { database: "shop" });
      const shape = await shapeOf(session, { name: "sliced", shardKey: "k" });
      const table = mysqlTable(shape);
      const texts = await session.control.use((connection) =>
        queryArrays(
          connection,
          `SELECT CAST(id AS CHAR) AS id, ${shardKeyText(table)} AS k FROM sliced ORDER BY id`,
        ),
      );
      for (const [index, bound] of bounds.entries()) {
        const slice: Slice = [
          { from: boundAt(bound), to: index % 2 === 0 ? MAX : boundAt(bounds[index + 1] ?? bound) },
        ];
        const expected = texts
          .filter(([, key]) => sliceContains(table.keyType, slice, String(key)))
          .map(([id]) => id);
        const found = await session.control.use((connection) =>
          queryArrays(
            connection,
            `SELECT CAST(id AS CHAR) AS id FROM sliced WHERE ${sliceWhere(table, slice)} ORDER BY id`,
          ),
        );
        expect(found.flat(), `query ${JSON.stringify(slice)}`).toEqual(expected);
        // The application's session shows another time of day.
        await root.query("SET SESSION time_zone = '+09:00'");
        await root.query(
          `CREATE TRIGGER tr AFTER UPDATE ON sliced FOR EACH ROW IF ${sliceWhere(table, slice, "NEW")} THEN INSERT INTO seen VALUES (NEW.id); END IF`,
        );
        await root.query("UPDATE sliced SET id = id + 100");
        const [seen] = await root.query("SELECT CAST(id - 100 AS CHAR) AS id FROM seen ORDER BY id");
        await root.query("DROP TRIGGER tr; UPDATE sliced SET id = id - 100; TRUNCATE seen");
        expect(
          (seen as { id: string }[]).map((row) => row.id),
          `trigger ${JSON.stringify(slice)}`,
        ).toEqual(expected.map(String));
      }
    },
  );
});
