import { Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { openReadOnlyStore } from "../../cli/deps.ts";
import { ShardliftError } from "../../errors/error.ts";
import { FilePublisher } from "../../publish/file-publisher.ts";
import { mapDocument } from "../../routing/map-codec.ts";
import { movingSlices, twiceWarnings } from "../../routing/route-text.ts";
import { RoutingStore } from "../../routing/routing-store.ts";

export class RouteExport extends BaseCommand {
  static override readonly summary =
    "Print the current routing map as JSON (shardlift.map/v1), for other programs.";
  static override readonly description =
    "The same document as a file publisher writes. With --out it replaces the file whole, and never by an older map.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %> > routing.json",
    "<%= config.bin %> <%= command.id %> --out routing.json",
  ];
  static override readonly flags = {
    out: Flags.string({ description: "Write it to a file instead.", helpValue: "FILE" }),
  };

  override async run(): Promise<void> {
    const { flags } = await this.parse(RouteExport);
    const { config, warnings } = await this.loadConfig(flags);
    await using stack = new AsyncDisposableStack();
    const store = await openReadOnlyStore(config);
    if (store !== undefined) stack.defer(() => store.close());
    const map = store === undefined ? undefined : await new RoutingStore(store).currentMap();
    if (store === undefined || map === undefined) {
      throw new ShardliftError("E_CONTROL_STORE", `there is no routing map in ${config.control.path} yet`, {
        next: "run `shardlift route publish`: it writes the configuration's first map",
      });
    }
    const document = mapDocument(map, store.storeId);
    const twice = twiceWarnings(await movingSlices(store, map));
    if (!flags.json) for (const text of twice) this.logToStderr(`warning: ${text}`);
    if (flags.out !== undefined) await writeTo(flags.out, store.storeId, map, this.interruptSignal());
    this.print(flags, {
      text:
        flags.out === undefined ? JSON.stringify(document, undefined, 2) : `${flags.out}: epoch ${map.epoch}`,
      data: document,
      warnings: [...warnings, ...twice],
    });
  }
}

async function writeTo(
  path: string,
  storeId: string,
  map: Parameters<FilePublisher["publish"]>[0],
  signal: AbortSignal,
): Promise<void> {
  const publisher = new FilePublisher({ path, storeId });
  await publisher.publish(map, signal);
  if ((await publisher.confirm(map)) === "applied") return;
  throw new ShardliftError(
    "E_PUBLISH",
    `${path} does not hold the map of epoch ${map.epoch}: it has a newer one`,
  );
}
