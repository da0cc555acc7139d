import type { JobClaim } from "../control/job-claim.ts";
import { readJournal } from "../control/journal.ts";
import { gatePoints } from "../cutover/gate-points.ts";
import type { Session } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { firstLine } from "../lib/first-line.ts";
import type { Plan } from "../plan/plan.ts";
import type { JobBook } from "./job-book.ts";
import type { CutoverRecord } from "./ask-cutover.ts";
import { publishUnconfirmed } from "./cutover-ports.ts";
import type { JobDeps } from "./job-context.ts";
import { openSessions } from "./sessions.ts";
import { currentMapOf, ownershipIn, settleGates, type Ownership } from "./settle-cutover.ts";

export interface SettleContext {
  readonly deps: JobDeps;
  readonly plan: Plan;
  readonly claim: JobClaim;
  readonly book: JobBook;
}

/** A cutover that failed after its commit may be settled long after the run's own signal has ended. */
const publishMs = 30_000;

/**
 * An attempt that failed after COMMIT closed is settled at once: the slice must not stay shut (DESIGN 4, 6). Returns
 * when the new shard serves; throws the attempt's error when the old one serves again. Whatever prevents the settling
 * is told as E_OWNERSHIP_UNKNOWN: until `resume` has settled it, the slice refuses writes.
 */
export async function settleAfterFailure(context: SettleContext, cause: unknown): Promise<void> {
  const { deps, plan, claim, book } = context;
  let ownership: Ownership;
  try {
    // A new token first: whatever the attempt has sent can not land any more.
    await claim.retake();
    await using sessions = await openSessions(deps, plan, claim.claim);
    ownership = await settle(context, sessions.all);
  } catch (error) {
    if (error instanceof ShardliftError && error.code === "E_JOB_HELD") throw error;
    throw new ShardliftError(
      "E_OWNERSHIP_UNKNOWN",
      `the cutover failed after its gate was closed (${firstLine(cause)}), and could not be settled: ${firstLine(error)}`,
      {
        cause: new AggregateError([cause, error]),
        next: `the slice may refuse writes until this is done: shardlift resume ${claim.job}`,
        retryable: true,
      },
    );
  }
  if (ownership === "target") return;
  await book.setState("ready", "the cutover failed; the gate is open again");
  throw cause;
}

/**
 * Brings gates, intents, state and publishers in line with the map. The caller holds a token that is newer than any
 * cutover's. For a slice that has moved, the job is `switched` when this returns.
 */
export async function settle(
  context: SettleContext,
  sessions: ReadonlyMap<string, Session>,
): Promise<Ownership> {
  const { deps, plan, claim, book } = context;
  for (const session of sessions.values()) await session.ledger.claim();
  const map = await currentMapOf(deps);
  const ownership = ownershipIn(map, plan);
  await settleGates(claim.job, ownership, gatePoints(plan, sessions, map));
  if (ownership === "target") {
    const cutover = await factsFromJournal(context, map.epoch);
    await book.setState("switched", "settled after a failure", { cutover });
  }
  await deps.routing.withdraw(claim.claim);
  if (ownership === "target") await tellUnconfirmed(deps);
  return ownership;
}

/** The flip stands whoever hears of it: readers that did not confirm are told as warnings. */
export async function tellUnconfirmed(deps: JobDeps): Promise<string[]> {
  const lines = await publishUnconfirmed({ deps, signal: AbortSignal.timeout(publishMs) }).catch(
    (error: unknown) => [`publishing failed: ${firstLine(error)}; run \`shardlift route publish\``],
  );
  for (const text of lines)
    deps.reporter.event({ kind: "note", level: "warning", text: `not confirmed: ${text}` });
  return lines;
}

/** The reverse position was journaled before the flip; the pause was measured by a process that may be gone. */
async function factsFromJournal({ deps, claim }: SettleContext, epoch: number): Promise<CutoverRecord> {
  const entries = await readJournal(deps.store, claim.job);
  const entry = entries.findLast(({ kind }) => kind === "reverse-position.did");
  const { reverseFrom = {} } = (entry?.data ?? {}) as { reverseFrom?: Record<string, string> };
  return { epoch, reverseFrom, unconfirmed: [] };
}
