import type { Config } from "../config/config.ts";
import type { CutoverContext, CutoverLimits } from "../cutover/cutover-context.ts";
import { publishCurrent } from "../publish/publish-current.ts";
import type { Intent } from "../routing/intent.ts";
import type { JobContext } from "./job-context.ts";

/** Wires the cutover to the control store, the routers and the publishers. */
export function cutoverContext(context: JobContext, deadlineMs: number): CutoverContext {
  const { deps, plan, claim, moves, gates, signal } = context;
  const proposals = plan.moves.map(({ slice, from, to }) => ({
    keyspace: plan.keyspace,
    slice,
    fromShard: from,
    toShard: to,
  }));
  let announced: readonly Intent[] = [];
  return {
    job: context.job,
    plannedEpoch: plan.before.epoch,
    sources: gates.sources,
    targets: gates.targets,
    moves,
    limits: cutoverLimits(deps.config, deadlineMs),
    signal,
    note: (text) => deps.reporter.event({ kind: "note", level: "info", text }),
    ports: {
      async announce(phase, forMs) {
        announced = await deps.routing.announce(claim.claim, { phase, moves: proposals, forMs });
      },
      withdraw: () => deps.routing.withdraw(claim.claim),
      async silentRouters(boundMs) {
        const { missing } = await deps.routing.waitForAcks(announced, { boundMs, signal });
        return missing.map(({ id }) => id);
      },
      flip: (flipMs) =>
        deps.routing.flip({
          claim: claim.claim,
          expectEpoch: plan.before.epoch,
          next: plan.after,
          deadlineMs: flipMs,
        }),
      journal: (step, at, data) => context.book.journal(step, at, data),
    },
  };
}

export function cutoverLimits({ cutover }: Config, deadlineMs: number): CutoverLimits {
  const { maxPauseMs, maxLagMs, retries, flipDeadlineMs } = cutover;
  return { maxPauseMs, maxLagMs, retries, flipDeadlineMs, deadlineMs };
}

/** Publishes the current map; returns a line for each reader that did not confirm it. The flip stands in any case. */
export async function publishUnconfirmed({
  deps,
  signal,
}: Pick<JobContext, "deps" | "signal">): Promise<string[]> {
  const results = await publishCurrent(deps.store, deps.publishers, signal);
  return results
    .filter(({ state }) => state !== "applied")
    .map(
      ({ publisher, state, cause }) =>
        `${publisher}: ${state}${cause instanceof Error ? ` (${cause.message})` : ""}`,
    );
}
