import { randomUUID } from "node:crypto";
import { z } from "zod";
import { invariant, ShardliftError } from "../errors/error.ts";
import { decodeJson, encodeJson } from "./json.ts";
import { journalKey, journalPrefix } from "./keys.ts";
import { hasStamp, settle } from "./settle.ts";
import type { ControlStore, Guard } from "./store.ts";

/**
 * A job's journal: what it is about to do and what it did, one key for each entry, never changed. Chunk progress and
 * checkpoints are *not* here but at the target, in the transaction with the data (DESIGN rule 7).
 *
 * Invariant: `seq` starts at 1 and has no gap; an entry is written only under the job's newest token.
 */
const entrySchema = z.strictObject({
  seq: z.int().positive(),
  at: z.iso.datetime(),
  kind: z.string().min(1),
  /** The token under which it was written. */
  token: z.int().positive(),
  data: z.json(),
  stamp: z.string().min(1),
});

export type JournalEntry = z.infer<typeof entrySchema>;

const writeMs = 5000;

export async function appendJournal(
  store: ControlStore,
  claim: Guard,
  {
    job,
    seq,
    kind,
    data,
  }: { readonly job: string; readonly seq: number; readonly kind: string; readonly data: unknown },
): Promise<JournalEntry> {
  const stamp = randomUUID();
  const entry = entrySchema.parse({ seq, at: new Date().toISOString(), kind, token: claim.rev, data, stamp });
  const key = journalKey(job, seq);
  const settled = await settle(
    store,
    {
      guards: [claim, { key, rev: 0 }],
      ops: [{ put: key, value: encodeJson(entry) }],
      witness: key,
      isMine: hasStamp(stamp),
    },
    writeMs,
  );
  if (settled.kind === "applied") return entry;
  if (settled.kind === "unknown") throw settled.cause;
  invariant(settled.current[0]?.rev !== claim.rev, `journal entry ${seq} of job ${job} was written twice`);
  throw new ShardliftError("E_JOB_HELD", `job ${job}: token ${claim.rev} is no longer the newest one`);
}

/** All entries, in order. */
export async function readJournal(store: ControlStore, job: string): Promise<readonly JournalEntry[]> {
  const { entries } = await store.list(journalPrefix(job));
  const journal = entries.map((entry) => decodeJson(entry.value, entrySchema, entry.key));
  for (const [index, entry] of journal.entries()) {
    invariant(
      entry.seq === index + 1,
      `the journal of job ${job} has entry ${entry.seq} in place ${index + 1}`,
    );
  }
  return journal;
}
