import { JobClaim } from "../control/job-claim.ts";
import { requireJob, type JobRecord } from "../control/job-records.ts";
import { readJournal } from "../control/journal.ts";
import { thisRunner } from "../control/runner.ts";
import { lockSlice, unlockSlices } from "../control/slice-locks.ts";
import { gatePoints } from "../cutover/gate-points.ts";
import { PastNoReturn } from "../cutover/cutover.ts";
import type { CutoverResult } from "../cutover/cutover-context.ts";
import type { Session } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { Throttle } from "../copy/throttle.ts";
import { Background } from "../lib/background.ts";
import { firstLine } from "../lib/first-line.ts";
import { sleep } from "../lib/wait.ts";
import { keyspaceOf } from "../model/routing-map.ts";
import type { Plan } from "../plan/plan.ts";
import { publishUnconfirmed } from "./cutover-ports.ts";
import type { JobState, PhaseName } from "./events.ts";
import type { JobContext, JobDeps, RunOptions } from "./job-context.ts";
import { copyPhase, cutoverPhase, verifyPhase, type CutoverEnd } from "./phases.ts";
import { preflightPlan, refuseStalePlan } from "./plan-checks.ts";
import { prepareMove, type PrepareContext } from "./prepare.ts";
import { ProgressMeter, readExtents } from "./progress-meter.ts";
import { writeProgress } from "./progress-record.ts";
import { openSessions } from "./sessions.ts";
import { ownershipOf, settleGates } from "./settle-cutover.ts";
import { planOfJob } from "./start-job.ts";
import { assertTransition } from "./transitions.ts";

/** How a run ended; `why` is what it waits for when the job is not switched. */
export interface JobEnd {
  readonly job: string;
  readonly state: JobState;
  readonly why: string | undefined;
  readonly cutover: CutoverResult | undefined;
  readonly figures: RunFigures | undefined;
}

export interface RunFigures {
  readonly copy: { readonly rows: number; readonly seconds: number };
  readonly verify: { readonly rows: number; readonly mismatches: number };
}

const progressEveryMs = 500;
/** After a failed cutover the run's own signal has ended already. */
const publishMs = 30_000;

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
  const plan = await planOfJob(deps.store, record);
  const run = new Run(deps, plan, claim, record.state);
  if (record.state === "switched")
    return { job, state: "switched", why: "nothing is left to do", cutover: undefined, figures: undefined };
  try {
    return await run.go(options, interrupt);
  } catch (error) {
    await run.remember(error);
    throw error;
  }
}

/** One run of a job: the only writer of its state. */
class Run {
  readonly #deps: JobDeps;
  readonly #plan: Plan;
  readonly #claim: JobClaim;
  #state: JobState;

  constructor(deps: JobDeps, plan: Plan, claim: JobClaim, state: JobState) {
    this.#deps = deps;
    this.#plan = plan;
    this.#claim = claim;
    this.#state = state;
  }

