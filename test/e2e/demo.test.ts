import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { compareWithPromises, type FoundRows } from "../../src/demo/compare-promises.ts";
import { type PublishedMap, readOwnedRows } from "../../src/demo/independent-check.ts";
import { createShopTables, seedOf } from "../../src/demo/shop-schema.ts";
import { connect, describeServers, passwords, useServer } from "../support/servers.ts";

const program = fileURLToPath(new URL("../../bin/run.js", import.meta.url));

describeServers("the demo", (flavor) => {
  let folder: string;
  let child: ChildProcess | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "shardlift-demo-test-"));
  });
  afterEach(async () => {
    child?.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  });

  /** Its servers and its data lie below `folder`, since TMPDIR says so. */
  function start(...args: string[]): { text(): string; ended: Promise<number | null> } {
    const env = { ...process.env, TMPDIR: folder };
    const started = spawn(process.execPath, [program, "demo", "--engine", flavor, ...args], { env });
    child = started;
    let output = "";
    started.stdout.on("data", (data: Buffer) => (output += data.toString()));
    started.stderr.on("data", (data: Buffer) => (output += data.toString()));
    const ended = new Promise<number | null>((resolve) => started.once("close", (code) => resolve(code)));
    return { text: () => output, ended };
  }

  function portsIn(text: string): number[] {
    return [...text.matchAll(/127\.0\.0\.1:(\d+)/g)].map(([, port]) => Number(port));
  }

  function foldersIn(text: string): string[] {
    return [...text.matchAll(/servers in (\S+)/g)].flatMap(([, path]) => path ?? []);
  }

  test("loses nothing, says so in text and JSON, and leaves nothing behind", async () => {
    const json = join(folder, "demo.json");
    const run = start("--rows", "3000", "--rate", "150", "--json", json);
    expect(await run.ended, run.text()).toBe(0);
    expect(run.text()).toContain("Nothing was lost.");
    expect(JSON.parse(await readFile(json, "utf8"))).toEqual({
      schema: "shardlift.demo/v1",
      engine: flavor,
      rows: 3_000,
      rowsMoved: expect.toSatisfy((rows: number) => rows > 1_000 && rows < 2_000, "about half") as number,
      copy: { seconds: positive(), rowsPerSecond: positive() },
      writes: { acknowledged: positive(), failed: 0, lost: 0, duplicated: 0 },
      pause: {
        slice: { p50Ms: positive(), p99Ms: positive(), maxMs: positive() },
        otherSlices: { maxMs: positive() },
        reads: { maxMs: positive() },
      },
      verify: { rows: positive(), mismatches: 0 },
      epoch: { before: 1, after: 2 },
      memory: { maxRssMiB: positive() },
      seconds: positive(),
    });
    expect(foldersIn(run.text()).some((path) => existsSync(path))).toBe(false);
    for (const port of portsIn(run.text())) expect(await isOpen(port)).toBe(false);
  });

  test("ends its servers and removes its folder at Ctrl-C", async () => {
    const run = start("--rows", "3000", "--rate", "50");
    await vi.waitFor(() => expect(run.text()).toContain("state copying"), { timeout: 60_000 });
    child?.kill("SIGINT");
    expect(await run.ended, run.text()).toBe(130);
    expect(portsIn(run.text()).length).toBeGreaterThanOrEqual(2);
    for (const port of portsIn(run.text())) expect(await isOpen(port)).toBe(false);
    expect(foldersIn(run.text())).toHaveLength(1);
    expect(foldersIn(run.text()).some((path) => existsSync(path))).toBe(false);
  });
});

function positive(): number {
  return expect.toSatisfy((value: number) => value >= 0 && Number.isFinite(value), "a figure") as number;
}

async function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

