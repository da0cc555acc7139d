import { describe, expect, test } from "vitest";
import { openLogLab } from "../support/log-lab.ts";
import { describeServers, useServer } from "../support/servers.ts";

/** Forms of the log that a session or a server may choose at any time. */
describeServers("the log reader unpacks", (flavor) => {
  const server = useServer(flavor, { extraArgs: ["--max-allowed-packet=64M"] });

  describe.runIf(flavor === "mysql")("MySQL's", () => {
    test("compressed transactions, also those that are too large to be unpacked in one piece", async () => {
      await using lab = await openLogLab(server(), "payload");
      await lab.root.query("CREATE TABLE t (b LONGBLOB, id INT PRIMARY KEY)");
      const follower = await lab.follow([await lab.describe("t")]);
      await lab.root.query("SET SESSION binlog_transaction_compression=1");
      await lab.root.query(
        "INSERT INTO t VALUES (REPEAT('a',1000),1),(REPEAT('b',2000),2); UPDATE t SET id=3 WHERE id=2",
      );
      const rows = Array.from(
        { length: 40 },
        (_, n) => `(REPEAT('x', ${n === 20 ? 12_000_000 : 300_000}), ${100 + n})`,
      );
      await lab.root.query(`BEGIN; INSERT INTO t VALUES ${rows.join(",")}; DELETE FROM t WHERE id=1; COMMIT`);
      await lab.root.query("SET SESSION binlog_transaction_compression=0; INSERT INTO t VALUES ('', 4)");
      await lab.barrier(1);
      await follower.reached(1);
      const large = Array.from({ length: 40 }, (_, n) => String(100 + n));
      expect(follower.keys("t")).toEqual(["1", "2", "2", "3", ...large, "1", "4"]);
      expect(follower.position).toBe(await follower.log.head());
    });

    test("XA transactions that are compressed", async () => {
      await using lab = await openLogLab(server(), "payload_xa");
      await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
      const follower = await lab.follow([await lab.describe("t")]);
      await lab.root.query("SET SESSION binlog_transaction_compression=1");
      await lab.root.query(
        "XA START 'c'; INSERT INTO t VALUES (1); XA END 'c'; XA PREPARE 'c'; XA COMMIT 'c'",
      );
      await lab.root.query(
        "XA START 'd'; INSERT INTO t VALUES (2); XA END 'd'; XA PREPARE 'd'; XA ROLLBACK 'd'",
      );
      await lab.barrier(1);
      await follower.reached(1);
      expect(follower.keys("t")).toEqual(["1"]);
    });

    test("keys out of updates with JSON differences, with every image", async () => {
      await using lab = await openLogLab(server(), "partial");
      await lab.root.query(
        "CREATE TABLE t (j JSON, k JSON, n INT, j2 JSON, id INT PRIMARY KEY, t TEXT, x JSON)",
      );
      const follower = await lab.follow([await lab.describe("t")]);
      const document = JSON.stringify({ a: "x".repeat(300), b: [1, 2, 3], c: { d: 1 } });
      await lab.root.query(
        `INSERT INTO t VALUES ('${document}','${document}',NULL,NULL,1,'t','{}'),(NULL,'${document}',2,'${document}',2,NULL,'[]')`,
      );
      await lab.root.query("SET SESSION binlog_row_value_options=PARTIAL_JSON");
      for (const image of ["FULL", "MINIMAL", "NOBLOB"]) {
        await lab.root.query(`SET SESSION binlog_row_image=${image}`);
        await lab.root.query(`UPDATE t SET k=JSON_SET(k,'$.a','${image}'), j2=JSON_REMOVE(j2,'$.b')`);
        await lab.root.query(
          "UPDATE t SET j=JSON_REPLACE(j,'$.c.d',n), n=COALESCE(n,0)+1 WHERE id=1; UPDATE t SET n=n+1 WHERE id=2",
        );
        await lab.root.query(
          "UPDATE t SET id=id+10, k=JSON_SET(k,'$.z',id) ORDER BY id DESC; UPDATE t SET id=id-10 ORDER BY id",
        );
      }
      await lab.barrier(1);
      await follower.reached(1);
      const round = ["1", "2", "1", "2", "2", "12", "1", "11", "11", "1", "12", "2"];
      expect(follower.keys("t")).toEqual(["1", "2", ...round, ...round, ...round]);
      const [[file]] = (await lab.root.query("SHOW BINARY LOG STATUS")) as unknown as [[{ File: string }]];
      const [events] = await lab.root.query(`SHOW BINLOG EVENTS IN '${file.File}'`);
      const types = (events as { Event_type: string }[]).map((event) => event.Event_type);
      expect(types).toContain("Update_rows_partial");
    });

    test("tagged GTIDs, anonymous texts of statements, and sets with holes", async () => {
      await using lab = await openLogLab(server(), "tagged");
      await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
      const table = await lab.describe("t");
      const follower = await lab.follow([table]);
      const from = await follower.log.head();
      await lab.root.query("SET SESSION binlog_rows_query_log_events=1; INSERT INTO t VALUES (1)");
      await lab.root.query(
        "SET gtid_next='AUTOMATIC:blue'; INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)",
      );
      await lab.root.query(
        "SET gtid_next='11111111-2222-3333-4444-555555555555:red:7'; INSERT INTO t VALUES (4); SET gtid_next='AUTOMATIC'",
      );
      await lab.root.query(
        "SET gtid_next='11111111-2222-3333-4444-555555555555:9'; BEGIN; COMMIT; SET gtid_next='AUTOMATIC'",
      );
      await lab.barrier(1);
      await follower.reached(1);
      expect(follower.keys("t")).toEqual(["1", "2", "3", "4"]);
      expect(follower.position).toBe(await follower.log.head());
      expect(follower.position).toContain(":blue:1-2");
      const again = await lab.follow([table], { from });
      await again.reached(1);
      expect(again.keys("t")).toEqual(["1", "2", "3", "4"]);
      const later = await lab.follow([table], { from: follower.position ?? "" });
      await lab.root.query("INSERT INTO t VALUES (5)");
      await lab.barrier(2);
      await later.reached(2);
      expect(later.keys("t")).toEqual(["5"]);
    });
  });

  describe.runIf(flavor === "mariadb")("MariaDB's", () => {
    test("compressed rows and statements", async () => {
      await using lab = await openLogLab(server(), "deflated");
      await lab.root.query("CREATE TABLE t (b LONGBLOB, id INT PRIMARY KEY)");
      const follower = await lab.follow([await lab.describe("t")]);
      await lab.root.query("SET GLOBAL log_bin_compress=1; SET GLOBAL log_bin_compress_min_len=10");
      await lab.root.query(
        "INSERT INTO t VALUES (REPEAT('a',1000),1),(REPEAT('b',20000),2); UPDATE t SET id=3 WHERE id=2",
      );
      await lab.root.query(`CREATE TABLE u (a INT COMMENT '${"long ".repeat(100)}'); DELETE FROM t`);
      await lab.barrier(1);
      await follower.reached(1);
      expect(follower.keys("t")).toEqual(["1", "2", "2", "3", "1", "3"]);
      await lab.root.query(`ALTER TABLE t COMMENT '${"long ".repeat(100)}'`);
      expect(await follower.failure()).toMatchObject({ code: "E_DDL" });
      await lab.root.query("SET GLOBAL log_bin_compress=0");
    });

    test("rows of tables with temporal columns of MariaDB 5.3 and compressed columns", async () => {
      await using lab = await openLogLab(server(), "oldtime");
      await lab.root.query(
        `SET GLOBAL mysql56_temporal_format=0;
         CREATE TABLE t (d DATETIME, d3 DATETIME(3), d6 DATETIME(6), s TIMESTAMP NULL, s2 TIMESTAMP(2) NULL, s6 TIMESTAMP(6) NULL,
           h TIME, h1 TIME(1), h4 TIME(4), h6 TIME(6), z TEXT COMPRESSED, y VARCHAR(500) COMPRESSED, u UUID, i4 INET4, i6 INET6, id INT PRIMARY KEY);
         SET GLOBAL mysql56_temporal_format=1`,
      );
      const table = await lab.describe("t");
      expect(table.detail.columns[1]?.columnType).toContain("5.3");
      const follower = await lab.follow([table]);
      const now = "'2024-05-06 07:08:09.123456'";
      const time = "'-12:13:14.5'";
      await lab.root.query(
        `INSERT INTO t VALUES (${[now, now, now, now, now, now, time, time, time, time].join()},REPEAT('z',900),REPEAT('y',400),UUID(),'1.2.3.4','::1',1),
         (NULL,${now},NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'','',NULL,NULL,NULL,2)`,
      );
      await lab.barrier(1);
      await follower.reached(1);
      expect(follower.keys("t")).toEqual(["1", "2"]);
    });

    test("several domains, each with its own position", async () => {
      await using lab = await openLogLab(server(), "domains");
      await lab.root.query("CREATE TABLE t (id INT PRIMARY KEY)");
      const table = await lab.describe("t");
      const follower = await lab.follow([table]);
      await lab.root.query("SET SESSION gtid_domain_id=7; INSERT INTO t VALUES (1)");
      await lab.root.query("SET SESSION gtid_domain_id=0; INSERT INTO t VALUES (2)");
      await lab.root.query("SET SESSION server_id=4242; INSERT INTO t VALUES (3)");
      await lab.barrier(1);
      await follower.reached(1);
      expect(follower.position).toMatch(/^0-4242-\d+,7-\d+-\d+$/);
      expect(follower.position).toBe(await follower.log.head());
      const later = await lab.follow([table], { from: follower.position ?? "" });
      await lab.root.query("SET SESSION gtid_domain_id=7; INSERT INTO t VALUES (4)");
      await lab.barrier(2);
      await later.reached(2);
      expect(later.keys("t")).toEqual(["4"]);
    });
  });
});
