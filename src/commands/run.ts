import { readFile } from "node:fs/promises";
import { Args } from "@oclif/core";
import { confirmPlan } from "../cli/confirm.ts";
import { settingFlags, yesFlag } from "../cli/flags.ts";
import { JobCommand, runOptions } from "../cli/job-command.ts";
import { untilFlag } from "../cli/split-flags.ts";
import { InputError } from "../errors/error.ts";
import { createPlannedJob, newJobId } from "../job/start-job.ts";
import { planText } from "../plan/plan-text.ts";
import { parsePlan } from "../plan/plan.ts";

export class Run extends JobCommand {
  static override readonly summary = "Run a saved plan. A stale one is refused.";
  static override readonly examples = ["<%= config.bin %> <%= command.id %> orders.plan.json"];
  static override readonly args = {
    PLAN: Args.string({ required: true, description: "File made by `plan split --out`." }),
  };
  static override readonly flags = { ...settingFlags, ...yesFlag, ...untilFlag };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Run);
    const plan = parsePlan(await readPlanFile(args.PLAN), args.PLAN);
    await this.runJobFrom(
      flags,
      async ({ store }) => {
        await confirmPlan(planText(plan, { statements: false }), flags);
        const job = newJobId(plan);
        await createPlannedJob(store, plan, job);
        return job;
      },
      (config) => runOptions(config, flags),
    );
  }
}

async function readPlanFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new InputError("E_USAGE", [
      {
        where: "PLAN",
        found: (cause as Error).message,
        accepted: "a file made by `shardlift plan split --out`",
      },
    ]);
  }
}
