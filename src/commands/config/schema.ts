import { Flags } from "@oclif/core";
import { z } from "zod";
import { BaseCommand } from "../../cli/base-command.ts";
import { errorEnvelope, resultEnvelope } from "../../cli/envelope.ts";
import { configJsonSchema } from "../../config/schema.ts";
import { ndjsonEvent } from "../../ui/ndjson.ts";

const schemas = {
  config: configJsonSchema,
  result: () => z.toJSONSchema(resultEnvelope, { target: "draft-2020-12" }),
  error: () => z.toJSONSchema(errorEnvelope, { target: "draft-2020-12" }),
  event: () => z.toJSONSchema(ndjsonEvent, { target: "draft-2020-12" }),
};

export class ConfigSchema extends BaseCommand {
  static override readonly summary = "Print a JSON Schema (draft 2020-12).";
  static override readonly description =
    "Of shardlift.yaml, for editors; or of what commands print: the envelope of --json, its errors, the lines of --output ndjson.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %> > shardlift.schema.json",
    "<%= config.bin %> <%= command.id %> --of error",
  ];
  static override readonly flags = {
    of: Flags.option({
      options: Object.keys(schemas) as (keyof typeof schemas)[],
      description: "What to describe.",
      default: "config" as const,
    })(),
  };

  override async run(): Promise<void> {
    const { flags } = await this.parse(ConfigSchema);
    const schema = schemas[flags.of]();
    this.print(flags, { text: JSON.stringify(schema, undefined, 2), data: schema });
  }
}
