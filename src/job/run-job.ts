import { JobClaim } from "../control/job-claim.ts";
import { readJob, requireJob, type JobRecord } from "../control/job-records.ts";
import { readJournal } from "../control/journal.ts";
import { thisRunner } from "../control/runner.ts";
import { lockSlice, unlockSlices } from "../control/slice-locks.ts";
import { Throttle } from "../copy/throttle.ts";
import { PastNoReturn } from "../cutover/cutover.ts";
import type { CutoverResult } from "../cutover/cutover-context.ts";
import { gatePoints } from "../cutover/gate-points.ts";
import type { Session } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { Background } from "../lib/background.ts";
import { firstLine } from "../lib/first-line.ts";
import { sleep } from "../lib/wait.ts";
import { keyspaceOf } from "../model/routing-map.ts";
import type { Plan } from "../plan/plan.ts";
import type { JobState, PhaseName } from "./events.ts";
import { JobBook } from "./job-book.ts";
import type { JobContext, JobDeps, RunOptions } from "./job-context.ts";
import { copyPhase, cutoverPhase, verifyPhase, type CutoverEnd } from "./phases.ts";
import { preflightPlan, refuseStalePlan } from "./plan-checks.ts";
import { prepareMove, type PrepareContext } from "./prepare.ts";
import { ProgressMeter, readExtents } from "./progress-meter.ts";
import { writeProgress } from "./progress-record.ts";
import { clearRequest } from "./requests.ts";
import { openSessions } from "./sessions.ts";
import { currentMapOf } from "./settle-cutover.ts";
import { settle, settleAfterFailure } from "./settle-run.ts";
import { planOfJob } from "./start-job.ts";
import { isEnded } from "./transitions.ts";

/** How a run ended; `why` is what it waits for when the job is not switched. */
export interface JobEnd {
  readonly job: string;
  readonly state: JobState;
  readonly why: string | undefined;
  readonly cutover: CutoverResult | undefined;
  readonly figures: RunFigures | undefined;
}

export interface RunFigures {
  /** What this run has copied, and what all runs of the job have. */
  readonly copy: { readonly rows: number; readonly seconds: number; readonly rowsOfAllRuns: number };
  readonly verify: { readonly rows: number; readonly mismatches: number };
}

const progressEveryMs = 500;
/** Arming the mirror waits for transactions on tables that nobody should use yet. */
const armMirrorMs = 60_000;

/**
 * Runs a job from wherever it stands: a new one from the start, an interrupted one from its checkpoints. Takes the
 * job first, so that there is one runner; ends with the checkpoint saved, whatever the reason.
 */
export async function runJob(
  deps: JobDeps,
  job: string,
  options: RunOptions,
  interrupt: AbortSignal,
): Promise<JobEnd> {
  await using claim = await JobClaim.take(deps.store, job, { runner: thisRunner() });
  const { record } = await requireJob(deps.store, job);
  if (record.state === "switched") return ended(job, record, "nothing is left to do");
  await refuseEnded(deps, record);
  const plan = await planOfJob(deps.store, record);
  const book = new JobBook(claim, deps.reporter, record.state);
  const run = new Run(deps, plan, claim, book);
  try {
    return await run.go(options, interrupt);
  } catch (error) {
    await book.remember(error);
    throw error;
  }
}

function ended(job: string, { state }: Pick<JobRecord, "state">, why: string): JobEnd {
  return { job, state, why, cutover: undefined, figures: undefined };
}

async function refuseEnded(deps: JobDeps, { id, state }: JobRecord): Promise<void> {
  if (isEnded(state)) {
    throw new ShardliftError("E_JOB_ENDED", `job ${id} is ${state}: there is nothing to go on with`);
  }
  const journal = await readJournal(deps.store, id);
  if (!journal.some(({ kind }) => kind === "abort.about")) return;
  throw new ShardliftError("E_ABORT_BEGUN", `an abort of job ${id} was begun and cut short`, {
    next: `shardlift abort ${id}`,
  });
}

/** One run of a job. */
class Run {
  readonly #deps: JobDeps;
  readonly #plan: Plan;
  readonly #claim: JobClaim;
  readonly #book: JobBook;

