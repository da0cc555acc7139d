import { Flags } from "@oclif/core";
import { chooseJob, jobArg } from "../cli/choose-job.ts";
import { openDeps } from "../cli/deps.ts";
import { settingFlags, yesFlag } from "../cli/flags.ts";
import { defaultCutoverDeadlineMs, JobCommand, runOptions } from "../cli/job-command.ts";
import { InputError } from "../errors/error.ts";
import { askRunnerToCutOver, previewCutover } from "../job/ask-cutover.ts";
import { parseDuration } from "../lib/units.ts";
import { formatDuration } from "../ui/format.ts";

export class Cutover extends JobCommand {
  static override readonly summary = "Move the ownership of a job's slice now.";
  static override readonly description =
    "Asks the job's runner, where one is alive, and waits for the outcome; else brings the job up to date here and moves it. Exit 7: not done, the source still serves, safe to try again.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --dry-run",
    "<%= config.bin %> <%= command.id %> --deadline 10m",
  ];
  static override readonly args = jobArg;
  static override readonly flags = {
    ...settingFlags,
    ...yesFlag,
    "dry-run": Flags.boolean({ description: "Print the very steps that would run." }),
    deadline: Flags.string({ description: "Give up after this time.", default: "60s", helpValue: "10m" }),
  };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Cutover);
    const deadlineMs = parseDuration(flags.deadline);
    if (deadlineMs === undefined) {
      throw new InputError("E_USAGE", [
        { where: "--deadline", found: flags.deadline, accepted: "a time like 90s or 10m" },
      ]);
    }
    const { config, warnings } = await this.loadConfig(flags, flags);
    const silent = { event: () => undefined, close: () => undefined };
    await using deps = await openDeps({ config, secrets: this.secrets, reporter: silent });
    const { id } = await chooseJob(deps.store, args.JOB);
    if (flags["dry-run"]) {
      const steps = await previewCutover(deps, id);
      this.print(flags, {
        job: id,
        text: steps.map((step, index) => `${index + 1}. ${step}`).join("\n"),
        data: { steps },
        warnings,
      });
      return;
    }
    const asked = await askRunnerToCutOver(deps.store, id, deadlineMs, this.interruptSignal());
    if (asked === undefined) {
      const overrides = {
        cutover: "auto",
        cutoverDeadlineMs: deadlineMs ?? defaultCutoverDeadlineMs,
      } as const;
      await this.runJobFrom(
        flags,
        () => Promise.resolve(id),
        (loaded) => runOptions(loaded, {}, overrides),
      );
      return;
    }
    const { pause, epoch } = asked;
    this.print(flags, {
      job: id,
      text: `job ${id}: switched at epoch ${epoch}${pause === undefined ? "" : `; writes paused for ${formatDuration(pause.untilCommittedMs + pause.untilOpenMs)}`}`,
      data: { state: "switched", ...asked },
      warnings,
      nextSteps: [`shardlift status ${id}`],
    });
  }
}
