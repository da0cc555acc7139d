import type { Check, Finding, Session } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { keyspaceOf } from "../model/routing-map.ts";
import type { Plan } from "../plan/plan.ts";
import { refuseBlockers, runPreflight, type PreflightReport } from "../preflight/preflight.ts";
import type { JobDeps, ServerAccess } from "./job-context.ts";
import { currentMapOf, ownershipIn } from "./settle-cutover.ts";

/**
 * Compares what a plan was made from with what is there now; refuses a stale one before anything is touched. A plan
 * that was made from an older epoch is fine as long as its slices still belong to the same shards.
 */
export async function refuseStalePlan(
  deps: JobDeps,
  plan: Plan,
  sessions: ReadonlyMap<string, Session>,
  { fresh }: { readonly fresh: boolean },
): Promise<void> {
  const reasons: string[] = [];
  if (ownershipIn(await currentMapOf(deps), plan) === "target")
    reasons.push("the slices belong to their new shards already");
  for (const [shard, session] of sessions) {
    const planned = plan.servers[shard];
    // After the start the checkpoint tells which server the job follows (rule 11).
    if (fresh && planned !== undefined && planned.id !== session.server.id) {
      reasons.push(`${shard} is now ${session.server.id}, it was ${planned.id}`);
    }
  }
  for (const shard of new Set(plan.moves.map((move) => move.from))) {
    reasons.push(...(await changedTables(plan, shard, sessions.get(shard))));
  }
  if (reasons.length > 0)
    throw new ShardliftError(
      "E_STALE_PLAN",
      `the plan is stale: ${reasons.join("; ")}`,
      fresh ? {} : { next: "shardlift abort, then plan again" },
    );
}

async function changedTables(plan: Plan, shard: string, session: Session | undefined): Promise<string[]> {
  if (session === undefined) return [`${shard} is not connected`];
  const now = await session.catalog.describe(plan.tables.map(({ name, shardKey }) => ({ name, shardKey })));
  return plan.tables
    .filter((table) => now.find(({ name }) => name === table.name)?.fingerprint !== table.fingerprint)
    .map((table) => `table ${table.name} of ${shard} has another structure`);
}

/** All findings of a plan's moves. Reads only. */
export async function preflightReport(
  deps: ServerAccess,
  plan: Pick<Plan, "moves" | "before" | "keyspace">,
  sessions: ReadonlyMap<string, Session>,
  options: { readonly storeId: string | undefined; readonly signal: AbortSignal },
): Promise<PreflightReport> {
  const keyspace = keyspaceOf(plan.before, plan.keyspace);
  return await runPreflight({
    checks: engineChecks(deps, plan),
    moves: plan.moves.flatMap(({ from, to, slice }) => {
      const source = sessions.get(from);
      const target = sessions.get(to);
      return source === undefined || target === undefined ? [] : [{ source, target, slice }];
    }),
    tables: Object.entries(keyspace.tables).map(([name, { key }]) => ({ name, shardKey: key })),
    keyType: keyspace.keyType,
    ...options,
  });
}

/** Throws with every blocker; gives the warnings back. */
export async function preflightPlan(
  deps: JobDeps,
  plan: Plan,
  sessions: ReadonlyMap<string, Session>,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const report = await preflightReport(deps, plan, sessions, { storeId: deps.store.storeId, signal });
  refuseBlockers(report);
  return report.findings.filter((finding) => finding.level === "warning");
}

function engineChecks(deps: ServerAccess, plan: Pick<Plan, "moves">): readonly Check[] {
  const [move] = plan.moves;
  return move === undefined ? [] : deps.engineOf(move.from).checks;
}
