import { readFile } from "node:fs/promises";
import type { RowDataPacket } from "mysql2/promise";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { describeServers } from "../support/servers.ts";
import { serverPicture } from "../support/server-picture.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

interface StatusData {
  readonly state: string;
  readonly canCutover: { readonly ok: boolean };
  readonly runner: { readonly alive: boolean };
}

describeServers("the cutover", (flavor) => {
  let lab: ShopLab;
  beforeEach(async () => {
    lab = await openShopLab(flavor, { rows: 1_000 });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  async function status(job: string): Promise<StatusData> {
    const { stdout } = await lab.cli("status", job, "--json");
    return (JSON.parse(stdout) as { data: StatusData }).data;
  }

  async function startUntilReady(): Promise<{ job: string; runner: ReturnType<ShopLab["start"]> }> {
    const runner = lab.start("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--output", "lines");
    await vi.waitFor(() => expect(runner.output()).toMatch(/state ready/), {
      timeout: 60_000,
      interval: 100,
    });
    const [job] = /shop-split-s0-[0-9a-f]+/.exec(runner.output()) ?? [""];
    return { job, runner };
  }

  test("waits for the operator, shows its very steps, gives up under a long transaction, and then moves the slice", async () => {
    const { job, runner } = await startUntilReady();
    expect(await status(job)).toMatchObject({
      state: "ready",
      canCutover: { ok: true },
      runner: { alive: true },
    });
    const before = await readFile(lab.routing, "utf8").catch(() => "none");

    await using root = await lab.connect("s0");
    const { triggers } = await serverPicture(root);
    const dry = await lab.cli("cutover", job, "--dry-run");
    expect(dry, dry.stderr).toMatchObject({ code: 0 });
    expect(dry.stdout).toMatch(
      /COMMIT the closed gate at s0[\s\S]*compare-and-swap of the routing map from epoch 1 to 2/,
    );
    expect(dry.stdout).toContain(`FROM \`_shardlift\`.gate WHERE job = '${job}'`);
    expect((await serverPicture(root))["triggers"]).toEqual(triggers);

    // The gate waits for a transaction that has written to the slice; the cutover gives up and nothing has happened.
    await using app = await lab.connect("s0", "app");
    await app.query("START TRANSACTION");
    await app.query("UPDATE orders SET note = 'held' WHERE user_id = 30 LIMIT 1");
    const refused = await lab.cli("cutover", job, "--deadline", "3s", "--json");
    expect(refused, refused.stderr).toMatchObject({ code: 7 });
    await app.query("COMMIT");
    await app.query("UPDATE orders SET note = 'still served' WHERE user_id = 30 LIMIT 1");
    expect(await status(job)).toMatchObject({ state: "ready" });
    expect(await readFile(lab.routing, "utf8").catch(() => "none")).toBe(before);

    const done = await lab.cli("cutover", job, "--json");
    expect(done, done.stderr + done.stdout).toMatchObject({ code: 0 });
    expect(await runner.result).toMatchObject({ code: 0 });
    expect(JSON.parse(await readFile(lab.routing, "utf8"))).toMatchObject({ epoch: 2 });
  });

  test("a direct write to the moved slice is refused at the old shard, other slices and reads go on; the new shard takes it", async () => {
    const split = await lab.cli("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--cutover", "auto");
    expect(split, split.stderr).toMatchObject({ code: 0 });
    await using stale = await lab.connect("s0", "app");
    await using fresh = await lab.connect("s1", "app");
    const moved = "UPDATE orders SET note = 'x', ver = ver WHERE user_id = 30 LIMIT 1";
    await expect(stale.query(moved)).rejects.toMatchObject({
      errno: 1644,
      sqlState: "45000",
      message: expect.stringMatching(/job shop-split-s0-[0-9a-f]+ after epoch 1/) as string,
    });
    await expect(stale.query("DELETE FROM order_items WHERE buyer_id = 30")).rejects.toMatchObject({
      errno: 1644,
    });
    await stale.query("UPDATE orders SET note = 'mine' WHERE user_id = 10 LIMIT 1");
    const [read] = await stale.query<RowDataPacket[]>("SELECT COUNT(*) AS n FROM orders WHERE user_id >= 20");
    expect(Number(read[0]?.["n"])).toBeGreaterThan(0);
    await fresh.query(moved);
    // The new shard owns nothing else: a row of another slice there would belong to nobody.
    await expect(
      fresh.query("UPDATE orders SET user_id = 10 WHERE user_id = 30 LIMIT 1"),
    ).rejects.toMatchObject({
      errno: 1644,
    });
  });

  test("generated keys of both shards never meet", async () => {
    const split = await lab.cli("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--cutover", "auto");
    expect(split, split.stderr).toMatchObject({ code: 0 });
    const insert = (user: number): string =>
      `INSERT INTO orders (user_id, sku, amount, placed_on, season, created_at, receipt, attrs, trail)
       VALUES (${user}, 's', 1, '2024-01-01', 2024, '2024-01-01', 'r', '{}', '')`;
    const ids: Record<string, bigint> = {};
    for (const [shard, user] of [
      ["s0", 10],
      ["s1", 30],
    ] as const) {
      await using app = await lab.connect(shard, "app");
      await app.query(insert(user));
      const [rows] = await app.query<RowDataPacket[]>("SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id");
      ids[shard] = BigInt(String(rows[0]?.["id"]));
    }
    expect((ids["s1"] ?? 0n) - (ids["s0"] ?? 0n)).toBeGreaterThan(2n ** 31n);
  });

  test("the job can not be cut over before it is ready", async () => {
    const copied = await lab.cli(
      "split",
      "s0",
      "--into",
      "s0,s1",
      "--at",
      "20",
      "--yes",
      "--until",
      "copied",
    );
    expect(copied, copied.stderr).toMatchObject({ code: 0 });
    // No runner is alive: the command brings the job up to date itself, then cuts over.
    const done = await lab.cli("cutover", "--json");
    expect(done, done.stderr + done.stdout).toMatchObject({ code: 0 });
    expect(JSON.parse(await readFile(lab.routing, "utf8"))).toMatchObject({ epoch: 2 });
  });
});
