import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { connect, describeServers, startTestServer } from "../support/servers.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";
import { startTraffic } from "../support/shop-traffic.ts";

describeServers("a split under writers", (flavor) => {
  let lab: ShopLab;
  beforeEach(async () => {
    lab = await openShopLab(flavor, { rows: 6_000 });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  test("loses nothing, repeats nothing, and the application sees no error", async () => {
    await using traffic = await startTraffic(lab, lab.seed);
    await vi.waitFor(() => expect(traffic.acknowledged()).toBeGreaterThan(50), { timeout: 30_000 });
    const split = await lab.cli("split", "s0", "--into", "s0,s1", "--yes", "--cutover", "auto", "--json");
    expect(split, split.stderr).toMatchObject({ code: 0 });
    const atFlip = traffic.acknowledged();
    await vi.waitFor(() => expect(traffic.acknowledged()).toBeGreaterThan(atFlip + 100), { timeout: 30_000 });
    const result = await traffic.check();
    expect(traffic.ledger.failures).toEqual([]);
    expect(result.details).toEqual([]);
    expect(result).toMatchObject({ lost: 0, duplicated: 0, changed: 0 });
  });

  test("into three shards at once moves each slice to its own shard, and all gates close and open together", async () => {
    await using third = await startTestServer(flavor);
    await using root = await connect(third, "root");
    await root.query("CREATE DATABASE shop CHARACTER SET utf8mb4");
    const text = await readFile(lab.config, "utf8");
    const config = join(lab.directory, "three.yaml");
    const shard = /^ {2}s1: .*$/m.exec(text)?.[0] ?? "";
    const added = shard.replace("s1:", "s2:").replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${third.port}`);
    await writeFile(config, text.replace(shard, `${shard}\n${added}`), { mode: 0o600 });

    const split = await lab.cli(
      "split",
      "s0",
      "--into",
      "s0,s1,s2",
      "--yes",
      "--cutover",
      "auto",
      "--json",
      "--config",
      config,
    );
    expect(split, split.stderr).toMatchObject({ code: 0 });
    const { at } = (JSON.parse(split.stdout) as { data: { at: string[] } }).data;
    expect(at).toHaveLength(2);
    const [low = "", high = ""] = at;
    const slices = [
      { server: lab.target, where: (key: string) => `${key} >= ${low} AND ${key} < ${high}` },
      { server: third, where: (key: string) => `${key} >= ${high}` },
    ];
    for (const { server, where } of slices) {
      for (const [table, key] of [
        ["orders", "user_id"],
        ["order_items", "buyer_id"],
      ] as const) {
        const read = async (at: typeof server, condition: string): Promise<unknown> => {
          await using connection = await connect(at, "root", { database: "shop", dateStrings: true });
          const [rows] = await connection.query(`SELECT * FROM ${table} WHERE ${condition} ORDER BY 1, 2`);
          return rows;
        };
        expect(await read(server, "TRUE")).toEqual(await read(lab.source, where(key)));
      }
      await using app = await connect(server, "app", { database: "shop" }).catch(() =>
        connect(server, "root", { database: "shop" }),
      );
      await app.query(`UPDATE orders SET note = 'taken' WHERE ${where("user_id")} LIMIT 1`);
    }
    expect(JSON.parse(await readFile(lab.routing, "utf8"))).toMatchObject({
      epoch: 2,
      keyspaces: { shop: { ranges: [{ shard: "s0" }, { shard: "s1" }, { shard: "s2" }] } },
    });
  });
});
