import { BaseCommand } from "../../cli/base-command.ts";
import type { Config } from "../../config/config.ts";
import { formatPlural } from "../../ui/format.ts";

export class ConfigValidate extends BaseCommand {
  static override readonly summary = "Check the configuration without connecting to anything.";
  static override readonly description =
    "Tells every problem at once, each with file:line:column, what was found and what is accepted. Exits with 2 when there is one.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> -c prod.yaml --json",
  ];

  override async run(): Promise<void> {
    const { flags } = await this.parse(ConfigValidate);
    const { config, warnings } = await this.loadConfig(flags);
    this.print(flags, {
      text: summary(config),
      data: facts(config),
      warnings,
      nextSteps: [nextStep(flags.config)],
    });
  }
}

function nextStep(file: string): string {
  return file === "shardlift.yaml" ? "shardlift check" : `shardlift check --config ${file}`;
}

function summary(config: Config): string {
  const shards = Object.keys(config.shards);
  const lines = Object.entries(config.keyspaces).map(([name, { tables, ranges }]) => {
    const owners = new Set(ranges.map(({ shard }) => shard));
    const counts = `${formatPlural(Object.keys(tables).length, "table")}, ${formatPlural(ranges.length, "range")}`;
    return `  keyspace ${name}: ${counts} on ${[...owners].join(", ")}`;
  });
  return [
    `${config.path} is valid: ${formatPlural(shards.length, "shard")} (${shards.join(", ")})`,
    ...lines,
  ].join("\n");
}

function facts(config: Config): object {
  return {
    path: config.path,
    shards: Object.keys(config.shards),
    keyspaces: Object.entries(config.keyspaces).map(([name, keyspace]) => ({
      name,
      tables: Object.keys(keyspace.tables),
      ranges: keyspace.ranges.length,
    })),
  };
}
