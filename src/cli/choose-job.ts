import { Args } from "@oclif/core";
import { listJobs, requireJob, type JobRecord } from "../control/job-records.ts";
import type { ControlStore } from "../control/store.ts";
import { ShardliftError } from "../errors/error.ts";
import { isEnded } from "../job/transitions.ts";

/** The job argument of resume, status, cutover and abort; may be left out where only one job is open. */
export const jobArg = {
  JOB: Args.string({ description: "The job's name; not needed while only one is open." }),
};

/** The named job, or the only one that is still open. */
export async function chooseJob(
  store: ControlStore,
  name: string | undefined,
  open: (record: JobRecord) => boolean = (record) => !isEnded(record.state),
): Promise<JobRecord> {
  if (name !== undefined) return (await requireJob(store, name)).record;
  const jobs = (await listJobs(store)).map(({ record }) => record).filter(open);
  const [only, ...more] = jobs;
  if (only !== undefined && more.length === 0) return only;
  throw new ShardliftError(
    "E_NO_JOB",
    only === undefined
      ? "there is no open job"
      : `several jobs are open: ${jobs.map(({ id }) => id).join(", ")}`,
  );
}
