import { BaseCommand, type CommonFlags } from "./base-command.ts";
import { openDeps } from "./deps.ts";
import { jobResult } from "./job-result.ts";
import type { SettingTexts } from "../config/settings.ts";
import { requireJob } from "../control/job-records.ts";
import { ShardliftError } from "../errors/error.ts";
import type { JobDeps, RunOptions } from "../job/job-context.ts";
import { runJob } from "../job/run-job.ts";
import { planOfJob } from "../job/start-job.ts";
import type { Config } from "../config/config.ts";

/** A cutover that nobody bounded by --deadline. */
export const defaultCutoverDeadlineMs = 60_000;

/** What the commands share that run a job: split, run, resume, cutover. */
export abstract class JobCommand extends BaseCommand {
  /** Configuration → store → job → result, printed. `choose` makes or finds the job. */
  protected async runJobFrom(
    flags: CommonFlags & SettingTexts,
    choose: (deps: JobDeps) => Promise<string>,
    options: (config: Config) => RunOptions,
  ): Promise<void> {
    const interrupt = this.interruptSignal();
    const { config, warnings } = await this.loadConfig(flags, flags);
    await using deps = await openDeps({ config, secrets: this.secrets, reporter: silent });
    const job = await choose(deps);
    const reporter = await this.openReporter(flags, job);
    const end = await runJob({ ...deps, reporter }, job, options(config), interrupt).catch(
      (error: unknown) => {
        throw interrupt.aborted ? resumable(error, job) : error;
      },
    );
    const plan = await planOfJob(deps.store, (await requireJob(deps.store, job)).record);
    const { text, data, nextSteps } = jobResult(plan, end);
    this.print(flags, { job, text, data, nextSteps, warnings: [...warnings, ...deps.store.warnings] });
  }
}

/** An interrupted run tells what to type next, with the job's name. */
function resumable(error: unknown, job: string): unknown {
  if (!(error instanceof ShardliftError) || error.code !== "E_INTERRUPTED") return error;
  return new ShardliftError("E_INTERRUPTED", `${error.message}; the checkpoint of job ${job} is saved`, {
    next: `shardlift resume ${job}`,
  });
}

/** Before the job has a name nothing is told. */
const silent = { event: () => undefined, close: () => undefined };

/** The options of a run under flags and configuration. */
export function runOptions(
  config: Config,
  flags: { readonly until?: string | undefined },
  overrides: Partial<RunOptions> = {},
): RunOptions {
  const until = flags.until as RunOptions["until"] | undefined;
  return {
    until: until ?? "switched",
    cutover: config.cutover.mode,
    cutoverDeadlineMs: defaultCutoverDeadlineMs,
    ...overrides,
  };
}