  constructor(deps: JobDeps, plan: Plan, claim: JobClaim, book: JobBook) {
    this.#deps = deps;
    this.#plan = plan;
    this.#claim = claim;
    this.#book = book;
  }

  async go(options: RunOptions, interrupt: AbortSignal): Promise<JobEnd> {
    const journal = await readJournal(this.#deps.store, this.#claim.job);
    const fresh = !journal.some(({ kind }) => kind === "preflight.did");
    await this.#book.setState("preparing");
    // What an operator asked of an earlier run is not meant for this one.
    await clearRequest(this.#deps.store, this.#claim.job);
    await using background = new Background();
    const signal = AbortSignal.any([interrupt, background.signal, this.#claim.lost]);
    await using stack = new AsyncDisposableStack();
    const sessions = await this.#unlessRefused(fresh, async () =>
      stack.use(await openSessions(this.#deps, this.#plan, this.#claim.claim)),
    );
    // A run that died inside its cutover left gates that have to follow the map before anything else happens.
    if (journal.some(({ kind }) => kind === "commit-closed.about")) {
      if ((await settle(this.#settleContext(), sessions.all)) === "target") {
        return ended(this.#claim.job, { state: "switched" }, "the map had been flipped; the target is open");
      }
    }
    const moves = await this.#book.phase("prepare", async () => {
      await this.#unlessRefused(fresh, () => this.#check(fresh, sessions.all, signal));
      return await this.#prepare(sessions.all, signal);
    });
    const gates = gatePoints(this.#plan, sessions.all, await currentMapOf(this.#deps));
    // From here on nobody but the tool writes to the slice at its new shard: what is verified stays so.
    for (const { session, spec } of gates.targets) await session.gates.arm(spec, armMirrorMs);
    const throttle = new Throttle([...sessions.all.values()], this.#deps.config.throttle);
    return await this.#work({
      deps: this.#deps,
      job: this.#claim.job,
      plan: this.#plan,
      options,
      claim: this.#claim,
      background,
      signal,
      sessions: sessions.all,
      moves,
      gates,
      meter: new ProgressMeter(moves, await readExtents(moves), () => throttle.reason),
      throttle,
      book: this.#book,
    });
  }

  /** A new job that is refused before it has touched anything is over, and the slice is free again. */
  async #unlessRefused<T>(fresh: boolean, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (fresh && !this.#claim.lost.aborted) {
        await unlockSlices(this.#deps.store, this.#claim.claim, this.#plan.keyspace);
        await this.#book.setState("aborted", firstLine(error));
      }
      throw error;
    }
  }

  /** Nothing is touched before this has passed. */
  async #check(fresh: boolean, sessions: ReadonlyMap<string, Session>, signal: AbortSignal): Promise<void> {
    const { moves, keyspace, before } = this.#plan;
    await refuseStalePlan(this.#deps, this.#plan, sessions, { fresh });
    await this.#refuseOldStore(sessions);
    await lockSlice(this.#deps.store, this.#claim.claim, keyspace, {
      keyType: keyspaceOf(before, keyspace).keyType,
      slice: moves.flatMap((move) => move.slice),
      from: [...new Set(moves.map((move) => move.from))],
      to: [...new Set(moves.map((move) => move.to))],
    });
    if (!fresh) return;
    for (const { where, why } of await preflightPlan(this.#deps, this.#plan, sessions, signal)) {
      this.#deps.reporter.event({ kind: "note", level: "warning", text: `${where}: ${why}` });
    }
    await this.#book.journal("preflight", "did");
  }

  /** A server that carries a job of this store, which the store does not know: an old copy of the store was put back. */
  async #refuseOldStore(sessions: ReadonlyMap<string, Session>): Promise<void> {
    for (const session of sessions.values()) {
      for (const { storeId, job } of await session.ledger.claims()) {
        if (storeId !== this.#deps.store.storeId || (await readJob(this.#deps.store, job)) !== undefined)
          continue;
        throw new ShardliftError(
          "E_STORE_WENT_BACK",
          `${session.server.shard} carries job ${job} of this control store, which the store does not know: an older copy of it was put back`,
        );
      }
    }
  }

  async #prepare(sessions: ReadonlyMap<string, Session>, signal: AbortSignal): Promise<JobContext["moves"]> {
    for (const session of sessions.values()) {
      await session.ledger.install();
      await session.ledger.claim();
    }
    const context: PrepareContext = {
      deps: this.#deps,
      job: this.#claim.job,
      plan: this.#plan,
      sessions,
      signal,
      journal: (step, at, data) => this.#book.journal(step, at, data),
    };
    const moves = [];
    for (const move of this.#plan.moves) moves.push(await prepareMove(context, move));
    return moves;
  }

  async #work(context: JobContext): Promise<JobEnd> {
    const { background, meter } = context;
    const startedAt = performance.now();
    let copySeconds = 0;
    let phase: PhaseName = "copy";
    const snapshot = async (): Promise<void> => {
      const progress = meter.snapshot(phase);
      this.#deps.reporter.event({ kind: "progress", progress });
      await saveQuietly(() => writeProgress(this.#deps.store, this.#claim, progress));
    };
    background.run(async (stop) => {
      while (!stop.aborted) {
        await snapshot();
        await sleep(progressEveryMs, stop);
      }
    });
    try {
      const end = await this.#phases(context, (next) => {
        if (next === "verify") copySeconds = (performance.now() - startedAt) / 1_000;
        phase = next;
      });
      // The flip stands: what still fails here is told by the next run, and changes nothing.
      await (end.kind === "switched" ? quietly(() => stopBeside(context)) : stopBeside(context));
      await snapshot();
      return this.#end(context, end, copySeconds);
    } catch (error) {
      await quietly(() => stopBeside(context));
      await snapshot();
      if (!(error instanceof PastNoReturn)) throw error;
      await settleAfterFailure(this.#settleContext(), error.cause);
      return this.#end(context, { kind: "stop-here", why: "settled after a failure" }, copySeconds);
    }
  }

  async #phases(context: JobContext, entered: (phase: PhaseName) => void): Promise<CutoverEnd> {
    entered("copy");
    const copied = await this.#book.phase("copy", () => copyPhase(context), context.meter);
    entered("verify");
    if (copied.kind === "stop-here") return copied;
    const verified = await this.#book.phase("verify", () => verifyPhase(context), context.meter);
    if (verified.kind === "stop-here") return verified;
    entered("cutover");
    return await this.#book.phase("cutover", () => cutoverPhase(context));
  }

  #settleContext(): Parameters<typeof settle>[0] {
    return { deps: this.#deps, plan: this.#plan, claim: this.#claim, book: this.#book };
  }

  #end(context: JobContext, end: CutoverEnd, copySeconds: number): JobEnd {
    const tables = context.moves.flatMap(({ work }) => work.tables);
    return {
      job: context.job,
      state: this.#book.state,
      why: end.kind === "stop-here" && end.why !== this.#book.state ? end.why : undefined,
      cutover: end.kind === "switched" ? end.result : undefined,
      figures: {
        copy: {
          rows: context.meter.rows,
          seconds: copySeconds,
          rowsOfAllRuns: tables.reduce((sum, table) => sum + table.rowsLoaded, 0),
        },
        verify: {
          rows: context.moves.reduce((sum, { verifier }) => sum + verifier.rows, 0),
          mismatches: context.moves.reduce((sum, { verifier }) => sum + verifier.mismatches.length, 0),
        },
      },
    };
  }
}

/** Ends what runs beside the phases; the tails save their last checkpoint. Idempotent. */
async function stopBeside({ background, moves }: JobContext): Promise<void> {
  await background.stop();
  for (const { tail } of moves) await tail.stop();
}

/** For clean-up after an error that is about to be thrown: a second error must not hide the first one. */
async function quietly(work: () => Promise<void>): Promise<void> {
  await Promise.allSettled([work()]);
}

/** A snapshot that is lost is no harm; a lost job is told by the claim itself. */
async function saveQuietly(work: () => Promise<void>): Promise<void> {
  await work().catch((error: unknown) => {
    if (!(error instanceof ShardliftError)) throw error;
  });
}
