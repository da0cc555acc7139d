import { z } from "zod";
import { decodeJson, encodeJson } from "../control/json.ts";
import { progressKey } from "../control/keys.ts";
import type { JobClaim } from "../control/job-claim.ts";
import type { ControlStore } from "../control/store.ts";
import type { Progress } from "./events.ts";

/** The newest progress of a job, for `status`: readable with the runner alive or dead. */
const recordSchema = z.strictObject({
  at: z.iso.datetime(),
  progress: z.custom<Progress>((value) => typeof value === "object"),
});
export type ProgressRecord = z.infer<typeof recordSchema>;

/** Overwrites the last snapshot; only the holder of the job's token can. A snapshot that is lost is no harm. */
export async function writeProgress(store: ControlStore, claim: JobClaim, progress: Progress): Promise<void> {
  const key = progressKey(claim.job);
  const standing = await store.get(key);
  await store.txn(
    [claim.guard, { key, rev: standing?.rev ?? 0 }],
    [{ put: key, value: encodeJson({ at: new Date().toISOString(), progress }) }],
  );
}

export async function readProgress(store: ControlStore, job: string): Promise<ProgressRecord | undefined> {
  const entry = await store.get(progressKey(job));
  return entry === undefined ? undefined : decodeJson(entry.value, recordSchema, entry.key);
}
