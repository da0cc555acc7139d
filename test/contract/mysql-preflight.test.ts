import { expect, test } from "vitest";
import { mysqlChecks } from "../../src/engines/mysql/checks.ts";
import { refuseBlockers, runPreflight } from "../../src/preflight/preflight.ts";
import { anew, createOrders, movedSlice, orders, preflightLab } from "../support/preflight-lab.ts";
import { claimOf, openRunner, openSession, sqlAsRoot } from "../support/session-lab.ts";
import { connect, describeServers, flavors, startTestServer, useServer } from "../support/servers.ts";

describeServers("preflight", (flavor) => {
  const source = useServer(flavor, { databases: ["shop"] });
  const target = useServer(flavor, { databases: ["shop"] });

  const { findings, saying, mends } = preflightLab(source, target);

  test("has nothing to say about a sound pair of servers, and says so rule by rule", async () => {
    await anew(source(), createOrders);
    await anew(target(), "");
    const found = await findings();
    expect(found.filter((finding) => finding.level !== "ok")).toEqual([]);
    const names = new Set(found.map((finding) => finding.check));
    for (const check of mysqlChecks) expect(names).toContain(check.name);
  });

  test("leaves both servers as they were", async () => {
    await anew(source(), createOrders);
    await anew(target(), "");
    const heads = async (): Promise<string[]> => {
      await using a = await openSession(source(), { database: "shop" });
      await using b = await openSession(target(), { database: "shop" });
      return [await a.log.head(), await b.log.head()];
    };
    const before = await heads();
    await findings();
    expect(await heads()).toEqual(before);
  });

  test("reports everything at once, in a fixed order, and ends with exit 3", async () => {
    await anew(source(), "CREATE TABLE orders (user_id BIGINT, v INT)");
    await anew(target(), "");
    await using from = await openSession(source(), { database: "shop", shard: "s0" });
    await using to = await openSession(target(), { database: "shop", shard: "s1" });
    const request = {
      checks: mysqlChecks,
      moves: [{ source: from, target: to, slice: movedSlice }],
      tables: [orders, { name: "absent", shardKey: "user_id" }],
      keyType: "integer",
      storeId: undefined,
      signal: new AbortController().signal,
    } as const;
    const report = await runPreflight(request);
    const blockers = report.findings.filter((finding) => finding.level === "blocker");
    expect(blockers.map(({ check, where }) => [check, where])).toEqual([
      ["tables", "s0 table shop.absent"],
      ["primary-key", "s0 table shop.orders"],
      ["shard-key", "s0 table shop.orders"],
      ["shard-key", "s0 table shop.orders"],
    ]);
    expect(await runPreflight(request)).toEqual(report);
    expect(() => refuseBlockers(report)).toThrow(
      expect.objectContaining({ code: "E_PREFLIGHT", exit: 3, findings: blockers }),
    );
  });

  // ── the servers ────────────────────────────────────────────────────────────────────────────────────────────────

  test("names each missing right as a GRANT, and is content with exactly those", async () => {
    await anew(source(), createOrders);
    await anew(target(), "");
    const account = { user: "least", password: "least-secret" };
    for (const server of [source(), target()]) {
      await sqlAsRoot(
        server,
        "CREATE USER least@'%' IDENTIFIED BY 'least-secret'; GRANT SELECT ON shop.* TO least@'%'",
      );
    }
    const missing = await saying("rights", { account });
    expect(missing.length).toBeGreaterThan(4);
    for (const { fix, where } of missing) {
      await sqlAsRoot(where.startsWith("s0") ? source() : target(), fix);
    }
    expect(await findings({ account })).not.toContainEqual(expect.objectContaining({ level: "blocker" }));
    for (const server of [source(), target()]) await sqlAsRoot(server, "DROP USER least@'%'");
  });

  test("sees rights that come by a role", async () => {
    await anew(source(), createOrders);
    const account = { user: "member", password: "member-secret" };
    const grant = `CREATE ROLE movers; GRANT ALL ON *.* TO movers; CREATE USER member@'%' IDENTIFIED BY 'member-secret'; GRANT movers TO member@'%'; ${
      flavor === "mysql" ? "SET DEFAULT ROLE movers TO member@'%'" : "SET DEFAULT ROLE movers FOR member@'%'"
    }`;
    for (const server of [source(), target()]) await sqlAsRoot(server, grant);
    expect(await saying("rights", { account })).toEqual([]);
    for (const server of [source(), target()])
      await sqlAsRoot(server, "DROP USER member@'%'; DROP ROLE movers");
  });

  test("refuses a server where TRIGGER is not enough to make triggers", async () => {
    await anew(source(), createOrders);
    await sqlAsRoot(source(), "SET GLOBAL log_bin_trust_function_creators = OFF");
    expect(await mends(source(), "trigger-rights")).toMatchObject({ level: "blocker" });
  });

  test("warns of other connections with the tool's account", async () => {
    await using app = await connect(source(), "shardlift");
    await app.query("SELECT 1");
    expect(await saying("shared-account")).toEqual([
      expect.objectContaining({ level: "warning", why: expect.stringContaining("1 other connections") }),
    ]);
  });

  test("refuses servers that take no writes", async () => {
    await sqlAsRoot(target(), "SET GLOBAL read_only = ON");
    const finding = (await saying("writable"))[0];
    await sqlAsRoot(target(), "SET GLOBAL read_only = OFF");
    expect(finding).toMatchObject({
      level: "blocker",
      fix: expect.stringContaining("SET GLOBAL read_only = OFF"),
    });
  });

  test("refuses a source that is itself a replica", async () => {
    const [change, reset] =
      flavor === "mysql"
        ? ["CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'db.example', SOURCE_PORT = 3307", "RESET REPLICA ALL"]
        : ["CHANGE MASTER TO MASTER_HOST = 'db.example', MASTER_PORT = 3307", "RESET SLAVE ALL"];
    await sqlAsRoot(source(), change);
    const found = await saying("topology");
    await sqlAsRoot(source(), reset);
    expect(found).toEqual([
      expect.objectContaining({
        level: "blocker",
        why: expect.stringContaining("a replica of db.example:3307"),
      }),
    ]);
    expect(await saying("topology")).toEqual([]);
  });

  test("refuses a log that is not row by row, and images without their keys", async () => {
    await sqlAsRoot(source(), "SET GLOBAL binlog_format = 'MIXED', GLOBAL binlog_row_image = 'MINIMAL'");
    const found = await saying("change-log");
    expect(found.map((finding) => finding.level)).toEqual(["blocker", "blocker"]);
    for (const { fix } of found) await sqlAsRoot(source(), fix.split(",")[0] ?? "");
    expect(await saying("change-log")).toEqual([]);
  });

  test("refuses a server without a log, and one that filters its log", async () => {
    await using silent = await startTestServer(flavor, {
      databases: ["shop"],
      extraArgs: ["--skip-log-bin"],
    });
    expect(await saying("change-log", { at: { source: silent } })).toEqual([
      expect.objectContaining({ why: "it writes no binary log" }),
    ]);
    await silent.restart(["--binlog-ignore-db=shop", "--binlog-do-db=other"]);
    const reasons = (await saying("change-log", { at: { source: silent } })).map((finding) => finding.why);
    expect(reasons.toSorted()).toEqual([
      "binlog_do_db leaves database _shardlift out of the log",
      "binlog_do_db leaves database shop out of the log",
      "binlog_ignore_db leaves database shop out of the log",
    ]);
  });

  test("warns of a log that is kept for less than a day", async () => {
    await sqlAsRoot(source(), "SET GLOBAL binlog_expire_logs_seconds = 3600");
    expect(await mends(source(), "log-retention")).toMatchObject({
      level: "warning",
      why: expect.stringContaining("1.0 hours"),
    });
    await sqlAsRoot(source(), "SET GLOBAL binlog_expire_logs_seconds = 0");
    expect(await saying("log-retention")).toEqual([]);
  });

  test.runIf(flavor === "mysql")(
    "refuses a server without GTIDs and warns of commits out of order",
    async () => {
      await sqlAsRoot(
        source(),
        "SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL binlog_order_commits = OFF",
      );
      const found = await saying("gtid");
      await sqlAsRoot(source(), "SET GLOBAL gtid_mode = ON; SET GLOBAL binlog_order_commits = ON");
      expect(found.map(({ level, why }) => [level, why.split(":")[0]])).toEqual([
        ["blocker", "gtid_mode is ON_PERMISSIVE"],
        ["warning", "binlog_order_commits is OFF"],
      ]);
      expect(await saying("gtid")).toEqual([]);
    },
  );

  test("warns of servers that may lose their last commits", async () => {
    await sqlAsRoot(target(), "SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2");
    const found = await saying("durability");
    expect(found.map((finding) => finding.level)).toEqual(["warning", "warning"]);
    for (const { why } of found) expect(why).toMatch(/power cut .* open the closed gate .* two shards/);
    for (const { fix } of found) await sqlAsRoot(target(), fix);
    expect(await saying("durability")).toEqual([]);
  });

  test("refuses a server that loses its last commits with its process", async () => {
    await sqlAsRoot(source(), "SET GLOBAL innodb_flush_log_at_trx_commit = 0");
    expect(await mends(source(), "durability")).toMatchObject({ level: "blocker" });
  });

  test("refuses a transaction that stays prepared", async () => {
    await anew(source(), createOrders);
    await using app = await connect(source(), "root", { database: "shop" });
    for (const sql of [
      "XA START 'left'",
      "INSERT INTO orders VALUES (1, 1, 1)",
      "XA END 'left'",
      "XA PREPARE 'left'",
    ]) {
      await app.query(sql);
    }
    expect(await saying("prepared-transactions")).toEqual([expect.objectContaining({ level: "blocker" })]);
    await app.query("XA ROLLBACK 'left'");
    expect(await saying("prepared-transactions")).toEqual([]);
  });

  test.runIf(flavor === "mariadb")("refuses servers that fold names differently", async () => {
    await using folding = await startTestServer(flavor, {
      databases: ["shop"],
      extraArgs: ["--lower-case-table-names=1"],
    });
    expect(await saying("name-case", { at: { target: folding } })).toEqual([
      expect.objectContaining({ level: "blocker", why: "lower_case_table_names is 1, but 0 at s0" }),
    ]);
  });

  test("warns of a target that takes smaller packets", async () => {
    await sqlAsRoot(target(), "SET GLOBAL max_allowed_packet = 1048576");
    expect(await mends(target(), "packet-size")).toMatchObject({ level: "warning" });
  });

  test("refuses a target that takes no LOAD DATA LOCAL", async () => {
    await sqlAsRoot(target(), "SET GLOBAL local_infile = OFF");
    expect(await mends(target(), "local-infile")).toMatchObject({
      level: "blocker",
      where: expect.stringContaining("s1"),
    });
  });

  test("refuses one server for both ends", async () => {
    expect(await saying("distinct-servers", { at: { target: source() } })).toEqual([
      expect.objectContaining({ level: "blocker" }),
    ]);
  });

  test.runIf(flavors.length === 2)("refuses to move between MySQL and MariaDB", async () => {
    await using other = await startTestServer(flavor === "mysql" ? "mariadb" : "mysql", {
      databases: ["shop"],
    });
    expect(await saying("same-flavor", { at: { target: other } })).toEqual([
      expect.objectContaining({ level: "blocker" }),
    ]);
  });

  test("refuses a server where another control store is at work", async () => {
    await using runner = await openRunner(target(), {
      database: "shop",
      claim: claimOf("theirs", 1, "store-2"),
    });
    expect(await saying("foreign-store")).toEqual([
      expect.objectContaining({
        level: "blocker",
        why: expect.stringContaining("job theirs of another control store (store-2)"),
      }),
    ]);
    expect(await saying("foreign-store", { storeId: "store-2" })).toEqual([]);
    expect(await saying("foreign-store", { storeId: undefined })).toHaveLength(1);
    await runner.ledger.uninstall();
  });
});
