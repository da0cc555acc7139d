import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ShardliftError } from "../../src/errors/error.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { openLogLab, type LogLab } from "../support/log-lab.ts";
import { connect, describeServers, useServer } from "../support/servers.ts";

/** Rule 10: stop, never guess. */
describeServers("the log reader stops", (flavor) => {
  const server = useServer(flavor);
  let lab: LogLab;
  let table: MysqlTable;

  beforeEach(async () => {
    lab = await openLogLab(server(), "stops");
    await lab.root.query(
      "CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE TABLE u (id INT PRIMARY KEY); INSERT INTO t VALUES (1,1)",
    );
    table = await lab.describe("t");
  });
  afterEach(async () => lab[Symbol.asyncDispose]());

  async function codeAfter(sql: string): Promise<string> {
    const follower = await lab.follow([table]);
    const before = await follower.log.head();
    await lab.root.query(sql);
    const error = await follower.failure();
    // Nothing behind the statement may be taken for read.
    expect(follower.position ?? before).toBe(before);
    expect(error).toBeInstanceOf(ShardliftError);
    return (error as ShardliftError).code;
  }

  describe("with E_STATEMENT_LOGGED when a session logs statements", () => {
    test.each([
      "INSERT INTO t VALUES (2,2)",
      "UPDATE t SET v=7",
      "DELETE FROM t",
      "REPLACE INTO t VALUES (1,5)",
      "INSERT INTO u VALUES (1)",
    ])("%s", async (sql) => {
      expect(await codeAfter(`SET SESSION binlog_format=STATEMENT; ${sql}`)).toBe("E_STATEMENT_LOGGED");
    });
  });

  describe("with E_DDL when a moved table is changed by", () => {
    test.each([
      "TRUNCATE TABLE t",
      "TRUNCATE t",
      "ALTER TABLE t ADD COLUMN w INT",
      "ALTER TABLE stops.t ENGINE=InnoDB",
      "RENAME TABLE t TO t2",
      "RENAME TABLE t TO t_old, u TO t",
      "ALTER TABLE t RENAME TO z",
      "DROP TABLE u, t",
      "DROP TABLE IF EXISTS `stops`.`t`",
      "CREATE INDEX i ON t (v)",
      "CREATE TRIGGER theirs AFTER INSERT ON t FOR EACH ROW SET @x = 1",
      "CREATE TABLE child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id))",
      "USE mysql; DROP TABLE stops.t",
      "DROP DATABASE stops",
    ])("%s", async (sql) => {
      expect(await codeAfter(sql)).toBe("E_DDL");
    });
  });

  test("with E_SCHEMA_CHANGED when the table was changed after it was described and before the position", async () => {
    for (const change of ["ADD COLUMN w INT", "MODIFY v BIGINT", "MODIFY id BIGINT UNSIGNED"]) {
      table = await lab.describe("t");
      await lab.root.query(`ALTER TABLE t ${change}`);
      expect(await codeAfter("UPDATE t SET v = v + 1")).toBe("E_SCHEMA_CHANGED");
    }
  });

  test("with E_SCHEMA_CHANGED when columns of one type have changed their names and the log shows names", async () => {
    await lab.root.query("ALTER TABLE t CHANGE v w INT");
    await using session = await lab.session();
    await lab.root.query("SET GLOBAL binlog_row_metadata=FULL");
    const follower = await lab.follow([table]);
    await session.query("UPDATE t SET w = w + 1");
    expect(await follower.failure()).toMatchObject({ code: "E_SCHEMA_CHANGED" });
    await lab.root.query(`SET GLOBAL binlog_row_metadata=${flavor === "mysql" ? "MINIMAL" : "NO_LOG"}`);
  });

  test("with E_LOG_LOST when its position was purged, and says so beforehand", async () => {
    const log = lab.changeLog();
    const from = await log.head();
    expect(await log.whyNotReadable(from)).toBeUndefined();
    await lab.root.query(
      "INSERT INTO u VALUES (1); FLUSH BINARY LOGS; INSERT INTO u VALUES (2); FLUSH BINARY LOGS",
    );
    await lab.root.query(flavor === "mysql" ? "DO SLEEP(0)" : "FLUSH BINARY LOGS; INSERT INTO u VALUES (3)");
    const [files] = await lab.root.query("SHOW BINARY LOGS");
    const newest = (files as { Log_name: string }[]).at(-1)?.Log_name ?? "";
    const purged = async (): Promise<boolean> => {
      await lab.root.query(`PURGE BINARY LOGS TO '${newest}'`);
      const [left] = await lab.root.query("SHOW BINARY LOGS");
      return (left as unknown[]).length === 1;
    };
    // A file that a dump thread still reads is kept for a moment.
    await expect.poll(purged, { timeout: 30_000 }).toBe(true);
    expect(await log.whyNotReadable(from)).toMatch(/purged/);
    const follower = await lab.follow([table], { from });
    expect(await follower.failure()).toMatchObject({ code: "E_LOG_LOST", exit: 8 });
  });

  test("with E_LOG_FOREIGN when the server does not hold what was read, and says so beforehand", async () => {
    const log = lab.changeLog({ visibleSeconds: 1 });
    const head = await log.head();
    const foreign =
      flavor === "mysql"
        ? [`${head},11111111-2222-3333-4444-555555555555:1-5`, head.replace(/-(\d+)$/, "-999999")]
        : [head.replace(/-(\d+)$/, "-999999"), head.replace(/-\d+-/, "-77777-"), `${head},5-1-3`];
    for (const from of foreign) {
      expect(await log.whyNotReadable(from)).toMatch(/does not hold/);
      const follower = await lab.follow([table], { from, log });
      expect(await follower.failure()).toMatchObject({ code: "E_LOG_FOREIGN", exit: 8 });
    }
  });

  test("with E_CONNECT that can be tried again when the server stays away", async () => {
    const options = { giveUpMs: 1500, longestRetryMs: 200 };
    const follower = await lab.follow([table], { options });
    await lab.barrier(1);
    await follower.reached(1);
    await server().kill("SIGKILL");
    expect(await follower.failure()).toMatchObject({ code: "E_CONNECT", retryable: true });
    await server().restart();
  });

  test("with E_CONNECT when the account may not read the log", async () => {
    await using root = await connect(server(), "root");
    await root.query("CREATE USER IF NOT EXISTS nolog@'%' IDENTIFIED BY ''");
    await root.query("GRANT SELECT ON *.* TO nolog@'%'");
    const log = lab.changeLog();
    const from = await log.head();
    const source = {
      facts: lab.connector.facts,
      endpoint: lab.connector.endpoint,
      connect: async () => {
        const connection = await lab.connector.connect("log");
        await new Promise<void>((resolve, reject) => {
          connection.changeUser({ user: "nolog", password: "", database: "stops" }, (error) =>
            error === null || error === undefined ? resolve() : reject(error),
          );
        });
        return connection;
      },
      close: async (connection: Parameters<typeof lab.connector.close>[0]) => lab.connector.close(connection),
    };
    const { MysqlChangeLog } = await import("../../src/engines/mysql/log/change-log.ts");
    const follower = await lab.follow([table], { from, log: new MysqlChangeLog(source) });
    expect(await follower.failure()).toMatchObject({ code: "E_CONNECT", retryable: false });
  });
});
