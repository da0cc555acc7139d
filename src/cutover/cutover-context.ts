import type { Claim, GateSpec, HeldGate, Position, Session } from "../engines/engine.ts";
import type { MoveWork } from "../job/table-work.ts";
import type { FlipOutcome } from "../routing/flip.ts";
import type { Tail } from "../tail/tail.ts";
import type { Verifier } from "../verify/verifier.ts";

/** One shard's gate in this job. Gates are closed and opened in the order of the list. */
export interface GatePoint {
  readonly shard: string;
  readonly session: Session;
  readonly spec: GateSpec;
}

export interface MoveRun {
  readonly work: MoveWork;
  readonly tail: Tail;
  readonly verifier: Verifier;
}

/** What the cutover asks of the control store and the proxy layer. */
export interface CutoverPorts {
  /** Tells the routers what is coming; `hold` makes them hold new transactions of the slice until the deadline. */
  announce(phase: "prepare" | "hold", deadlineMs: number): Promise<void>;
  withdraw(): Promise<void>;
  /** The routers that have not acknowledged the last announcement within the bound. */
  silentRouters(boundMs: number): Promise<readonly string[]>;
  /** One guarded compare-and-swap of the map under the job's token, sent again until it is answered. */
  flip(deadlineMs: number): Promise<FlipOutcome>;
  /** Before an effect ("about") and after it ("did"). */
  journal(step: string, at: "about" | "did", data?: Readonly<Record<string, unknown>>): Promise<void>;
}

export interface CutoverLimits {
  /** From the hold until COMMIT closed; over it the attempt is rolled back and nothing happened. */
  readonly maxPauseMs: number;
  readonly maxLagMs: number;
  /** Attempts that got the gate but ran over the budget. */
  readonly retries: number;
  /** For all attempts together. */
  readonly deadlineMs: number;
  /** From COMMIT closed until the map has flipped. */
  readonly flipDeadlineMs: number;
}

/** What the steps are told by, also when nothing runs. */
export interface CutoverOutline {
  /** The job and the token that the steps would run under. */
  readonly claim: Claim;
  /** The epoch that the plan was made from; the flip makes a later one. */
  readonly plannedEpoch: number;
  readonly sources: readonly GatePoint[];
  readonly targets: readonly GatePoint[];
  readonly moves: readonly { readonly from: string; readonly to: string }[];
  readonly limits: CutoverLimits;
}

export interface CutoverContext extends Omit<CutoverOutline, "claim" | "moves"> {
  readonly job: string;
  readonly moves: readonly MoveRun[];
  readonly ports: CutoverPorts;
  readonly note: (text: string) => void;
  /** The operator's wish to stop; obeyed until the gate is committed closed, never inside the pause after it. */
  readonly signal: AbortSignal;
}

/** What one attempt has done so far. */
export interface Attempt {
  readonly startedAt: number;
  readonly signal: AbortSignal;
  readonly held: { readonly point: GatePoint; readonly gate: HeldGate }[];
  /** Where the reverse stream starts at each target: taken while nobody may write there (facts/hard-cases, C07). */
  readonly reverseFrom: Record<string, Position>;
  /** Set before the first commit is sent: from then on its outcome may be unknown. */
  pastNoReturn: boolean;
  committedAt: number | undefined;
  /** The epoch that the flip has made. */
  epoch: number | undefined;
  openedAt: number | undefined;
}

/** The three figures of a pause, each of its own kind (DESIGN section 4). */
export interface PauseFigures {
  /** From the hold until COMMIT closed. */
  readonly untilCommittedMs: number;
  /** From COMMIT closed until the map had flipped and the target was open. */
  readonly untilOpenMs: number;
  /** How long a server keeps the gate shut when this host is lost before the commit. */
  readonly hostLossMs: number;
}

export interface CutoverResult {
  readonly epoch: number;
  readonly pause: PauseFigures;
  readonly attempts: number;
  readonly reverseFrom: Readonly<Record<string, Position>>;
  /** Publishers that did not confirm the new map; the gate keeps their readers safe. */
  readonly unconfirmed: readonly string[];
}