  async go(options: RunOptions, interrupt: AbortSignal): Promise<JobEnd> {
    await this.#setState("preparing");
    const journal = await readJournal(this.#deps.store, this.#claim.job);
    await using background = new Background();
    const signal = AbortSignal.any([interrupt, background.signal, this.#claim.lost]);
    await using sessions = await openSessions(this.#deps, this.#plan, this.#claim.claim);
    if (journal.some(({ kind }) => kind === "commit-closed.about")) {
      const ended = await this.#settleCutover(sessions.all, signal);
      if (ended !== undefined) return ended;
    }
    const fresh = !journal.some(({ kind }) => kind === "preflight.did");
    const moves = await this.#phase("prepare", async () => {
      await this.#check(fresh, sessions.all, signal);
      return await this.#prepare(sessions.all, signal);
    });
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
      gates: gatePoints(this.#plan, sessions.all),
      meter: new ProgressMeter(moves, await readExtents(moves), () => throttle.reason),
      throttle,
      setState: (state, reason) => this.#setState(state, reason),
      switched: (result) => this.#setState("switched", undefined, { cutover: { ...result } }),
      remember: (error) => this.remember(error),
      journal: (step, at, data) => this.#journal(step, at, data),
    });
  }

  /** The first error in full, where `status` finds it; an interrupt is no error. */
  async remember(error: unknown): Promise<void> {
    if (this.#claim.lost.aborted) return;
    const interrupted = error instanceof ShardliftError && error.code === "E_INTERRUPTED";
    if (interrupted) return;
    const text = error instanceof Error ? error.message : String(error);
    const code = error instanceof ShardliftError ? error.code : "E_BUG";
    await this.#claim.update((record: JobRecord) => ({
      ...record,
      error: record["error"] ?? { code, message: text, at: new Date().toISOString() },
      lastError: { code, message: text, at: new Date().toISOString() },
    }));
  }

  /** Nothing is touched before this has passed; a new job that it refuses is over, and the slice is free again. */
  async #check(fresh: boolean, sessions: ReadonlyMap<string, Session>, signal: AbortSignal): Promise<void> {
    const { keyType } = keyspaceOf(this.#plan.before, this.#plan.keyspace);
    try {
      await refuseStalePlan(this.#deps, this.#plan, sessions, { fresh });
      await lockSlice(this.#deps.store, this.#claim.claim, this.#plan.keyspace, {
        keyType,
        slice: this.#plan.moves.flatMap((move) => move.slice),
      });
      if (!fresh) return;
      for (const { where, why } of await preflightPlan(this.#deps, this.#plan, sessions, signal)) {
        this.#deps.reporter.event({ kind: "note", level: "warning", text: `${where}: ${why}` });
      }
      await this.#journal("preflight", "did");
    } catch (error) {
      if (fresh) {
        await unlockSlices(this.#deps.store, this.#claim.claim, this.#plan.keyspace);
        await this.#setState("aborted", firstLine(error));
      }
      throw error;
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
      journal: (step, at, data) => this.#journal(step, at, data),
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
    background.run(async (stop) => {
      while (!stop.aborted) {
        this.#deps.reporter.event({ kind: "progress", progress: meter.snapshot(phase) });
        await writeProgress(this.#deps.store, this.#claim, meter.snapshot(phase));
        await sleep(progressEveryMs, stop);
      }
    });
    try {
      const end = await this.#phases(context, (next) => {
        if (next === "verify") copySeconds = (performance.now() - startedAt) / 1_000;
        phase = next;
      });
      await stopBeside(context);
      await writeProgress(this.#deps.store, this.#claim, meter.snapshot(phase));
      return this.#end(context, end, copySeconds);
    } catch (error) {
      await quietly(() => stopBeside(context));
      return await this.#afterFailure(context, error, copySeconds);
    }
  }

  async #phases(context: JobContext, entered: (phase: PhaseName) => void): Promise<CutoverEnd> {
    entered("copy");
    const copied = await this.#phase("copy", () => copyPhase(context), context.meter);
    entered("verify");
    if (copied.kind === "stop-here") return copied;
    const verified = await this.#phase("verify", () => verifyPhase(context), context.meter);
    if (verified.kind === "stop-here") return verified;
    entered("cutover");
    return await this.#phase("cutover", () => cutoverPhase(context));
  }

  /** An attempt that failed after COMMIT closed is settled at once: the slice must not stay shut (DESIGN 4, 6). */
  async #afterFailure(context: JobContext, error: unknown, copySeconds: number): Promise<JobEnd> {
    if (!(error instanceof PastNoReturn)) throw error;
    const cause: unknown = error.cause;
    await this.#claim.retake();
    await using sessions = await openSessions(this.#deps, this.#plan, this.#claim.claim);
    for (const session of sessions.all.values()) await session.ledger.claim();
    const ownership = await ownershipOf(this.#deps, this.#plan);
    await settleGates(context.job, ownership, gatePoints(this.#plan, sessions.all));
    await this.#deps.routing.withdraw(this.#claim.claim);
    if (ownership === "source") {
      await this.#setState("ready", "the cutover failed; the gate is open again");
      throw cause;
    }
    const unconfirmed = await publishUnconfirmed({
      deps: this.#deps,
      signal: AbortSignal.timeout(publishMs),
    });
    await this.#setState("switched");
    return this.#end(
      context,
      { kind: "stop-here", why: `switched after a failure: ${unconfirmed.join("; ")}` },
      copySeconds,
    );
  }

  /** A run that died inside its cutover left gates that have to follow the map before anything else happens. */
  async #settleCutover(
    sessions: ReadonlyMap<string, Session>,
    signal: AbortSignal,
  ): Promise<JobEnd | undefined> {
    for (const session of sessions.values()) await session.ledger.claim();
    const ownership = await ownershipOf(this.#deps, this.#plan);
    await settleGates(this.#claim.job, ownership, gatePoints(this.#plan, sessions));
    await this.#deps.routing.withdraw(this.#claim.claim);
    if (ownership === "source") return undefined;
    await publishUnconfirmed({ deps: this.#deps, signal });
    await this.#setState("switched");
    return {
      job: this.#claim.job,
      state: "switched",
      why: "the map had been flipped; the target is open",
      cutover: undefined,
      figures: undefined,
    };
  }

  #end(context: JobContext, end: CutoverEnd, copySeconds: number): JobEnd {
    const rows = context.moves
      .flatMap(({ work }) => work.tables)
      .reduce((sum, table) => sum + table.rowsLoaded, 0);
    return {
      job: context.job,
      state: this.#state,
      why: end.kind === "stop-here" ? end.why : undefined,
      cutover: end.kind === "switched" ? end.result : undefined,
      figures: {
        copy: { rows, seconds: copySeconds },
        verify: {
          rows: context.moves.reduce((sum, { verifier }) => sum + verifier.rows, 0),
          mismatches: context.moves.reduce((sum, { verifier }) => sum + verifier.mismatches.length, 0),
        },
      },
    };
  }

  async #phase<T>(phase: PhaseName, work: () => Promise<T>, meter?: ProgressMeter): Promise<T> {
    const { reporter } = this.#deps;
    // Verification was begun with the copy; its phase here is the wait for its end.
    if (phase !== "verify") reporter.event({ kind: "phase", phase, at: "start" });
    try {
      const result = await work();
      if (meter !== undefined) reporter.event({ kind: "progress", progress: meter.snapshot(phase) });
      reporter.event({ kind: "phase", phase, at: "done" });
      return result;
    } catch (error) {
      reporter.event({
        kind: "phase",
        phase,
        at: "stopped",
        text: error instanceof Error ? error.message : String(error),
      });
      throw error;
    }
  }

  async #setState(
    state: JobState,
    reason?: string,
    facts: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    if (state === this.#state) return;
    assertTransition(this.#state, state);
    // A reason belongs to the state that it was given with.
    await this.#claim.update((record) => ({ ...record, ...facts, state, reason }));
    this.#state = state;
    this.#deps.reporter.event({ kind: "state", state, ...(reason === undefined ? {} : { reason }) });
  }

  async #journal(step: string, at: "about" | "did", data?: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#claim.append(`${step}.${at}`, data ?? null);
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
