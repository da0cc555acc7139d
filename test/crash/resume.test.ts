import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { describeServers } from "../support/servers.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";
import { startTraffic } from "../support/shop-traffic.ts";

describeServers("a job whose runner was killed (SIGKILL)", (flavor) => {
  let lab: ShopLab;
  beforeEach(async () => {
    lab = await openShopLab(flavor, {
      rows: 8_000,
      settings: ["copy: {threads: 2, chunkTarget: 50ms, rate: 700kB/s}"],
    });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  test.for([
    ["in the copy", /state copying/, ["--cutover", "auto"]],
    ["while it follows the log", /state ready/, ["--cutover", "manual"]],
  ] as const)("%s goes on with `resume` and loses nothing", async ([, sign, mode]) => {
    await using traffic = await startTraffic(lab, lab.seed);
    for (let kill = 1; kill <= 2; kill += 1) {
      const runner =
        kill === 1
          ? lab.start("split", "s0", "--into", "s0,s1", "--yes", "--output", "lines", ...mode)
          : lab.start("resume", "--output", "lines", ...mode);
      await vi.waitFor(() => expect(runner.output()).toMatch(sign), { timeout: 120_000, interval: 20 });
      const seen = traffic.acknowledged();
      await vi.waitFor(() => expect(traffic.acknowledged()).toBeGreaterThan(seen + 40), { timeout: 60_000 });
      expect(runner.child.exitCode, runner.output()).toBeNull();
      runner.child.kill("SIGKILL");
      expect(await runner.result).toMatchObject({ code: null });
    }
    const resumed = await lab.cli("resume", "--cutover", "auto", "--rate", "unlimited", "--json");
    expect(resumed, resumed.stderr + resumed.stdout).toMatchObject({ code: 0 });
    const atFlip = traffic.acknowledged();
    await vi.waitFor(() => expect(traffic.acknowledged()).toBeGreaterThan(atFlip + 60), { timeout: 60_000 });
    const result = await traffic.check();
    expect(traffic.ledger.failures).toEqual([]);
    expect(result.details).toEqual([]);
  });

  test("Ctrl-C saves a checkpoint and says how to go on; loaded chunks are not copied again", async () => {
    const runner = lab.start(
      "split",
      "s0",
      "--into",
      "s0,s1",
      "--yes",
      "--output",
      "lines",
      "--cutover",
      "auto",
    );
    await vi.waitFor(() => expect(runner.output()).toMatch(/state copying/), {
      timeout: 60_000,
      interval: 20,
    });
    await using target = await lab.connect("s1");
    const loaded = async (): Promise<string[]> => {
      const [rows] = await target.query("SELECT id FROM _shardlift.chunk ORDER BY id");
      return (rows as { id: number }[]).map(({ id }) => String(id));
    };
    await vi.waitFor(async () => expect((await loaded()).length).toBeGreaterThan(1), {
      timeout: 60_000,
      interval: 20,
    });
    runner.child.kill("SIGINT");
    const stopped = await runner.result;
    expect(stopped).toMatchObject({ code: 130 });
    expect(stopped.stderr).toMatch(/shardlift resume/);
    const before = await loaded();
    const resumed = await lab.cli("resume", "--cutover", "auto", "--rate", "unlimited");
    expect(resumed, resumed.stderr).toMatchObject({ code: 0 });
    expect((await loaded()).slice(0, before.length)).toEqual(before);
  });
});
