import { randomBytes } from "node:crypto";
import { getBlob, putBlob } from "../control/blobs.ts";
import { createJob, type JobRecord } from "../control/job-records.ts";
import type { ControlStore } from "../control/store.ts";
import { ShardliftError } from "../errors/error.ts";
import { parsePlan, planHash, type Plan } from "../plan/plan.ts";

/** `shop-split-s0-3f9c`: short enough for a trigger comment, and never the same twice. */
export function newJobId(plan: Plan): string {
  const shards = [...new Set(plan.moves.map((move) => move.from))].join("-");
  const text = `${plan.keyspace}-${plan.kind}-${shards}`.replaceAll(/[^a-zA-Z0-9_.-]/g, "_").slice(0, 40);
  return `${text}-${randomBytes(3).toString("hex")}`;
}

/** Writes the plan and the job's record; nothing else happens before a runner takes the job. */
export async function createPlannedJob(store: ControlStore, plan: Plan, job: string): Promise<JobRecord> {
  const blob = await putBlob(store, Buffer.from(JSON.stringify(plan)));
  const { record } = await createJob(store, {
    id: job,
    kind: plan.kind,
    state: "planned",
    planHash: planHash(plan),
    createdAt: new Date().toISOString(),
    planBlob: blob,
    keyspace: plan.keyspace,
  });
  return record;
}

export async function planOfJob(store: ControlStore, record: JobRecord): Promise<Plan> {
  const hash = record["planBlob"];
  const bytes = typeof hash === "string" ? await getBlob(store, hash) : undefined;
  if (bytes === undefined)
    throw new ShardliftError("E_CONTROL_STORE", `the plan of job ${record.id} is not in the control store`);
  return parsePlan(Buffer.from(bytes).toString(), `plan of job ${record.id}`);
}
