import { mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { RowDataPacket } from "mysql2/promise";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type LocalServer, startLocalServer } from "../../src/lib/local-server.ts";
import { findServerBinary, installedServer, programs } from "../../src/lib/server-binary.ts";
import { ensureTemplate } from "../../src/lib/server-template.ts";
import { connect, createDatabase, describeServers, startTestServer, useServer } from "../support/servers.ts";

describeServers("a local server", (flavor) => {
  const server = useServer(flavor, { databases: ["shop"] });

  test("logs rows in full with GTIDs and commits durably", async () => {
    const found = await variables(server(), [
      "log_bin",
      "binlog_format",
      "binlog_row_image",
      "sync_binlog",
      "innodb_flush_log_at_trx_commit",
      "log_bin_trust_function_creators",
      "local_infile",
      "server_id",
    ]);
    expect(found).toEqual({
      log_bin: 1,
      binlog_format: "ROW",
      binlog_row_image: "FULL",
      sync_binlog: 1,
      innodb_flush_log_at_trx_commit: 1,
      log_bin_trust_function_creators: 1,
      local_infile: 1,
      server_id: server().port,
    });
    const gtid =
      flavor === "mysql"
        ? await variables(server(), ["gtid_mode", "enforce_gtid_consistency"])
        : await variables(server(), ["log_slave_updates", "gtid_domain_id"]);
    expect(gtid).toEqual(
      flavor === "mysql"
        ? { gtid_mode: "ON", enforce_gtid_consistency: "ON" }
        : { log_slave_updates: 1, gtid_domain_id: 0 },
    );
  });

  test("is the very process whose pid it names", async () => {
    const pidFile = await readFile(join(server().directory, "data", "server.pid"), "utf8");
    expect(Number(pidFile)).toBe(server().pid);
  });

  test("lets the tool and the application in, and the application only into its database", async () => {
    await using tool = await connect(server(), "shardlift");
    await tool.query("CREATE TABLE shop.t (id INT PRIMARY KEY)");
    await using app = await connect(server(), "app", { database: "shop" });
    await app.query("INSERT INTO t VALUES (1)");
    await expect(app.query("CREATE DATABASE other")).rejects.toThrow(/denied/);
  });

  test("has another identity than a second one beside it", async () => {
    await using other = await startTestServer(flavor);
    const name = flavor === "mysql" ? "server_uuid" : "server_uid";
    expect(await variables(other, [name])).not.toEqual(await variables(server(), [name]));
    expect(other.port).not.toBe(server().port);
  });

  test("keeps committed rows and its port over a kill and a restart", async () => {
    await using own = await startTestServer(flavor);
    await createDatabase(own, "shop");
    const { port, pid } = own;
    await using app = await connect(own, "root", { database: "shop" });
    app.on("error", () => undefined);
    await app.query("CREATE TABLE t (id INT PRIMARY KEY)");
    await app.query("INSERT INTO t VALUES (1), (2)");
    await own.kill("SIGKILL");
    expect(own.running).toBe(false);
    await own.restart(["--max-connections=77"]);
    expect(own.port).toBe(port);
    expect(own.pid).not.toBe(pid);
    await using again = await connect(own, "root", { database: "shop" });
    const [rows] = await again.query<RowDataPacket[]>("SELECT id, @@max_connections AS m FROM t");
    expect(rows).toEqual([
      { id: 1, m: 77 },
      { id: 2, m: 77 },
    ]);
  });

  test("ends for certain, even when its process was frozen", async () => {
    const own = await startTestServer(flavor);
    await own.kill("SIGSTOP");
    await Promise.all([own.stop(), own.stop()]);
    expect(() => process.kill(own.pid, 0)).toThrow(/ESRCH/);
    await own[Symbol.asyncDispose]();
    await expect(readdir(own.directory)).rejects.toThrow(/ENOENT/);
  });

  test("says with the end of its log why it did not start", async () => {
    const started = startTestServer(flavor, { extraArgs: ["--no-such-variable=1"] });
    await expect(started).rejects.toMatchObject({
      code: "E_SERVER_START",
      message: expect.stringContaining("no-such-variable"),
    });
  });

  test("gives up a start when it is told to", async () => {
    await using folder = await temporaryFolder();
    const signal = AbortSignal.timeout(20);
    await expect(startLocalServer({ flavor, directory: folder.path, signal })).rejects.toThrow(
      /abort|timeout/i,
    );
  });

  test("keeps its socket's path short in a deep folder", async () => {
    await using folder = await temporaryFolder();
    const directory = join(folder.path, "deep".repeat(30));
    await using own = await startLocalServer({ flavor, directory, bufferPoolMiB: 64, redoLogMiB: 16 });
    expect(own.socket.length).toBeLessThan(100);
    await using root = await connect(own, "root", { socketPath: own.socket });
    await root.ping();
  });

  test("makes a damaged template anew, also when two ask for it at once", async () => {
    const binary = await findServerBinary(flavor);
    await using folder = await temporaryFolder();
    const damaged = await ensureTemplate(binary, { folder: folder.path });
    await truncate(join(damaged, "ibdata1"), 4096);
    const made = await Promise.all([
      ensureTemplate(binary, { folder: folder.path }),
      ensureTemplate(binary, { folder: folder.path }),
    ]);
    expect(made).not.toContain(damaged);
    expect(new Set(await readdir(folder.path))).toEqual(new Set(made.map((path) => basename(path))));
    expect(made).toContain(await ensureTemplate(binary, { folder: folder.path }));
  });

  test("is started from the program that the override names", async () => {
    const { override, daemon } = programs[flavor];
    const { path } = await findServerBinary(flavor);
    await using folder = await temporaryFolder();
    const script = join(folder.path, daemon);
    await writeFile(script, `#!/bin/sh\nexec '${path}' "$@"\n`, { mode: 0o755 });
    vi.stubEnv(override, script);
    expect((await findServerBinary(flavor)).path).toBe(script);
  });

  test("is found on PATH before the unpacked one", async () => {
    const { path } = await findServerBinary(flavor);
    await using folder = await temporaryFolder();
    const onPath = join(folder.path, programs[flavor].daemon);
    await writeFile(onPath, `#!/bin/sh\nexec '${path}' "$@"\n`, { mode: 0o755 });
    vi.stubEnv(programs[flavor].override, "");
    vi.stubEnv("PATH", `${folder.path}:/usr/bin:/bin`);
    expect((await installedServer(flavor))?.path).toBe(onPath);
  });
});

