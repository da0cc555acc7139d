/**
 * Two real servers with a small shop on the first one, a configuration file, and the command line as a child process:
 * what the end-to-end suites look at from outside.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Connection } from "mysql2/promise";
import type { LocalServer } from "../../src/lib/local-server.ts";
import type { ServerFlavor } from "../../src/lib/server-binary.ts";
import { createShop, seedOf, type Seed } from "../../src/demo/shop-schema.ts";
import { connect, passwords, startTestServer, type TestServerOptions, type TestUser } from "./servers.ts";

const entry = fileURLToPath(new URL("../../bin/run.js", import.meta.url));

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ShopLab extends AsyncDisposable {
  readonly flavor: ServerFlavor;
  readonly directory: string;
  readonly config: string;
  readonly routing: string;
  /** What the shop was filled with. */
  readonly seed: Seed;
  readonly source: LocalServer;
  readonly target: LocalServer;
  connect(shard: "s0" | "s1", user?: TestUser): Promise<Connection & AsyncDisposable>;
  /** Runs a command to its end. */
  cli(...args: string[]): Promise<CliResult>;
  /** Starts a command; `result` resolves when it has ended. */
  start(...args: string[]): {
    readonly child: ChildProcess;
    readonly result: Promise<CliResult>;
    output(): string;
  };
}

export interface ShopLabOptions extends Omit<TestServerOptions, "databases"> {
  readonly rows?: number;
  /** Lines that are added to shardlift.yaml. */
  readonly settings?: readonly string[];
}

export async function openShopLab(flavor: ServerFlavor, options: ShopLabOptions = {}): Promise<ShopLab> {
  const { rows = 3_000, settings = [], ...server } = options;
  const seed = seedOf(rows, 1);
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "shardlift-lab-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const [source, target] = await Promise.all([
    startTestServer(flavor, server),
    startTestServer(flavor, server),
  ]);
  stack.use(source);
  stack.use(target);
  for (const one of [source, target]) {
    await using root = await connect(one, "root");
    if (one === source) {
      await createShop(root, "shop");
      await seed.fill(root);
    } else {
      await root.query("CREATE DATABASE shop CHARACTER SET utf8mb4");
    }
    await root.query("GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO app@'%'");
  }
  const config = join(directory, "shardlift.yaml");
  const routing = join(directory, "routing.json");
  await writePrivate(join(directory, "password"), `${passwords.shardlift}\n`);
  await writePrivate(config, configText(source, target, settings));
  const children = new Set<ChildProcess>();
  stack.defer(() => {
    for (const child of children) child.kill("SIGKILL");
  });
  const start: ShopLab["start"] = (...args) => {
    const given = args.includes("--config") ? args : [...args, "--config", config];
    const child = spawn(process.execPath, [entry, ...given], { stdio: ["ignore", "pipe", "pipe"] });
    children.add(child);
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
    child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
    const result = new Promise<CliResult>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => {
        children.delete(child);
        resolve({ code, stdout, stderr });
      });
    });
    return { child, result, output: () => stdout + stderr };
  };
  const owned = stack.move();
  return {
    flavor,
    directory,
    config,
    routing,
    seed,
    source,
    target,
    connect: (shard, user = "root") => connect(shard === "s0" ? source : target, user, { database: "shop" }),
    cli: (...args) => start(...args).result,
    start,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function configText(source: LocalServer, target: LocalServer, settings: readonly string[]): string {
  const shard = (server: LocalServer): string =>
    `{engine: mysql, hosts: ["127.0.0.1:${server.port}"], user: shardlift, passwordFile: password, database: shop}`;
  return [
    "version: 1",
    "control: {type: sqlite, path: control/control.db}",
    "shards:",
    `  s0: ${shard(source)}`,
    `  s1: ${shard(target)}`,
    "keyspaces:",
    "  shop:",
    "    function: range",
    "    key: user_id",
    "    tables: {orders: {}, order_items: {key: buyer_id}}",
    "    map: [{from: MIN, to: MAX, shard: s0}]",
    "proxies: [{type: file, path: routing.json}]",
    ...settings,
    "",
  ].join("\n");
}

async function writePrivate(path: string, text: string): Promise<void> {
  await writeFile(path, text);
  await chmod(path, 0o600);
}
