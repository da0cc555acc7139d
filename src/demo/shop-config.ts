import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { initialMap } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import { openSqliteStore } from "../control/sqlite-store.ts";
import { FilePublisher } from "../publish/file-publisher.ts";
import { publishCurrent } from "../publish/publish-current.ts";
import { RoutingStore } from "../routing/routing-store.ts";
import { database, shardNames, type ShopServers } from "./shop-servers.ts";

/** What the operator of the shop has written, and where. */
export interface ShopFiles {
  readonly config: string;
  readonly control: string;
  readonly routing: string;
}

/** Writes `shardlift.yaml` with its password files, and brings the first routing map into force. */
export async function writeShopFiles(
  servers: ShopServers,
  folder: string,
  signal: AbortSignal,
): Promise<ShopFiles> {
  const files = {
    config: join(folder, "shardlift.yaml"),
    control: join(folder, "control.db"),
    routing: join(folder, "routing.json"),
  };
  await writePrivate(join(folder, "shardlift.password"), `${servers.passwords.shardlift}\n`);
  await writePrivate(files.config, configText(servers));
  const { config } = await loadConfig(files.config, {});
  const store = await openSqliteStore(files.control);
  try {
    await new RoutingStore(store).initialise(initialMap(config));
    const publisher = new FilePublisher({ path: files.routing, storeId: store.storeId });
    for (const { state, cause } of await publishCurrent(store, [publisher], signal)) {
      if (state !== "applied") throw new Error(`${files.routing} could not be written`, { cause });
    }
  } finally {
    await store.close();
  }
  return files;
}

/** Relative paths: the folder can be looked at, and moved, as a whole. */
function configText({ servers }: ShopServers): string {
  const shard = (port: number): object => ({
    engine: "mysql",
    hosts: [`127.0.0.1:${port}`],
    user: "shardlift",
    passwordFile: "shardlift.password",
    database,
  });
  return stringify({
    version: 1,
    control: { type: "sqlite", path: "control.db" },
    shards: Object.fromEntries(shardNames.map((name) => [name, shard(servers[name].port)])),
    keyspaces: {
      shop: {
        function: "range",
        key: "user_id",
        tables: { orders: {}, order_items: { key: "buyer_id" } },
        map: [{ from: "MIN", to: "MAX", shard: "s0" }],
      },
    },
    proxies: [{ type: "file", path: "routing.json" }],
  });
}

async function writePrivate(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flag: "wx" });
}
