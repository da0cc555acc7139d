import { holdingOf, type JobRecord } from "../control/job-records.ts";
import { isRunnerDead, runnerName } from "../control/runner.ts";
import type { ControlStore } from "../control/store.ts";
import { RoutingStore } from "../routing/routing-store.ts";
import { cutoverRecordSchema, type CutoverRecord } from "./ask-cutover.ts";
import type { JobState, Progress } from "./events.ts";
import { readProgress } from "./progress-record.ts";

/** A job as `status` tells it, from the control store alone: right with the runner alive, dead or stopped. */
export interface JobStatus {
  readonly job: string;
  readonly state: JobState;
  readonly reason: string | undefined;
  readonly runner: { readonly name: string; readonly alive: boolean } | undefined;
  readonly canCutover: { readonly ok: boolean; readonly reasons: readonly string[] };
  readonly progress: Progress | undefined;
  /** How old the progress is, in ms; a dead runner's stays as it was. */
  readonly progressAgeMs: number | undefined;
  readonly cutover: CutoverRecord | undefined;
  readonly error: { readonly first: unknown; readonly last: unknown };
  readonly route: { readonly epoch: number | undefined };
}

export async function jobStatus(store: ControlStore, record: JobRecord): Promise<JobStatus> {
  const [holding, snapshot, map] = await Promise.all([
    holdingOf(store, record.id),
    readProgress(store, record.id),
    new RoutingStore(store).currentMap(),
  ]);
  const alive = holding?.alive !== undefined && !isRunnerDead(holding.alive);
  const reason = record["reason"];
  return {
    job: record.id,
    state: record.state,
    reason: typeof reason === "string" ? reason : undefined,
    runner: holding === undefined ? undefined : { name: runnerName(holding.claim.runner), alive },
    canCutover: canCutover(record.state, alive, snapshot?.progress),
    progress: snapshot?.progress,
    progressAgeMs: snapshot === undefined ? undefined : Math.max(0, Date.now() - Date.parse(snapshot.at)),
    cutover: cutoverRecordSchema.safeParse(record["cutover"]).data,
    error: { first: record["error"] ?? null, last: record["lastError"] ?? null },
    route: { epoch: map?.epoch },
  };
}

function canCutover(
  state: JobState,
  alive: boolean,
  progress: Progress | undefined,
): JobStatus["canCutover"] {
  const reasons: string[] = [];
  if (state !== "ready") reasons.push(`the job is ${state}`);
  if (!alive) reasons.push("no runner is alive: `shardlift cutover` would first bring the job up to date");
  if (progress !== undefined && progress.verify.mismatches > 0)
    reasons.push(`${progress.verify.mismatches} keys differ`);
  return { ok: reasons.length === 0, reasons };
}
