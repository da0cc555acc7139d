import { Flags } from "@oclif/core";
import { currentOrFirstMap, openReadOnlyStore, serverAccess } from "../cli/deps.ts";
import { settingFlags, yesFlag } from "../cli/flags.ts";
import { JobCommand, runOptions } from "../cli/job-command.ts";
import { confirmPlan } from "../cli/confirm.ts";
import { splitArgs, splitFlags, splitWish, untilFlag } from "../cli/split-flags.ts";
import type { CommonFlags } from "../cli/base-command.ts";
import type { SettingTexts } from "../config/settings.ts";
import { initialMap } from "../config/config.ts";
import { createPlannedJob, newJobId } from "../job/start-job.ts";
import { buildSplitPlan } from "../plan/build-split-plan.ts";
import { planText } from "../plan/plan-text.ts";
import { planHash } from "../plan/plan.ts";

export class Split extends JobCommand {
  static override readonly summary = "Split a shard while it serves: plan, copy, verify, flip.";
  static override readonly description =
    "Copies a part of the shard's keys to other shards while the application keeps writing, proves both sides equal, and flips the routing map. Interrupted, it saves a checkpoint; `shardlift resume` goes on.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %> s0 --into s0,s1",
    "<%= config.bin %> <%= command.id %> s0 --into s0,s1 --at 5000 --cutover auto --yes",
    "<%= config.bin %> <%= command.id %> s0 --into s0,s1 --dry-run",
  ];
  static override readonly args = splitArgs;
  static override readonly flags = {
    ...splitFlags,
    ...settingFlags,
    ...yesFlag,
    ...untilFlag,
    "dry-run": Flags.boolean({ description: "Only show the plan, like `plan split`." }),
  };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Split);
    const wish = splitWish(args.SHARD, flags);
    if (flags["dry-run"]) {
      await this.#dryRun(flags, wish);
      return;
    }
    await this.runJobFrom(
      flags,
      async (deps) => {
        const map = (await deps.routing.currentMap()) ?? initialMap(deps.config);
        const plan = await buildSplitPlan(deps, map, wish);
        await confirmPlan(planText(plan, { statements: false }), flags);
        const job = newJobId(plan);
        await createPlannedJob(deps.store, plan, job);
        return job;
      },
      (config) => runOptions(config, flags),
    );
  }

  async #dryRun(
    flags: CommonFlags & SettingTexts & { readonly statements: boolean },
    wish: ReturnType<typeof splitWish>,
  ): Promise<void> {
    const { config, warnings } = await this.loadConfig(flags, flags);
    await using stack = new AsyncDisposableStack();
    const store = await openReadOnlyStore(config);
    if (store !== undefined) stack.defer(() => store.close());
    const plan = await buildSplitPlan(
      serverAccess(config, this.secrets),
      await currentOrFirstMap(config, store),
      wish,
    );
    this.print(flags, {
      schema: "plan-split",
      text: planText(plan, flags),
      data: { hash: planHash(plan), plan },
      warnings: [...warnings, ...plan.warnings],
    });
  }
}
