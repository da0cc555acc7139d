import { randomUUID } from "node:crypto";
import { z } from "zod";
import { decodeJson, encodeJson } from "../control/json.ts";
import { requestKey } from "../control/keys.ts";
import { hasStamp, settle } from "../control/settle.ts";
import type { ControlStore } from "../control/store.ts";
import { sleep } from "../lib/wait.ts";
import type { JobContext } from "./job-context.ts";

/**
 * What another process asks of a job's runner. One request stands at a time; the runner takes it away when it has
 * begun with it, so that the asking process sees that somebody is there.
 */
const requestSchema = z.strictObject({
  kind: z.literal("cutover"),
  /** For all attempts together. */
  deadlineMs: z.number().positive(),
  at: z.iso.datetime(),
  stamp: z.string(),
});
export type Request = z.infer<typeof requestSchema>;

const pollMs = 100;
const writeMs = 5_000;

export async function sendRequest(
  store: ControlStore,
  job: string,
  request: Pick<Request, "kind" | "deadlineMs">,
): Promise<void> {
  const key = requestKey(job);
  const standing = await store.get(key);
  const stamp = randomUUID();
  const settled = await settle(
    store,
    {
      guards: [{ key, rev: standing?.rev ?? 0 }],
      ops: [{ put: key, value: encodeJson({ ...request, at: new Date().toISOString(), stamp }) }],
      witness: key,
      isMine: hasStamp(stamp),
    },
    writeMs,
  );
  if (settled.kind === "unknown") throw settled.cause;
}

export async function readRequest(store: ControlStore, job: string): Promise<Request | undefined> {
  const entry = await store.get(requestKey(job));
  return entry === undefined ? undefined : decodeJson(entry.value, requestSchema, entry.key);
}

/** Takes the standing request away, whatever it is. */
export async function clearRequest(store: ControlStore, job: string): Promise<void> {
  const key = requestKey(job);
  const entry = await store.get(key);
  if (entry === undefined) return;
  await store.txn([{ key, rev: entry.rev }], [{ del: key }]);
}

/** Waits for the operator's word while the tail and the verifier go on; ends with the job's signal. */
export async function waitForRequest({ deps, job, signal, moves }: JobContext): Promise<Request> {
  for (;;) {
    for (const { tail, verifier } of moves) {
      tail.throwIfFailed();
      verifier.throwIfDifferent();
    }
    const request = await readRequest(deps.store, job);
    if (request !== undefined) {
      await clearRequest(deps.store, job);
      return request;
    }
    await sleep(pollMs, signal);
  }
}