describe("an override that does not work", () => {
  test("is an error that names it, not a fall back to another program", async () => {
    vi.stubEnv("SHARDLIFT_MYSQLD", "/nowhere/mysqld");
    await expect(findServerBinary("mysql")).rejects.toMatchObject({
      code: "E_SERVER_BINARY",
      exit: 2,
      message: expect.stringContaining("SHARDLIFT_MYSQLD=/nowhere/mysqld"),
    });
  });

  test("is an error when it names the other flavor", async () => {
    await using folder = await temporaryFolder();
    const fake = join(folder.path, "mysqld");
    await writeFile(fake, "#!/bin/sh\necho 'mysqld  Ver 10.11.6-MariaDB for Linux'\n", { mode: 0o755 });
    vi.stubEnv("SHARDLIFT_MYSQLD", fake);
    await expect(findServerBinary("mysql")).rejects.toThrow(/is mariadb 10\.11\.6/);
  });
});

afterEach(() => vi.unstubAllEnvs());

async function variables(server: LocalServer, names: readonly string[]): Promise<Record<string, unknown>> {
  await using root = await connect(server, "root");
  const columns = names.map((name) => `@@global.${name} AS ${name}`);
  const [rows] = await root.query<RowDataPacket[]>(`SELECT ${columns.join(", ")}`);
  return { ...rows[0] };
}

async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "shardlift-test-"));
  return { path, [Symbol.asyncDispose]: async () => rm(path, { recursive: true, force: true }) };
}
