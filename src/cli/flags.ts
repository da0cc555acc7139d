import { Flags } from "@oclif/core";
import { variableOf, type SettingTexts } from "../config/settings.ts";

export const outputModes = ["auto", "live", "lines", "ndjson", "quiet"] as const;
export type OutputMode = (typeof outputModes)[number];

/** Flags of every command. There is no flag for a password, so none can show up in `ps` or in a shell's history. */
export const commonFlags = {
  config: Flags.string({
    char: "c",
    description: "Configuration file.",
    default: "shardlift.yaml",
    env: "SHARDLIFT_CONFIG",
    helpGroup: "GLOBAL",
    helpValue: "FILE",
  }),
  json: Flags.boolean({
    description: "Print the result, or the error, as one JSON document.",
    helpGroup: "GLOBAL",
  }),
  output: Flags.option({
    options: outputModes,
    description:
      "How progress is told: auto (live on a terminal, lines elsewhere), live, lines, ndjson or quiet.",
    default: "auto" as const,
    env: "SHARDLIFT_OUTPUT",
    helpGroup: "GLOBAL",
    helpValue: "MODE",
  })(),
  "no-input": Flags.boolean({
    description: "Never ask anything; fail where an answer is needed.",
    helpGroup: "GLOBAL",
  }),
};

/** For commands that ask before they change something. */
export const yesFlag = {
  yes: Flags.boolean({ char: "y", description: "Answer yes to the question that the command asks." }),
};

/** For commands that run a job. They overrule SHARDLIFT_* variables, which overrule the configuration. */
export const settingFlags = {
  rate: Flags.string({
    description: `Most bytes per second read from a source. ${envNote("rate")}`,
    helpValue: "20MB/s",
  }),
  threads: Flags.string({
    description: `Chunks copied at the same time. ${envNote("threads")}`,
    helpValue: "N",
  }),
  cutover: Flags.string({
    description: `Who starts the cutover. ${envNote("cutover")}`,
    helpValue: "<manual|auto>",
  }),
  "max-pause": Flags.string({
    description: `Longest time that writes to the slice may wait for the gate. ${envNote("max-pause")}`,
    helpValue: "500ms",
  }),
  "max-lag": Flags.string({
    description: `Lag under which a cutover may begin. ${envNote("max-lag")}`,
    helpValue: "500ms",
  }),
  "reverse-window": Flags.string({
    description: `How long a rollback stays possible. ${envNote("reverse-window")}`,
    helpValue: "24h",
  }),
};

function envNote(name: keyof SettingTexts): string {
  return `[env: ${variableOf(name)}]`;
}
