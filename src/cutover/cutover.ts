import { invariant, ShardliftError } from "../errors/error.ts";
import { firstLine } from "../lib/first-line.ts";
import { sleep } from "../lib/wait.ts";
import { attemptSteps, describePreparation, GateBusy, prepareCutover } from "./steps.ts";
import type { Attempt, CutoverContext, CutoverOutline, CutoverResult } from "./cutover-context.ts";

/** No transaction older than this on the moved tables before the gate is tried (DESIGN section 4, 2). */
const maxTransactionMs = 1_000;
/** A router polls at least every 250 ms; the gate is what makes the flip safe, so nobody is waited for longer. */
const routerBoundMs = 1_000;
/** The server rolls an idle closer back after this (wait_timeout of the closer; facts/gate, 8). */
const hostLossMs = 2_000;

/** The very steps that `cutOver` would run, as text. Changes nothing. */
export function describeCutover(outline: CutoverOutline): string[] {
  return [...describePreparation(outline), ...attemptSteps.flatMap((step) => step.describe(outline))];
}

/**
 * Moves the ownership of the slice. Returns when the new shard serves; throws E_CUTOVER_NOT_DONE while the old one
 * still serves and the gate is open, E_MISMATCH when the sides differ. An error after COMMIT closed (`pastNoReturn`)
 * is the caller's to settle by reading the map under a new token (job/settle-cutover.ts).
 */
export async function cutOver(context: CutoverContext): Promise<CutoverResult> {
  const { ports, limits } = context;
  await prepareCutover(context);
  await ports.announce("prepare", limits.deadlineMs);
  const silent = await ports.silentRouters(routerBoundMs);
  if (silent.length > 0) {
    context.note(
      `${silent.length} routers do not answer (${silent.join(", ")}): their clients may see one retryable error`,
    );
  }
  try {
    return await tryUntilDone(context);
  } catch (error) {
    // Past the commit the routers go on holding until their own deadline: the slice may be about to flip.
    if (!(error instanceof PastNoReturn)) await ports.withdraw();
    throw error;
  }
}

async function tryUntilDone(context: CutoverContext): Promise<CutoverResult> {
  const { limits, signal } = context;
  const until = performance.now() + limits.deadlineMs;
  let overBudget = 0;
  for (let number = 1; ; number += 1) {
    await catchUp(context, until);
    const attempt = newAttempt(context);
    try {
      await runAttempt(context, attempt);
      return await finish(context, attempt, number);
    } catch (error) {
      if (attempt.pastNoReturn) throw new PastNoReturn(error);
      await release(context, attempt);
      signal.throwIfAborted();
      if (!isWorthRetrying(error, attempt)) throw error;
      if (!(error instanceof GateBusy)) overBudget += 1;
      if (overBudget > limits.retries || performance.now() > until) throw givenUp(error, number);
      context.note(`cutover attempt ${number} given up: ${firstLine(error)}`);
      await sleep(100 + Math.random() * 100, signal);
    }
  }
}

/** An error after the gate was committed closed; the cause says what. */
export class PastNoReturn extends Error {
  constructor(cause: unknown) {
    super("the cutover failed after the gate was committed closed", { cause });
  }
}

function newAttempt({ limits, signal }: CutoverContext): Attempt {
  return {
    startedAt: performance.now(),
    signal: AbortSignal.any([signal, AbortSignal.timeout(limits.maxPauseMs)]),
    held: [],
    reverseFrom: {},
    pastNoReturn: false,
    committedAt: undefined,
    epoch: undefined,
    openedAt: undefined,
  };
}

async function runAttempt(context: CutoverContext, attempt: Attempt): Promise<void> {
  for (const step of attemptSteps) {
    if (!attempt.pastNoReturn) attempt.signal.throwIfAborted();
    attempt.pastNoReturn ||= step.pastNoReturn;
    await step.run(context, attempt);
  }
}

/** Rolls every held gate back before anything is tried again: one failed attempt leaves nothing behind. */
async function release({ ports, limits }: CutoverContext, attempt: Attempt): Promise<void> {
  const results = await Promise.allSettled(attempt.held.map(({ gate }) => gate.rollback()));
  await ports.announce("prepare", limits.deadlineMs);
  const failures = results
    .filter((result) => result.status === "rejected")
    .map(({ reason }) => reason as unknown);
  // A gate whose connection is gone has rolled back by itself; anything else must be seen.
  if (failures.length > 0) throw new AggregateError(failures, "a gate could not be rolled back");
}

async function catchUp(context: CutoverContext, until: number): Promise<void> {
  const { moves, sources, limits, signal } = context;
  for (;;) {
    const reasons: string[] = [];
    for (const { work, tail, verifier } of moves) {
      verifier.throwIfDifferent();
      tail.throwIfFailed();
      const { lagMs } = tail.status();
      if (lagMs > limits.maxLagMs) reasons.push(`the log of ${work.from} lags by ${Math.round(lagMs)} ms`);
      if (!verifier.settled) reasons.push(`verification of ${work.to} is behind`);
    }
    for (const { shard, session, spec } of sources) {
      const age = await session.gates.oldestTransactionMs(spec.tables);
      if (age > maxTransactionMs)
        reasons.push(`a transaction at ${shard} has been open for ${Math.round(age)} ms`);
    }
    if (reasons.length === 0) return;
    if (performance.now() > until) {
      throw new ShardliftError("E_CUTOVER_NOT_DONE", `not ready for the cutover: ${reasons.join("; ")}`, {
        retryable: true,
      });
    }
    await sleep(50, signal);
  }
}

async function finish({ ports }: CutoverContext, attempt: Attempt, attempts: number): Promise<CutoverResult> {
  const { committedAt, openedAt, startedAt, epoch } = attempt;
  invariant(
    committedAt !== undefined && openedAt !== undefined && epoch !== undefined,
    "a cutover ended without its commit, its flip or its opening",
  );
  await ports.journal("flip", "did", { epoch });
  return {
    epoch,
    pause: { untilCommittedMs: committedAt - startedAt, untilOpenMs: openedAt - committedAt, hostLossMs },
    attempts,
    reverseFrom: attempt.reverseFrom,
    unconfirmed: [],
  };
}

/** Retried: a busy gate, an attempt over its budget. Never: a difference between the sides, a lost token. */
function isWorthRetrying(error: unknown, attempt: Attempt): boolean {
  if (attempt.signal.aborted && error === attempt.signal.reason) return true;
  return error instanceof ShardliftError && error.code === "E_CUTOVER_NOT_DONE" && error.retryable;
}

function givenUp(error: unknown, attempts: number): ShardliftError {
  return new ShardliftError(
    "E_CUTOVER_NOT_DONE",
    `given up after ${attempts} attempts, the source still serves: ${firstLine(error)}`,
    { cause: error, retryable: true },
  );
}
