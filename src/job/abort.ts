import { JobClaim } from "../control/job-claim.ts";
import { requireJob } from "../control/job-records.ts";
import { readJournal } from "../control/journal.ts";
import { thisRunner } from "../control/runner.ts";
import { unlockSlices } from "../control/slice-locks.ts";
import { gatePoints } from "../cutover/gate-points.ts";
import { ShardliftError } from "../errors/error.ts";
import type { Plan } from "../plan/plan.ts";
import type { JobDeps } from "./job-context.ts";
import { clearRequest } from "./requests.ts";
import { openSessions, type OpenSessions } from "./sessions.ts";
import { currentMapOf, ownershipIn, settleGates } from "./settle-cutover.ts";
import { planOfJob } from "./start-job.ts";
import { assertTransition, isEnded } from "./transitions.ts";

export interface AbortResult {
  readonly job: string;
  readonly rowsDeleted: number;
  readonly tablesDropped: readonly string[];
}

/**
 * Takes everything back that a job has made: gates, triggers, copied rows, created tables, helper rows, locks. Works
 * until the gate is committed closed; afterwards the slice may belong to the new shard, and the job can only go on.
 * Every step may be repeated, so an abort that was cut short is run again.
 */
export async function abortJob(deps: JobDeps, job: string, signal: AbortSignal): Promise<AbortResult> {
  await using claim = await JobClaim.take(deps.store, job, { runner: thisRunner() });
  const { record } = await requireJob(deps.store, job);
  if (record.state === "switched") throw refused(job, "the slice has moved");
  if (isEnded(record.state)) {
    throw new ShardliftError("E_JOB_ENDED", `job ${job} is ${record.state}: there is nothing to take back`);
  }
  assertTransition(record.state, "aborted");
  const plan = await planOfJob(deps.store, record);
  await claim.append("abort.about");
  // Before preflight has passed a job touches nothing, and what is at the target then is not the job's.
  const touched = (await readJournal(deps.store, job)).some(({ kind }) => kind === "preflight.did");
  const result = touched ? await takeBack(deps, claim, plan, signal) : { rowsDeleted: 0, tablesDropped: [] };
  await deps.routing.withdraw(claim.claim);
  await unlockSlices(deps.store, claim.claim, plan.keyspace);
  await clearRequest(deps.store, job);
  await claim.update((old) => ({ ...old, state: "aborted" }));
  await claim.append("abort.did", result);
  return { job, ...result };
}

async function takeBack(
  deps: JobDeps,
  claim: JobClaim,
  plan: Plan,
  signal: AbortSignal,
): Promise<Omit<AbortResult, "job">> {
  await using sessions = await openSessions(deps, plan, claim.claim);
  for (const session of sessions.all.values()) {
    await session.ledger.install();
    await session.ledger.claim();
  }
  // Only now, under the newest token everywhere, does the map say something final.
  const map = await currentMapOf(deps);
  if (ownershipIn(map, plan) === "target") throw refused(claim.job, "the slice has moved");
  const gates = gatePoints(plan, sessions.all, map);
  await settleGates(claim.job, "source", gates);
  for (const { session, spec } of [...gates.sources, ...gates.targets]) await session.gates.disarm(spec);
  const result = await emptyTargets(deps, claim, plan, sessions, signal);
  for (const session of sessions.all.values()) await session.ledger.uninstall();
  return result;
}

/** Drops the tables that this job has created; deletes its rows from those that were there before. */
async function emptyTargets(
  deps: JobDeps,
  claim: JobClaim,
  plan: Plan,
  sessions: OpenSessions,
  signal: AbortSignal,
): Promise<Omit<AbortResult, "job">> {
  const journal = await readJournal(deps.store, claim.job);
  const created = new Set(
    journal.filter(({ kind }) => kind === "create-table.about").map(({ data }) => placeOf(data)),
  );
  let rowsDeleted = 0;
  const tablesDropped: string[] = [];
  for (const move of plan.moves) {
    const target = sessions.all.get(move.to);
    if (target === undefined) continue;
    const existing = await target.catalog.existing(plan.tables.map((table) => table.name));
    for (const table of plan.tables.filter(({ name }) => existing.has(name))) {
      if (created.has(`${move.to}/${table.name}`)) {
        await target.ledger.dropCreated(table, move.slice);
        tablesDropped.push(`${move.to}.${table.name}`);
      } else {
        rowsDeleted += await target.ledger.deleteSlice(table, move.slice, signal);
      }
    }
  }
  return { rowsDeleted, tablesDropped };
}

function placeOf(data: unknown): string {
  const { shard, table } = (data ?? {}) as { shard?: string; table?: string };
  return `${shard}/${table}`;
}

function refused(job: string, why: string): ShardliftError {
  return new ShardliftError("E_ABORT_REFUSED", `job ${job} can not be aborted: ${why}`);
}
