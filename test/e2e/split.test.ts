import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { describeServers } from "../support/servers.ts";
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
});
