import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ShardliftError } from "../errors/error.ts";
import { jobStates } from "../job/events.ts";
import { decodeJson, encodeJson } from "./json.ts";
import { claimKey, jobKey, jobPrefix, runnerKey } from "./keys.ts";
import { runnerSchema, type Runner } from "./runner.ts";
import { settle } from "./settle.ts";
import type { ControlStore, Entry, Rev } from "./store.ts";

/**
 * Jobs in the control store. `job/<id>` is the record: made once, then changed only under the job's claim
 * (control/job-claim.ts). Anyone may read: `status` works with the runner alive or dead.
 */

/** Fields besides these are the job's own; they must be JSON and are given back as they were. */
export const jobRecordSchema = z.looseObject({
  id: z.string().regex(/^[\w.-]{1,100}$/, "a job id has letters, digits, dot, dash and underscore"),
  kind: z.string().min(1),
  state: z.enum(jobStates),
  /** Of the plan (plan/plan.ts). */
  planHash: z.string().min(1),
  createdAt: z.iso.datetime(),
  /** Of the newest write to the record. */
  stamp: z.string().min(1),
});

export type JobRecord = z.infer<typeof jobRecordSchema>;
export type NewJob = Omit<JobRecord, "stamp"> & { readonly [field: string]: unknown };

export interface StoredJob {
  readonly record: JobRecord;
  readonly rev: Rev;
}

const writeMs = 5000;

/** Throws E_USAGE when there is a job of this name already. */
export async function createJob(store: ControlStore, job: NewJob): Promise<StoredJob> {
  const record = jobRecordSchema.parse({ ...job, stamp: randomUUID() });
  const key = jobKey(record.id);
  const settled = await settle(
    store,
    {
      guards: [{ key, rev: 0 }],
      ops: [{ put: key, value: encodeJson(record) }],
      witness: key,
      isMine: (entry) => entry !== undefined && decodeJob(entry).stamp === record.stamp,
    },
    writeMs,
  );
  if (settled.kind === "applied") return { record, rev: settled.rev };
  if (settled.kind === "unknown") throw settled.cause;
  throw new ShardliftError("E_USAGE", `there is a job "${record.id}" already`, {
    next: `give the job another name, or run \`shardlift status ${record.id}\``,
  });
}

export async function readJob(store: ControlStore, id: string): Promise<StoredJob | undefined> {
  const entry = await store.get(jobKey(id));
  return entry === undefined ? undefined : { record: decodeJob(entry), rev: entry.rev };
}

/** Throws E_USAGE naming the jobs that there are. */
export async function requireJob(store: ControlStore, id: string): Promise<StoredJob> {
  const job = await readJob(store, id);
  if (job !== undefined) return job;
  const known = (await listJobs(store)).map(({ record }) => record.id);
  throw new ShardliftError("E_USAGE", `there is no job "${id}"`, {
    next: known.length === 0 ? "start one with `shardlift split`" : `use one of: ${known.join(", ")}`,
  });
}

/** Oldest first. */
export async function listJobs(store: ControlStore): Promise<readonly StoredJob[]> {
  const { entries } = await store.list(jobPrefix);
  return entries
    .map((entry) => ({ record: decodeJob(entry), rev: entry.rev }))
    .toSorted((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1));
}

/** Who holds, or held last, a job. */
const claimSchema = z.strictObject({
  job: z.string(),
  runner: runnerSchema,
  since: z.iso.datetime(),
  /** Set when the runner has let go in good order. */
  releasedAt: z.iso.datetime().nullable(),
  stamp: z.string().min(1),
});

export type ClaimRecord = z.infer<typeof claimSchema>;

export interface Holding {
  readonly claim: ClaimRecord;
  /** The fencing token: revision of the claim when it was written. */
  readonly token: Rev;
  /** The runner that keeps its lease alive now. */
  readonly alive: Runner | undefined;
}

/** Undefined for a job that nobody has taken yet. */
export async function holdingOf(store: ControlStore, id: string): Promise<Holding | undefined> {
  const claim = await store.get(claimKey(id));
  if (claim === undefined) return undefined;
  const runner = await store.get(runnerKey(id));
  return {
    claim: decodeJson(claim.value, claimSchema, claim.key),
    token: claim.rev,
    alive: runner === undefined ? undefined : decodeJson(runner.value, presenceSchema, runner.key).runner,
  };
}

/** What `job-runner/<id>` holds, bound to the runner's lease. */
export const presenceSchema = z.strictObject({ runner: runnerSchema, stamp: z.string().min(1) });

export function decodeJob(entry: Entry): JobRecord {
  return decodeJson(entry.value, jobRecordSchema, entry.key);
}
