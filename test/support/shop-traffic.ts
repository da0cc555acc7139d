/** Writers on a shop lab, through the router, and the independent check of what they were promised. */
import { join } from "node:path";
import { compareWithPromises, type CheckResult } from "../../src/demo/compare-promises.ts";
import { readOwnedRows, readPublishedMap, type ShardAddress } from "../../src/demo/independent-check.ts";
import type { Seed } from "../../src/demo/shop-schema.ts";
import { Traffic } from "../../src/demo/traffic.ts";
import { WriteLedger } from "../../src/demo/write-ledger.ts";
import { createRowMoveTable, openRouter } from "../../src/router/router.ts";
import { passwords } from "./servers.ts";
import type { ShopLab } from "./shop-lab.ts";

export interface ShopTraffic extends AsyncDisposable {
  readonly ledger: WriteLedger;
  /** Acknowledged writes so far. */
  acknowledged(): number;
  /** Ends the writers and reads both servers through the published map. */
  check(): Promise<CheckResult>;
}

export async function startTraffic(
  lab: ShopLab,
  seed: Seed,
  options: { readonly rate?: number; readonly writers?: number } = {},
): Promise<ShopTraffic> {
  const published = await lab.cli("route", "publish");
  if (published.code !== 0) throw new Error(published.stderr);
  const address = (shard: "s0" | "s1"): ShardAddress => ({
    port: (shard === "s0" ? lab.source : lab.target).port,
    user: "app",
    password: passwords.app,
    database: "shop",
  });
  const shards = new Map((["s0", "s1"] as const).map((name) => [name, address(name)]));
  for (const shard of shards.keys()) {
    await using root = await lab.connect(shard);
    await root.query(createRowMoveTable);
  }
  const look = { newShards: ["s1"], signal: new AbortController().signal };
  // The new shard has no tables yet.
  const before = await readOwnedRows(
    await readPublishedMap(lab.routing, "shop"),
    new Map([["s0", address("s0")]]),
    {
      ...look,
      newShards: [],
    },
  );
  await using stack = new AsyncDisposableStack();
  const router = await openRouter({
    control: { type: "sqlite", path: join(lab.directory, "control", "control.db") },
    shards: Object.fromEntries(
      [...shards].map(([name, { database, ...rest }]) => [name, { host: "127.0.0.1", database, ...rest }]),
    ),
  });
  stack.defer(() => router.close());
  const ledger = new WriteLedger(join(lab.directory, "ledger.ndjson"));
  const traffic = new Traffic({
    router,
    ledger,
    seed,
    writers: options.writers ?? 4,
    rate: options.rate ?? 120,
    salt: 7,
  });
  // The jobs here are started by hand, so the moment from which on no order may go back is the start.
  traffic.forbidMovesBack();
  stack.defer(() => traffic.stop());
  const owned = stack.move();
  return {
    ledger,
    acknowledged: () => ledger.acknowledged,
    async check() {
      await traffic.stop();
      return compareWithPromises(
        before,
        await readOwnedRows(await readPublishedMap(lab.routing, "shop"), shards, look),
        ledger,
      );
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
