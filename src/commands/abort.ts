import { yesFlag } from "../cli/flags.ts";
import { BaseCommand } from "../cli/base-command.ts";
import { chooseJob, jobArg } from "../cli/choose-job.ts";
import { confirmPlan } from "../cli/confirm.ts";
import { openDeps } from "../cli/deps.ts";
import { abortJob } from "../job/abort.ts";
import { formatCount } from "../ui/format.ts";

export class Abort extends BaseCommand {
  static override readonly summary = "Take a job back before the slice has moved; nothing of it stays.";
  static override readonly description =
    "Drops the gates and the tables that the job has created, deletes the copied rows from tables that were there before, and gives the slice free. Refused once the gate was committed closed and the map flipped.";
  static override readonly examples = ["<%= config.bin %> <%= command.id %> shop-split-s0-3f9c2a --yes"];
  static override readonly args = jobArg;
  static override readonly flags = { ...yesFlag };

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Abort);
    const interrupt = this.interruptSignal();
    const { config, warnings } = await this.loadConfig(flags);
    const reporter = await this.openReporter({ ...flags, output: "quiet" }, args.JOB ?? "");
    await using deps = await openDeps({ config, secrets: this.secrets, reporter });
    const { id } = await chooseJob(deps.store, args.JOB);
    await confirmPlan(`abort ${id}: drop its gates and everything that it has copied`, flags);
    const result = await abortJob(deps, id, interrupt);
    this.print(flags, {
      job: id,
      text: `job ${id} is aborted: ${result.tablesDropped.length} tables dropped, ${formatCount(result.rowsDeleted)} rows deleted, nothing of it is left`,
      data: result,
      warnings,
    });
  }
}
