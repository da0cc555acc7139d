/** Texts that a server does not show as they are: it prints definitions in utf8mb3, and a `?` for all else. */
import { describe, expect, test } from "vitest";
import type { RowDataPacket } from "mysql2/promise";
import type { TableSpec } from "../../src/engines/engine.ts";
import type { MysqlSession } from "../../src/engines/mysql/session.ts";
import { structureDifferences } from "../../src/engines/mysql/structure.ts";
import { mysqlTable, type MysqlTable } from "../../src/engines/mysql/table.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { anew, preflightLab } from "../support/preflight-lab.ts";
import { claimOf, openRunner, openSession, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

const spec: TableSpec = { name: "texts", shardKey: "id" };

async function shapeOf(session: MysqlSession): Promise<MysqlTable> {
  const [shape] = await session.catalog.describe([spec]);
  if (shape === undefined) throw new Error("no shape");
  return mysqlTable(shape);
}

/** A row of answers with the server's own bytes in hexadecimal digits. */
async function rowOf(server: LocalServer, database: string, sql: string): Promise<RowDataPacket> {
  await using root = await connect(server, "root", { database, charset: "utf8mb4" });
  await root.query("SET SESSION sql_mode = ''");
  const [rows] = await root.query<RowDataPacket[]>(sql);
  const [row] = rows;
  if (row === undefined) throw new Error(`no row: ${sql}`);
  return row;
}

/** Every kind of text in a definition; an empty table, so nothing is told by its rows. */
const zoo = `CREATE TABLE texts (
  id INT NOT NULL PRIMARY KEY,
  e ENUM('','emoji 😀','plain','what?','it''s 🐍','a\\\\b 🐍','tab\t🐍\n') CHARACTER SET utf8mb4 NOT NULL DEFAULT 'emoji 😀',
  e2 ENUM('🐍','🦊','𝟏') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT '🦊' COMMENT 'why? DEFAULT ''?''',
  e16 ENUM('🐍','z') CHARACTER SET utf16 NULL,
  egbk ENUM(0xFEFE,'b') CHARACTER SET gbk NULL,
  ebin ENUM(0xFFFE,'q?') CHARACTER SET binary NULL,
  s SET('s😀','t','u?','🦊') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 's😀,🦊',
  v VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL DEFAULT 'd ''😀\\\\',
  vn VARCHAR(20) CHARACTER SET utf16 NULL DEFAULT 'n 😀',
  vq VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL DEFAULT 'what?',
  vgbk VARCHAR(20) CHARACTER SET gbk NOT NULL DEFAULT 0xFEFE,
  vb VARBINARY(10) NOT NULL DEFAULT 0xFFFE3F,
  g VARCHAR(60) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (CONCAT(vq, '😀 ?', 'é')) STORED,
  tx TEXT CHARACTER SET utf16 DEFAULT ('t 😀?'),
  x VARCHAR(60) CHARACTER SET utf8mb4 DEFAULT (CONCAT('🐍', 'é?')),
  \`na?me\` INT NULL COMMENT 'a ? in a name',
  CONSTRAINT not_snake CHECK (vq <> '🐍'),
  CONSTRAINT not_ask CHECK (vq <> '?')
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='is it?'`;

/** All members by index, the defaults and the generated value, as bytes. */
async function bytesOf(server: LocalServer, database: string): Promise<unknown> {
  await using root = await connect(server, "root", { database, charset: "utf8mb4" });
  await root.query("SET SESSION sql_mode = ''");
  await root.query("DELETE FROM texts");
  await root.query("INSERT INTO texts (id) VALUES (0)");
  for (let index = 1; index <= 7; index += 1) {
    await root.query("INSERT INTO texts (id, e, e2, e16, egbk, ebin, s) VALUES (?, ?, ?, ?, ?, ?, ?)", [
      index,
      index,
      Math.min(index, 3),
      Math.min(index, 2),
      Math.min(index, 2),
      Math.min(index, 2),
      2 ** (index - 1),
    ]);
  }
  const columns = "e e2 e16 egbk ebin s v vn vq vgbk vb g tx x".split(" ");
  const [rows] = await root.query<RowDataPacket[]>(
    `SELECT ${columns.map((name) => `HEX(${name}) AS ${name}`).join(", ")} FROM texts ORDER BY id`,
  );
  const snake = await root
    .query("INSERT INTO texts (id, vq) VALUES (100, '🐍')")
    .catch((error: { errno?: number }) => error.errno);
  await root.query("DELETE FROM texts");
  return { rows, snake };
}

describeServers("texts that a server can not show", (flavor) => {
  const source = useServer(flavor, { databases: ["shop"] });
  const target = useServer(flavor, { databases: ["shop"] });
  const { saying } = preflightLab(source, target);

  async function shapes(): Promise<[MysqlTable, MysqlTable]> {
    await using from = await openSession(source(), { database: "shop", shard: "s0" });
    await using to = await openSession(target(), { database: "shop", shard: "s1" });
    return [await shapeOf(from), await shapeOf(to)];
  }

  async function createdFrom(job: string): Promise<void> {
    await using from = await openSession(source(), { database: "shop", shard: "s0" });
    await using to = await openRunner(target(), { database: "shop", shard: "s1", claim: claimOf(job, 1) });
    await to.catalog.create(await shapeOf(from), { deferIndexes: true });
    await to.catalog.buildDeferredIndexes(await shapeOf(from));
  }

  test("are at the target what they are at the source: members, defaults, expressions, checks", async () => {
    await anew(source(), zoo);
    if (flavor === "mysql")
      await sqlAsRoot(source(), "ALTER TABLE texts ADD KEY fx (id, (CONCAT(vq, 'é🐍')))", "shop");
    await anew(target(), "");
    await createdFrom("texts-1");
    const expected = await bytesOf(source(), "shop");
    expect(await bytesOf(target(), "shop")).toEqual(expected);
    expect(expected).toMatchObject({ snake: flavor === "mysql" ? 3819 : 4025 });
    const [from, to] = await shapes();
    expect(to.detail.columns).toEqual(from.detail.columns);
    expect(to.fingerprint).toBe(from.fingerprint);
    expect(from.detail.columns.find(({ name }) => name === "e2")?.columnType).toBe("enum('🐍','🦊','𝟏')");
    expect(await saying("tables", { tables: [spec] })).toEqual([]);
    expect(await saying("target-structure", { tables: [spec] })).toEqual([]);
  });

  test("are read without any right to write at the source", async () => {
    await anew(source(), zoo);
    await sqlAsRoot(
      source(),
      "CREATE USER looker@'%' IDENTIFIED BY 'l'; GRANT SELECT ON shop.* TO looker@'%'",
    );
    try {
      await using looker = await openSession(source(), { database: "shop", user: "looker", password: "l" });
      await using tool = await openSession(source(), { database: "shop" });
      expect((await shapeOf(looker)).fingerprint).toBe((await shapeOf(tool)).fingerprint);
      // What is asked after it comes in the session's own character set again.
      expect(await looker.catalog.existing(["texts"])).toEqual(new Set(["texts"]));
      expect((await shapeOf(looker)).detail.createSql).toContain("is it?");
    } finally {
      await sqlAsRoot(source(), "DROP USER looker@'%'");
    }
  });

  test("of a SET with 64 members and an ENUM with thousands are all told apart", async () => {
    const set = Array.from({ length: 64 }, (_, index) => `'m${index}🐍'`).join(",");
    const list = Array.from({ length: 3000 }, (_, index) => `'m${index}${index % 2 === 0 ? "🦊" : ""}'`).join(
      ",",
    );
    await anew(
      source(),
      `CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, s SET(${set}) CHARACTER SET utf8mb4, e ENUM(${list}) CHARACTER SET utf8mb4)`,
    );
    await anew(target(), "");
    await createdFrom("texts-2");
    await sqlAsRoot(target(), "INSERT INTO texts VALUES (1, 9223372036854775808, 2999)", "shop");
    const row = await rowOf(
      target(),
      "shop",
      "SELECT CAST(s AS CHAR CHARACTER SET utf8mb4) AS s, CAST(e AS CHAR CHARACTER SET utf8mb4) AS e FROM texts",
    );
    expect(row).toEqual({ s: "m63🐍", e: "m2998🦊" });
  });

  describe("tell tables apart", () => {
    const table = (definition: string): string =>
      `CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, vq VARCHAR(20) CHARACTER SET utf8mb4, ${definition}) DEFAULT CHARSET=utf8mb4`;
    test.for([
      ["ENUM members", "c ENUM('a','🐍')", "c ENUM('a','🦊')"],
      ["an ENUM member and its likeness", "c ENUM('a','🐍')", "c ENUM('a','?')"],
      ["SET members", "c SET('🐍','a')", "c SET('🦊','a')"],
      [
        "members without a place in Unicode",
        "c ENUM(0xFEFE) CHARACTER SET gbk",
        "c ENUM(0xFEFD) CHARACTER SET gbk",
      ],
      ["defaults", "c VARCHAR(9) NOT NULL DEFAULT '🐍'", "c VARCHAR(9) NOT NULL DEFAULT '🦊'"],
      ["defaults of bytes", "c VARBINARY(9) DEFAULT 0xFFFE", "c VARBINARY(9) DEFAULT 0xFEFF"],
      ["plain defaults", "c INT NOT NULL DEFAULT 1", "c INT NOT NULL DEFAULT 2"],
      ["ON UPDATE", "c DATETIME NULL ON UPDATE CURRENT_TIMESTAMP", "c DATETIME NULL"],
      [
        "default expressions",
        "c VARCHAR(9) DEFAULT (CONCAT('🐍','a'))",
        "c VARCHAR(9) DEFAULT (CONCAT('🦊','a'))",
      ],
      [
        "generated columns",
        "c VARCHAR(40) AS (CONCAT(vq,'🐍')) STORED",
        "c VARCHAR(40) AS (CONCAT(vq,'🦊')) STORED",
      ],
      ["checks", "c INT, CONSTRAINT k CHECK (vq <> '🐍')", "c INT, CONSTRAINT k CHECK (vq <> '🦊')"],
      ["a missing check", "c INT, CONSTRAINT k CHECK (c > 0)", "c INT"],
      ["prefixes of unique keys", "c INT, UNIQUE KEY u (vq(3))", "c INT, UNIQUE KEY u (vq(4))"],
    ] as const)("that differ in %s only", async ([, here, there]) => {
      await anew(source(), table(here));
      await anew(target(), table(there));
      const [from, to] = await shapes();
      expect(structureDifferences(from, to)).not.toEqual([]);
      expect(structureDifferences(to, from)).not.toEqual([]);
      expect(from.fingerprint).not.toBe(to.fingerprint);
      const found = await saying("target-structure", { tables: [spec] });
      expect(found.map(({ level }) => level)).toContain("blocker");
      await anew(target(), table(here));
      expect(await saying("target-structure", { tables: [spec] })).toEqual([]);
    });
  });

  test.runIf(flavor === "mysql")("tell unique keys over expressions apart", async () => {
    const table = (text: string): string =>
      `CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4, UNIQUE KEY u ((CONCAT(v, '${text}'))))`;
    await anew(source(), table("🐍"));
    await anew(target(), table("🦊"));
    expect(structureDifferences(...(await shapes()))).toHaveLength(2);
  });

  test.runIf(flavor === "mysql")(
    "and that can not be known are a blocker until the table is at the target by hand",
    async () => {
      // MySQL prints the bytes of a `_latin1` literal as another text than the one that it keeps.
      const table = (snake: string): string =>
        `CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb4, g VARCHAR(40) CHARACTER SET utf8mb4 AS (CONCAT(v, _latin1'é', '${snake}')) VIRTUAL)`;
      await anew(source(), table("🐍"));
      await anew(target(), "");
      expect(await saying("tables", { tables: [spec] })).toEqual([
        expect.objectContaining({
          level: "blocker",
          where: "s0 table shop.texts",
          why: expect.stringContaining("the expression of column g"),
          fix: expect.stringContaining("create the table at the target by hand"),
        }),
      ]);
      await expect(createdFrom("texts-3")).rejects.toMatchObject({ code: "E_PREFLIGHT" });
      await using to = await openSession(target(), { database: "shop" });
      expect(await to.catalog.existing(["texts"])).toEqual(new Set());

      await sqlAsRoot(target(), table("🦊"), "shop");
      expect(await saying("tables", { tables: [spec] })).toEqual([]);
      expect(await saying("target-structure", { tables: [spec] })).toHaveLength(1);
      await sqlAsRoot(target(), `DROP TABLE texts; ${table("🐍")}`, "shop");
      expect(await saying("target-structure", { tables: [spec] })).toEqual([]);
    },
  );

  test("a table that came out other than the source's is not taken for created", async () => {
    await anew(
      source(),
      "CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, e ENUM('a','🐍') CHARACTER SET utf8mb4)",
    );
    await anew(target(), "");
    await using from = await openSession(source(), { database: "shop", shard: "s0" });
    await using to = await openRunner(target(), {
      database: "shop",
      shard: "s1",
      claim: claimOf("texts-4", 1),
    });
    const shape = await shapeOf(from);
    const detail = { ...shape.detail, createSql: shape.detail.createSql.replace("🐍", "🦊") };
    const wrong = await to.catalog
      .create({ ...shape, detail }, { deferIndexes: false })
      .catch((error: unknown) => error);
    expect(wrong).toMatchObject({ code: "E_STRUCTURE_DIFFERS" });
    expect((wrong as Error).message).toContain("enum('a','🦊')");
    const row = await rowOf(
      target(),
      "_shardlift",
      "SELECT complete AS complete FROM created WHERE job = 'texts-4'",
    );
    expect(row).toEqual({ complete: 0 });
    // The table is there now; a later run must not take that for enough.
    await expect(to.catalog.adopt(shape)).rejects.toMatchObject({ code: "E_STRUCTURE_DIFFERS" });
    await sqlAsRoot(target(), "DROP TABLE texts", "shop");
    await to.catalog.create(shape, { deferIndexes: false });
    await to.catalog.adopt(shape);
  });

  test("a table of somebody else is filled only when it is proven equal", async () => {
    const table = (text: string): string =>
      `CREATE TABLE texts (id INT NOT NULL PRIMARY KEY, e ENUM('a','${text}') CHARACTER SET utf8mb4)`;
    await anew(source(), table("🐍"));
    await anew(target(), table("🦊"));
    await using from = await openSession(source(), { database: "shop", shard: "s0" });
    await using to = await openRunner(target(), {
      database: "shop",
      shard: "s1",
      claim: claimOf("texts-5", 1),
    });
    await expect(to.catalog.adopt(await shapeOf(from))).rejects.toMatchObject({
      code: "E_STRUCTURE_DIFFERS",
    });
    await sqlAsRoot(target(), `DROP TABLE texts; ${table("🐍")}; INSERT INTO texts VALUES (1, 2)`, "shop");
    await to.catalog.adopt(await shapeOf(from));
    // It stays its owner's: an abort does not drop it.
    await expect(to.catalog.create(await shapeOf(from), { deferIndexes: false })).rejects.toMatchObject({
      code: "E_PREFLIGHT",
    });
  });
});
