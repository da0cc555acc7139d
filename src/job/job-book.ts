import type { JobClaim } from "../control/job-claim.ts";
import type { JobRecord } from "../control/job-records.ts";
import type { ErrorCode } from "../errors/codes.ts";
import { ShardliftError } from "../errors/error.ts";
import { firstLine } from "../lib/first-line.ts";
import type { JobState, PhaseName, Reporter } from "./events.ts";
import type { ProgressMeter } from "./progress-meter.ts";
import { assertTransition, mayBecome } from "./transitions.ts";

/** A resume would meet the same again: only an abort helps. */
const endsTheJob: ReadonlySet<ErrorCode> = new Set([
  "E_LOG_LOST",
  "E_SERVER_CHANGED",
  "E_DDL",
  "E_STATEMENT_LOGGED",
  "E_SCHEMA_CHANGED",
  "E_XA_UNSEEN",
]);

/**
 * What a run writes down about its job: state, journal, errors. The only writer of a job's state, under the job's
 * token; whoever is asked about the job afterwards reads what stands here.
 */
export class JobBook {
  readonly #claim: JobClaim;
  readonly #reporter: Reporter;
  #state: JobState;

  constructor(claim: JobClaim, reporter: Reporter, state: JobState) {
    this.#claim = claim;
    this.#reporter = reporter;
    this.#state = state;
  }

  get state(): JobState {
    return this.#state;
  }

  async setState(
    state: JobState,
    reason?: string,
    facts: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    if (state === this.#state) return;
    assertTransition(this.#state, state);
    // A reason belongs to the state that it was given with; an error that was overcome is no longer told.
    const overcome =
      state === "ready" || state === "switched" ? { error: undefined, lastError: undefined } : {};
    await this.#claim.update((record) => ({ ...record, ...overcome, ...facts, state, reason }));
    this.#state = state;
    this.#reporter.event({ kind: "state", state, ...(reason === undefined ? {} : { reason }) });
  }

  async journal(step: string, at: "about" | "did", data?: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#claim.append(`${step}.${at}`, data ?? null);
  }

  /** Keeps an error, the first one of a run in full, where `status` finds it; an interrupt is none. */
  async remember(error: unknown): Promise<void> {
    const code = error instanceof ShardliftError ? error.code : "E_BUG";
    if (this.#claim.lost.aborted || code === "E_INTERRUPTED") return;
    const message = error instanceof Error ? error.message : String(error);
    const told = { code, message, at: new Date().toISOString() };
    await this.#claim.update((record: JobRecord) => ({
      ...record,
      error: record["error"] ?? told,
      lastError: told,
    }));
    if (endsTheJob.has(code) && mayBecome(this.#state, "failed"))
      await this.setState("failed", firstLine(error));
  }

  /** Tells a phase's begin and end, whatever the end is. */
  async phase<T>(phase: PhaseName, work: () => Promise<T>, meter?: ProgressMeter): Promise<T> {
    const event = this.#reporter.event.bind(this.#reporter);
    // Verification was begun with the copy; its phase here is the wait for its end.
    if (phase !== "verify") event({ kind: "phase", phase, at: "start" });
    try {
      const result = await work();
      if (meter !== undefined) event({ kind: "progress", progress: meter.snapshot(phase) });
      event({ kind: "phase", phase, at: "done" });
      return result;
    } catch (error) {
      event({ kind: "phase", phase, at: "stopped", text: firstLine(error) });
      throw error;
    }
  }
}
