import { Args, Flags } from "@oclif/core";
import type { SplitWish } from "../plan/build-split-plan.ts";

/** Arguments and flags that `split` and `plan split` share. */
export const splitArgs = {
  SHARD: Args.string({ required: true, description: "The shard that is too full." }),
};

export const splitFlags = {
  into: Flags.string({
    required: true,
    description: "Shards that own the parts afterwards, in key order; SHARD itself may be one of them.",
    helpValue: "A,B[,…]",
  }),
  at: Flags.string({
    description:
      "Split keys, one fewer than parts; a key belongs to the part on its right. Default: chosen by sampling.",
    helpValue: "KEY[,KEY]|auto",
  }),
  statements: Flags.boolean({ description: "Show every statement of the plan in full." }),
  keyspace: Flags.string({ description: "Needed when SHARD has several keyspaces.", helpValue: "K" }),
};

export function splitWish(
  shard: string,
  flags: { readonly into: string; readonly at?: string | undefined; readonly keyspace?: string | undefined },
): SplitWish {
  const list = (text: string): string[] =>
    text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  return {
    shard,
    into: list(flags.into),
    at: flags.at === undefined || flags.at === "auto" ? undefined : list(flags.at),
    keyspace: flags.keyspace,
  };
}

/** How far a run goes; later runs go on from there. */
export const untilFlag = {
  until: Flags.option({
    options: ["copied", "verified", "ready"] as const,
    description: "Stop there with a checkpoint instead of going on to the flip.",
    helpValue: "<copied|verified|ready>",
  })(),
};
