import { BaseCommand } from "../../cli/base-command.ts";
import { openDeps } from "../../cli/deps.ts";
import { ShardliftError } from "../../errors/error.ts";
import { publishUnconfirmed } from "../../job/cutover-ports.ts";

export class RoutePublish extends BaseCommand {
  static override readonly summary =
    "Bring every publisher to the current map; writes the first map where there is none.";
  static override readonly description =
    "The first map comes from the configuration; afterwards the control store owns it. Routers and proxies can start once this was run.";
  static override readonly examples = ["<%= config.bin %> <%= command.id %>"];

  override async run(): Promise<void> {
    const { flags } = await this.parse(RoutePublish);
    const signal = this.interruptSignal();
    const { config, warnings } = await this.loadConfig(flags);
    await using deps = await openDeps({
      config,
      secrets: this.secrets,
      reporter: { event: () => undefined, close: () => undefined },
    });
    const map = await deps.routing.currentMap();
    const unconfirmed = await publishUnconfirmed({ deps, signal });
    if (unconfirmed.length > 0)
      throw new ShardliftError("E_PUBLISH", unconfirmed.join("; "), { retryable: true });
    this.print(flags, {
      text: `epoch ${map?.epoch} is in force at ${config.publishers.length === 0 ? "the control store" : deps.publishers.map(({ name }) => name).join(", ")}`,
      data: { epoch: map?.epoch, publishers: deps.publishers.map(({ name }) => name) },
      warnings,
      nextSteps: ["shardlift route show"],
    });
  }
}
