import { z } from "zod";
import { holdingOf, requireJob } from "../control/job-records.ts";
import { isRunnerDead } from "../control/runner.ts";
import type { ControlStore } from "../control/store.ts";
import { describeCutover } from "../cutover/cutover.ts";
import { gatePoints } from "../cutover/gate-points.ts";
import { ShardliftError } from "../errors/error.ts";
import { sleep } from "../lib/wait.ts";
import { cutoverLimits } from "./cutover-ports.ts";
import type { JobDeps } from "./job-context.ts";
import { readRequest, sendRequest } from "./requests.ts";
import { openSessions } from "./sessions.ts";
import { currentMapOf } from "./settle-cutover.ts";
import { planOfJob } from "./start-job.ts";

/** What the runner leaves in the job's record after the flip. */
export const cutoverRecordSchema = z.object({
  epoch: z.number(),
  /** Missing when the cutover was settled after a failure. */
  attempts: z.number().optional(),
  pause: z
    .object({ untilCommittedMs: z.number(), untilOpenMs: z.number(), hostLossMs: z.number() })
    .optional(),
  reverseFrom: z.record(z.string(), z.string()),
  unconfirmed: z.array(z.string()),
});
export type CutoverRecord = z.infer<typeof cutoverRecordSchema>;

const lastErrorSchema = z.object({ code: z.string(), message: z.string(), at: z.string() });

/** Beyond the cutover's own deadline the runner has this long to say how it went. */
const answerMs = 30_000;

/**
 * Asks a live runner to cut over and waits for the outcome. Undefined when no runner is alive: then the caller runs
 * the job itself. Throws E_CUTOVER_NOT_DONE with the runner's reason.
 */
export async function askRunnerToCutOver(
  store: ControlStore,
  job: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<CutoverRecord | undefined> {
  const holding = await holdingOf(store, job);
  if (holding?.alive === undefined || isRunnerDead(holding.alive)) return undefined;
  const { record } = await requireJob(store, job);
  if (record.state === "switched") return cutoverRecordSchema.parse(record["cutover"]);
  if (record.state !== "ready" && record.state !== "cutting-over") {
    throw new ShardliftError("E_CUTOVER_NOT_DONE", `job ${job} is ${record.state}, not ready`, {
      next: `wait until \`shardlift status ${job}\` says ready`,
      retryable: true,
    });
  }
  const askedAt = new Date().toISOString();
  await sendRequest(store, job, { kind: "cutover", deadlineMs });
  const until = performance.now() + deadlineMs + answerMs;
  while (performance.now() < until) {
    const { record: now } = await requireJob(store, job);
    if (now.state === "switched") return cutoverRecordSchema.parse(now["cutover"]);
    const failed = lastErrorSchema.safeParse(now["lastError"]).data;
    const taken = (await readRequest(store, job)) === undefined;
    if (taken && failed !== undefined && failed.at > askedAt) {
      throw new ShardliftError("E_CUTOVER_NOT_DONE", failed.message, { retryable: true });
    }
    await sleep(100, signal);
  }
  throw new ShardliftError("E_TIMEOUT", `the runner of job ${job} has not answered`, {
    next: `look at \`shardlift status ${job}\``,
    retryable: true,
  });
}

/** The very steps that a cutover of the job would run, as text; reads only. */
export async function previewCutover(deps: JobDeps, job: string): Promise<string[]> {
  const plan = await planOfJob(deps.store, (await requireJob(deps.store, job)).record);
  const token = (await holdingOf(deps.store, job))?.token ?? 0;
  await using sessions = await openSessions(deps, plan, undefined);
  return describeCutover({
    claim: { storeId: deps.store.storeId, job, token },
    plannedEpoch: plan.before.epoch,
    ...gatePoints(plan, sessions.all, await currentMapOf(deps)),
    moves: plan.moves,
    limits: cutoverLimits(deps.config, answerMs),
  });
}
