/**
 * Every key of the control store. Names that come from outside are percent-encoded: keys are printable ASCII, and a
 * slash in a name must not reach into another key's place. A job's record, claim, runner and journal have prefixes of
 * their own, so that listing the jobs does not read their journals.
 */
const part = encodeURIComponent;

export const jobPrefix = "job/";

export function jobKey(job: string): string {
  return `${jobPrefix}${part(job)}`;
}

/** Stays after the runner is gone; its revision is the job's fencing token. */
export function claimKey(job: string): string {
  return `job-claim/${part(job)}`;
}

/** Bound to the runner's lease: there while the runner is alive. */
export function runnerKey(job: string): string {
  return `job-runner/${part(job)}`;
}

export function journalPrefix(job: string): string {
  return `journal/${part(job)}/`;
}

/** Padded, so that key order is the order of the entries. */
export function journalKey(job: string, seq: number): string {
  return `${journalPrefix(job)}${String(seq).padStart(10, "0")}`;
}

export function sliceLockKey(keyspace: string): string {
  return `slice-lock/${part(keyspace)}`;
}

export function blobPrefix(sha256: string): string {
  return `blob/${sha256}/`;
}

export function blobKey(sha256: string, index: number): string {
  return `${blobPrefix(sha256)}${String(index).padStart(6, "0")}`;
}

export const mapPrefix = "map/";
/** The pointer: which epoch is the current one. */
export const currentMapKey = "map/current";

export function mapKey(epoch: number): string {
  return `${mapPrefix}${epoch}`;
}

export const intentPrefix = "intent/";

export function intentsOfJob(job: string): string {
  return `${intentPrefix}${part(job)}/`;
}

/** One for each move of a job, so that announcing again replaces what was announced before. */
export function intentKey(job: string, index: number): string {
  return `${intentsOfJob(job)}${index}`;
}

export const routerPrefix = "router/";

export function routerKey(router: string): string {
  return `${routerPrefix}${part(router)}`;
}

/** Held while maps are published, so that two publishing processes can not overtake each other. */
export const publishLockKey = "publish-lock";

/** What another process asks of the job's runner. */
export function requestKey(job: string): string {
  return `job-request/${part(job)}`;
}

/** The newest snapshot of a job's progress. */
export function progressKey(job: string): string {
  return `job-progress/${part(job)}`;
}
