import { readFile } from "node:fs/promises";
import type { RowDataPacket } from "mysql2";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { describeServers } from "../support/servers.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

interface IdRow extends RowDataPacket {
  readonly id: number;
}

interface MismatchEnvelope {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly mismatches?: { readonly table: string; readonly shown: string; readonly kind: string }[];
  };
}

describeServers("verification", (flavor) => {
  let lab: ShopLab;
  beforeEach(async () => {
    lab = await openShopLab(flavor, { rows: 2_000 });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  test("finds what was written past the log, lists every key, and refuses the flip: exit 6", async () => {
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
    await using root = await lab.connect("s0");
    await root.query("SET SESSION sql_log_bin = 0");
    await root.query("UPDATE orders SET note = 'unlogged' WHERE user_id >= 20 ORDER BY id LIMIT 2");
    await root.query("DELETE FROM order_items WHERE buyer_id >= 20 ORDER BY order_id LIMIT 1");
    await using target = await lab.connect("s1");
    await target.query("SET SESSION sql_log_bin = 0");
    await target.query("DELETE FROM orders WHERE user_id >= 20 ORDER BY id DESC LIMIT 1");

    const resumed = await lab.cli("resume", "--cutover", "auto", "--json");
    expect(resumed, resumed.stderr).toMatchObject({ code: 6 });
    const { error } = JSON.parse(resumed.stdout) as MismatchEnvelope;
    expect(error.code).toBe("E_MISMATCH");
    expect(error.mismatches?.map(({ table, kind }) => `${table}: ${kind}`).toSorted()).toEqual([
      "order_items: only at target",
      "orders: different",
      "orders: different",
      "orders: missing at target",
    ]);
    // Rows stay out of errors: keys and digests only.
    expect(resumed.stdout).not.toContain("unlogged");
    await expect(readFile(lab.routing, "utf8")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("keeps others off the target while the job waits at the gate, and finds what was written past the log meanwhile", async () => {
    const runner = lab.start("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--output", "lines");
    await vi.waitFor(() => expect(runner.output()).toMatch(/state ready/), {
      timeout: 60_000,
      interval: 100,
    });
    await using target = await lab.connect("s1");
    await using source = await lab.connect("s0");
    await expect(
      target.query("UPDATE orders SET amount = amount + 1 WHERE user_id >= 20 ORDER BY id LIMIT 1"),
    ).rejects.toMatchObject({ errno: 1644, sqlState: "45000" });

    const [found] = await source.query<IdRow[]>("SELECT MAX(id) AS id FROM orders WHERE user_id >= 20");
    const id = found[0]?.id;
    await source.query("UPDATE orders SET note = 'first' WHERE id = ?", [id]);
    await vi.waitFor(
      async () => {
        const [rows] = await target.query("SELECT note FROM orders WHERE id = ?", [id]);
        expect(rows).toEqual([{ note: "first" }]);
      },
      { timeout: 30_000, interval: 50 },
    );
    // What the log does not tell, in a key that was just written through.
    await source.query("SET SESSION sql_log_bin = 0");
    await source.query("UPDATE orders SET amount = amount + 1 WHERE id = ?", [id]);
    runner.child.kill("SIGINT");
    expect(await runner.result).toMatchObject({ code: 130 });
    const resumed = await lab.cli("resume", "--cutover", "auto");
    expect(resumed, resumed.stderr).toMatchObject({ code: 6 });
  });
});
