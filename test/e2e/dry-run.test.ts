import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeServers } from "../support/servers.ts";
import { serverPicture } from "../support/server-picture.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

describeServers("commands that only look", (flavor) => {
  let lab: ShopLab;
  beforeAll(async () => {
    lab = await openShopLab(flavor, { rows: 1_000 });
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  async function picture(): Promise<unknown> {
    await using source = await lab.connect("s0");
    await using target = await lab.connect("s1");
    return { source: await serverPicture(source), target: await serverPicture(target) };
  }

  test.for([
    ["check"],
    ["plan", "split", "s0", "--into", "s0,s1"],
    ["plan", "split", "s0", "--into", "s0,s1", "--at", "20", "--json"],
    ["split", "s0", "--into", "s0,s1", "--at", "20", "--dry-run"],
    ["config", "validate"],
    ["route", "show"],
  ])("%s changes nothing at either server, and makes no control store", async (args) => {
    const before = await picture();
    const result = await lab.cli(...args);
    expect(result, result.stderr).toMatchObject({ code: 0 });
    expect(await picture()).toEqual(before);
    expect(existsSync(join(lab.directory, "control"))).toBe(false);
  });

  test("a plan names the moves, the rows, the exact statements and the next command", async () => {
    const { stdout } = await lab.cli("plan", "split", "s0", "--into", "s0,s1", "--at", "20", "--json");
    const { data, nextSteps } = JSON.parse(stdout) as {
      data: { plan: Record<string, unknown> };
      nextSteps: string[];
    };
    expect(data.plan["moves"]).toEqual([
      { id: "s0-s1", from: "s0", to: "s1", slice: [{ from: { at: "KEY", key: "20" }, to: { at: "MAX" } }] },
    ]);
    expect(JSON.stringify(data.plan["steps"])).toMatch(
      /CREATE TRIGGER .* AFTER DELETE ON `shop`\.`order_items`/,
    );
    expect(data.plan["estimates"]).toMatchObject({ rows: expect.any(Number) as number });
    expect(nextSteps).toEqual(["shardlift split s0 --into s0,s1 --at 20"]);
  });
});
