import { writeFile } from "node:fs/promises";
import { Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { currentOrFirstMap, openReadOnlyStore, serverAccess } from "../../cli/deps.ts";
import { settingFlags } from "../../cli/flags.ts";
import { splitArgs, splitFlags, splitWish } from "../../cli/split-flags.ts";
import { buildSplitPlan } from "../../plan/build-split-plan.ts";
import { planText } from "../../plan/plan-text.ts";
import { planHash } from "../../plan/plan.ts";

export class PlanSplit extends BaseCommand {
  static override readonly summary = "Show what a split would do; nothing is changed anywhere.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %> s0 --into s0,s1",
    "<%= config.bin %> <%= command.id %> s0 --into s0,s1 --at 5000 --out orders.plan.json",
  ];
  static override readonly args = splitArgs;
  static override readonly flags = {
    ...splitFlags,
    ...settingFlags,
    out: Flags.string({ description: "Save the plan for `shardlift run`.", helpValue: "FILE" }),
  };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(PlanSplit);
    const { config, warnings } = await this.loadConfig(flags, flags);
    await using stack = new AsyncDisposableStack();
    const store = await openReadOnlyStore(config);
    if (store !== undefined) stack.defer(() => store.close());
    const map = await currentOrFirstMap(config, store);
    const plan = await buildSplitPlan(serverAccess(config, this.secrets), map, splitWish(args.SHARD, flags));
    if (flags.out !== undefined)
      await writeFile(flags.out, `${JSON.stringify(plan, undefined, 2)}\n`, { mode: 0o600 });
    this.print(flags, {
      text: planText(plan, flags),
      data: { hash: planHash(plan), plan },
      warnings: [...warnings, ...plan.warnings],
      nextSteps: [
        flags.out === undefined ? this.#sameSplit(args.SHARD, flags) : `shardlift run ${flags.out}`,
      ],
    });
  }

  #sameSplit(shard: string, flags: { into: string; at?: string | undefined }): string {
    return `shardlift split ${shard} --into ${flags.into}${flags.at === undefined ? "" : ` --at ${flags.at}`}`;
  }
}