describeServers("the demo's check on a server", (flavor) => {
  const server = useServer(flavor, { databases: ["shop", "other"] });
  const seed = seedOf(300, 1);
  const border = "11";
  const map: PublishedMap = {
    epoch: 2,
    ranges: [
      { from: undefined, to: border, shard: "s0" },
      { from: border, to: undefined, shard: "s1" },
    ],
  };

  /** One server with two databases stands in for two: the check never joins over them. */
  async function look(): Promise<FoundRows> {
    const address = (database: string) => ({
      port: server().port,
      user: "app",
      password: passwords.app,
      database,
    });
    const shards = new Map([
      ["s0", address("shop")],
      ["s1", address("other")],
    ]);
    return readOwnedRows(map, shards, { newShards: ["s1"], signal: new AbortController().signal });
  }

  async function run(sql: string, database: "shop" | "other"): Promise<number> {
    await using root = await connect(server(), "root", { database });
    const [result] = await root.query(sql);
    return "affectedRows" in result ? result.affectedRows : 0;
  }

  beforeEach(async () => {
    for (const database of ["shop", "other"]) {
      await using root = await connect(server(), "root", { database });
      await root.query("DROP TABLE IF EXISTS orders, order_items");
      await createShopTables(root);
      await seed.fill(root);
    }
    // The old shard keeps moved rows until `finish`; the new one has nothing but its slice.
    await run(`DELETE FROM orders WHERE user_id < ${border}`, "other");
    await run(`DELETE FROM order_items WHERE buyer_id < ${border}`, "other");
  });

  const promises = { rows: new Map(), uncertainInserts: new Set<string>() };

  test("reads each row once, at its owner, and finds nothing to report", async () => {
    const before = await look();
    expect(before.rows.size).toBe(300);
    expect(new Set([...before.rows.values()].map(({ shard }) => shard))).toEqual(new Set(["s0", "s1"]));
    const { details, rows } = compareWithPromises(before, await look(), promises);
    expect({ details, rows }).toEqual({ details: [], rows: 300 });
  });

  describe("reports one changed", () => {
    test.each([
      ["string, by its case", "orders", "sku = LOWER(sku)"],
      ["DOUBLE, by its last digit", "orders", "weight = weight * (1 + 1e-15)"],
      ["FLOAT, below the digits that are shown", "orders", "discount = discount * 1.0000002e0"],
      ["DECIMAL, by a cent", "orders", "amount = amount + 0.01"],
      ["JSON document", "orders", "attrs = JSON_SET(attrs, '$.qty', 99)"],
      ["BIT", "orders", "gift = gift ^ 1"],
      ["TIME, by a millisecond", "orders", "pickup = ADDTIME(pickup, '00:00:00.001')"],
      ["TIMESTAMP, by a microsecond", "orders", "updated_at = updated_at + INTERVAL 1 MICROSECOND"],
      ["VARBINARY, by a byte", "orders", "receipt = CONCAT(LEFT(receipt, 31), 'x')"],
      ["NULL that became empty", "orders", "note = IF(note IS NULL, '', NULL)"],
      ["character in another character set", "orders", "country = 'ee'"],
      ["integer of another table", "order_items", "qty = qty + 1"],
      ["owner within the slice", "order_items", "buyer_id = buyer_id + 1"],
    ])("%s", async (_, table, change) => {
      const before = await look();
      const where = table === "orders" ? "id = 7" : "order_id = 7 AND line = 1";
      const shard = seed.userOf(7) < Number(border) ? "shop" : "other";
      expect(await run(`UPDATE ${table} SET ${change} WHERE ${where}`, shard)).toBe(1);
      expect(compareWithPromises(before, await look(), promises)).toMatchObject({
        lost: 0,
        duplicated: 0,
        changed: 1,
      });
    });
  });

  test("reports a row that is gone, one that is new, one with two owners and one astray", async () => {
    const before = await look();
    await run(`DELETE FROM orders WHERE user_id >= ${border} ORDER BY id LIMIT 1`, "other");
    await run(
      "UPDATE order_items SET line = 2 WHERE order_id = 1",
      seed.userOf(1) < Number(border) ? "shop" : "other",
    );
    const some = "SELECT * FROM shop.order_items WHERE buyer_id < 11 ORDER BY order_id DESC LIMIT 2";
    await run(`INSERT INTO other.order_items ${some}`, "other");
    // Of the two copies one now claims to be in the slice, the other lies outside of it.
    await run("UPDATE order_items SET buyer_id = 12 WHERE buyer_id < 11 ORDER BY order_id LIMIT 1", "other");
    const { details } = compareWithPromises(before, await look(), promises);
    expect(details).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^orders\/\d+: nobody wrote it, and it is gone/),
        expect.stringMatching(/^order_items\/1\/1: nobody wrote it, and it is gone/),
        expect.stringMatching(/^order_items\/1\/2: nobody inserted it/),
        expect.stringMatching(/^order_items\/\S+ is owned by two shards/),
        expect.stringMatching(/^order_items\/\S+ is at a shard that has never owned its key/),
      ]),
    );
  });
});
