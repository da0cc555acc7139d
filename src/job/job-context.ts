import type { Config } from "../config/config.ts";
import type { JobClaim } from "../control/job-claim.ts";
import type { ControlStore } from "../control/store.ts";
import type { GatePoint, MoveRun } from "../cutover/cutover-context.ts";
import type { Endpoint, Engine, Session } from "../engines/engine.ts";
import type { Throttle } from "../copy/throttle.ts";
import type { Background } from "../lib/background.ts";
import type { Plan } from "../plan/plan.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { RoutingStore } from "../routing/routing-store.ts";
import type { Reporter } from "./events.ts";
import type { JobBook } from "./job-book.ts";
import type { ProgressMeter } from "./progress-meter.ts";

/** Enough to read from the servers of the configuration. */
export interface ServerAccess {
  readonly config: Config;
  engineOf(shard: string): Engine;
  endpointOf(shard: string): Endpoint;
}

/** What a job is built from; made once by cli/deps.ts, by hand in tests. */
export interface JobDeps extends ServerAccess {
  readonly store: ControlStore;
  readonly routing: RoutingStore;
  readonly publishers: readonly Publisher[];
  readonly reporter: Reporter;
}

/** How far a run goes and who says when the slice changes hands. */
export interface RunOptions {
  readonly until: "copied" | "verified" | "ready" | "switched";
  readonly cutover: "manual" | "auto";
  /** For all attempts of a cutover together. */
  readonly cutoverDeadlineMs: number;
}

/** Everything that the phases of one run share. Built by run-job.ts, filled by the prepare phase. */
export interface JobContext {
  readonly deps: JobDeps;
  readonly job: string;
  readonly plan: Plan;
  readonly options: RunOptions;
  /** The right to work on the job; its token is proven in every write. */
  readonly claim: JobClaim;
  /** Tasks beside the phases; the first failure aborts `signal`. */
  readonly background: Background;
  /** The operator's interrupt, or the first failure of a background task. */
  readonly signal: AbortSignal;
  readonly sessions: ReadonlyMap<string, Session>;
  readonly moves: readonly MoveRun[];
  readonly gates: { readonly sources: readonly GatePoint[]; readonly targets: readonly GatePoint[] };
  readonly meter: ProgressMeter;
  readonly throttle: Throttle;
  readonly book: JobBook;
}
