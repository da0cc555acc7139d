/** What a running job tells the outside. One stream feeds the terminal, the plain lines and ndjson. */
export type JobEvent =
  | { readonly kind: "state"; readonly state: JobState; readonly reason?: string }
  | {
      readonly kind: "phase";
      readonly phase: PhaseName;
      readonly at: "start" | "done" | "stopped";
      readonly text?: string;
    }
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "note"; readonly level: "info" | "warning"; readonly text: string };

/** In the order of a job's life; transitions.ts says which may follow which. */
export const jobStates = [
  "planned",
  "preparing",
  "copying",
  "catching-up",
  "verifying",
  "ready",
  "cutting-over",
  "switched",
  "finished",
  "rolled-back",
  "aborted",
  "failed",
] as const;

export type JobState = (typeof jobStates)[number];

export type PhaseName = "prepare" | "copy" | "tail" | "verify" | "cutover";

/** A snapshot of the work; every figure is measured, never taken from table statistics. */
export interface Progress {
  readonly phase: PhaseName;
  readonly copy: {
    readonly rows: number;
    readonly bytes: number;
    /** Percent of the key space, 0 to 99.9 until done, then 100. */
    readonly percent: number;
    readonly rowsPerSecond: number;
    readonly bytesPerSecond: number;
    /** Seconds left as a range from the 1- and 15-minute rates; undefined before there is a rate. */
    readonly eta: { readonly lowSeconds: number; readonly highSeconds: number } | undefined;
    /** Why no new chunk begins just now; undefined while the copy runs freely. */
    readonly throttledBy?: string | undefined;
    readonly tables: readonly TableProgress[];
  };
  readonly tail: {
    /** Age of the newest applied source transaction. */
    readonly lagMs: number;
    /** Time since the log reader heard from the source. */
    readonly livenessMs: number;
    readonly dirtyKeys: number;
    readonly checkpointAgeMs: number | undefined;
  };
  readonly verify: { readonly percent: number; readonly mismatches: number; readonly rows: number };
}

export interface TableProgress {
  readonly table: string;
  readonly percent: number;
  readonly rows: number;
}

/** Where events go. Must not throw and must not block. */
export interface Reporter {
  event(event: JobEvent): void;
  /** Leaves the terminal as plain text; called once at the end. */
  close(): void;
}
