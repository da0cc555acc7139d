import type { RowDataPacket } from "mysql2/promise";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeServers } from "../support/servers.ts";
import { serverPicture } from "../support/server-picture.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

describeServers("abort", (flavor) => {
  let lab: ShopLab;
  beforeAll(async () => {
    lab = await openShopLab(flavor, { rows: 1_000 });
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  async function objects(shard: "s0" | "s1"): Promise<unknown> {
    await using root = await lab.connect(shard);
    const { position: _, ...rest } = await serverPicture(root);
    return rest;
  }

  test.for(["copied", "ready"])(
    "leaves nothing behind after a run until %s, and the slice can be split again",
    async (until) => {
      const before = { source: await objects("s0"), target: await objects("s1") };
      const split = await lab.cli("split", "s0", "--into", "s0,s1", "--yes", "--until", until);
      expect(split, split.stderr).toMatchObject({ code: 0 });
      const abort = await lab.cli("abort", "--yes", "--json");
      expect(abort, abort.stderr).toMatchObject({ code: 0 });
      expect({ source: await objects("s0"), target: await objects("s1") }).toEqual(before);
    },
  );

  test("keeps the target's own rows and the table that was there before", async () => {
    await using target = await lab.connect("s1");
    await using source = await lab.connect("s0");
    const [[create]] = await source.query<RowDataPacket[]>("SHOW CREATE TABLE orders");
    await target.query(String(create?.["Create Table"]));
    const split = await lab.cli("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--until", "copied");
    expect(split, split.stderr).toMatchObject({ code: 0 });
    expect(await lab.cli("abort", "--yes")).toMatchObject({ code: 0 });
    const [[count]] = await target.query<RowDataPacket[]>("SELECT COUNT(*) AS n FROM orders");
    expect(Number(count?.["n"])).toBe(0);
    const [tables] = await target.query<RowDataPacket[]>("SHOW TABLES");
    expect(tables).toHaveLength(1);
    await target.query("DROP TABLE orders");
  });

  test("is refused once the slice has moved", async () => {
    const split = await lab.cli("split", "s0", "--into", "s0,s1", "--yes", "--cutover", "auto");
    expect(split, split.stderr).toMatchObject({ code: 0 });
    const [job] = /shop-split-s0-[0-9a-f]+/.exec(split.stdout) ?? [""];
    expect(await lab.cli("abort", job, "--yes")).toMatchObject({ code: 2 });
  });
});
