import { BaseCommand } from "../../cli/base-command.ts";
import { currentOrFirstMap, openReadOnlyStore } from "../../cli/deps.ts";
import { RoutingStore } from "../../routing/routing-store.ts";
import { movingSlices, routeText } from "../../routing/route-text.ts";

export class RouteShow extends BaseCommand {
  static override readonly summary =
    "Show who owns what: the current routing map, what is being moved, and the routers.";
  static override readonly description =
    "Reads the control store only. Before the first job it shows the map that the configuration starts with.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  override async run(): Promise<void> {
    const { flags } = await this.parse(RouteShow);
    const { config, warnings } = await this.loadConfig(flags);
    await using stack = new AsyncDisposableStack();
    const store = await openReadOnlyStore(config);
    if (store !== undefined) stack.defer(() => store.close());
    const map = await currentOrFirstMap(config, store);
    const moving = store === undefined ? [] : await movingSlices(store, map);
    const routers = store === undefined ? [] : await new RoutingStore(store).routers();
    const view = { map, store: store?.storeId, moving, routers };
    this.print(flags, {
      text: routeText(view),
      data: {
        store: store?.storeId ?? null,
        epoch: map.epoch,
        keyspaces: map.keyspaces,
        moving,
        routers: routers.map(({ id, host, pid, since }) => ({ id, host, pid, since })),
      },
      warnings: [...warnings, ...(store?.warnings ?? [])],
      nextSteps: moving.length > 0 ? ["shardlift status"] : [],
    });
  }
}
