import { settingFlags } from "../cli/flags.ts";
import { chooseJob, jobArg } from "../cli/choose-job.ts";
import { JobCommand, runOptions } from "../cli/job-command.ts";
import { untilFlag } from "../cli/split-flags.ts";
import { isEnded } from "../job/transitions.ts";

export class Resume extends JobCommand {
  static override readonly summary = "Go on with a job that was interrupted or killed.";
  static override readonly description =
    "Takes the job, brings the gates in line with the routing map, and goes on from the saved checkpoint: loaded chunks are not copied again.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> shop-split-s0-3f9c2a",
  ];
  static override readonly args = jobArg;
  static override readonly flags = { ...settingFlags, ...untilFlag };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Resume);
    await this.runJobFrom(
      flags,
      async ({ store }) =>
        (await chooseJob(store, args.JOB, ({ state }) => !isEnded(state) && state !== "switched")).id,
      (config) => runOptions(config, flags),
    );
  }
}
