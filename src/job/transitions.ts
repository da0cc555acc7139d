import { invariant } from "../errors/error.ts";
import type { JobState } from "./events.ts";

/**
 * Every change of a job's state that is allowed. `ready → copying` and the like are resumes: a job goes back to the
 * phase whose work is not done. From `cutting-over` a job goes back to `ready` only while the gate was not committed
 * closed, or after it was opened again under a new token. `preparing → switched`: a resume has found the map flipped.
 */
const allowed: Readonly<Record<JobState, readonly JobState[]>> = {
  planned: ["preparing", "aborted"],
  preparing: ["copying", "switched", "aborted", "failed"],
  copying: ["catching-up", "preparing", "aborted", "failed"],
  "catching-up": ["verifying", "preparing", "aborted", "failed"],
  verifying: ["ready", "preparing", "aborted", "failed"],
  ready: ["cutting-over", "preparing", "aborted", "failed"],
  "cutting-over": ["switched", "ready", "preparing", "aborted", "failed"],
  switched: ["finished", "rolled-back"],
  finished: [],
  "rolled-back": [],
  aborted: [],
  failed: ["preparing", "aborted"],
};

export function mayBecome(from: JobState, to: JobState): boolean {
  return allowed[from].includes(to);
}

/** The only writer of states asks here; anything else is a bug. */
export function assertTransition(from: JobState, to: JobState): void {
  invariant(mayBecome(from, to), `a job can not go from ${from} to ${to}`);
}

/** Nothing is left to do for the job's runner. */
export function isEnded(state: JobState): boolean {
  return allowed[state].length === 0;
}
