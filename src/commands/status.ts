import { BaseCommand } from "../cli/base-command.ts";
import { chooseJob, jobArg } from "../cli/choose-job.ts";
import { openReadOnlyStore } from "../cli/deps.ts";
import { listJobs } from "../control/job-records.ts";
import { ShardliftError } from "../errors/error.ts";
import { jobStatus, type JobStatus } from "../job/job-status.ts";
import { isEnded } from "../job/transitions.ts";
import { formatCount, formatDuration, formatEta, formatPercent, formatRate } from "../ui/format.ts";

export class Status extends BaseCommand {
  static override readonly summary = "Show a job, or all jobs, with the runner alive or dead.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> shop-split-s0-3f9c2a --json",
  ];
  static override readonly args = jobArg;

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Status);
    const { config, warnings } = await this.loadConfig(flags);
    const store = await openReadOnlyStore(config);
    if (store === undefined)
      throw new ShardliftError("E_NO_JOB", "there is no control store yet, so there are no jobs");
    await using stack = new AsyncDisposableStack();
    stack.defer(() => store.close());
    const records =
      args.JOB === undefined
        ? (await listJobs(store)).map(({ record }) => record)
        : [await chooseJob(store, args.JOB)];
    const jobs: JobStatus[] = [];
    for (const record of records) jobs.push(await jobStatus(store, record));
    const named = args.JOB === undefined ? undefined : jobs[0];
    this.print(flags, {
      ...(named === undefined ? {} : { job: named.job }),
      text: jobs.length === 0 ? "no jobs" : jobs.map(statusText).join("\n\n"),
      data: named ?? { jobs },
      warnings,
      nextSteps: jobs.flatMap(nextSteps),
    });
  }
}

function statusText(status: JobStatus): string {
  const { progress, runner, cutover } = status;
  const lines = [`${status.job}  ${status.state}${status.reason === undefined ? "" : `: ${status.reason}`}`];
  if (runner !== undefined) lines.push(`  runner  ${runner.name}, ${runner.alive ? "alive" : "not running"}`);
  if (progress !== undefined) {
    const { copy, tail, verify } = progress;
    const age =
      status.progressAgeMs === undefined ? "" : `, as of ${formatDuration(status.progressAgeMs)} ago`;
    const done = copy.percent === 100;
    lines.push(
      `  copy    ${formatPercent(copy.percent, done)}  ${formatCount(copy.rows)} rows  ${formatRate(copy.bytesPerSecond)}${done ? "" : `  ETA ${formatEta(copy.eta)}`}${copy.throttledBy === undefined ? "" : `  throttled (${copy.throttledBy})`}${age}`,
      `  tail    lag ${formatDuration(tail.lagMs)} · dirty ${formatCount(tail.dirtyKeys)} · checkpoint ${tail.checkpointAgeMs === undefined ? "not yet" : `${formatDuration(tail.checkpointAgeMs)} old`}`,
      `  verify  ${formatPercent(verify.percent, verify.percent === 100)} of the rows, ${formatCount(verify.mismatches)} differ`,
    );
  }
  if (cutover !== undefined) {
    lines.push(
      cutover.pause === undefined
        ? `  epoch   ${cutover.epoch}, settled after a failure`
        : `  pause   ${formatDuration(cutover.pause.untilCommittedMs)} until committed, ${formatDuration(cutover.pause.untilOpenMs)} until open; epoch ${cutover.epoch}`,
    );
  }
  const { first } = status.error as { first: { code?: string; message?: string } | null };
  if (first?.message !== undefined) lines.push(`  error   ${first.code}: ${first.message}`);
  return lines.join("\n");
}

function nextSteps({ job, state, runner }: JobStatus): string[] {
  if (isEnded(state) || state === "switched") return [];
  // `cutover` works without a runner too: it first brings the job up to date.
  if (state === "ready") return [`shardlift cutover ${job}`];
  return runner?.alive === true ? [] : [`shardlift resume ${job}`];
}
