import type { JobEnd } from "../job/run-job.ts";
import type { Plan } from "../plan/plan.ts";
import { formatCount, formatDuration } from "../ui/format.ts";
import { formatSlice } from "../model/slice.ts";

export interface JobResult {
  readonly text: string;
  readonly data: object;
  readonly nextSteps: readonly string[];
}

/** What a command that ran a job prints: the same for split, run, resume and cutover. */
export function jobResult(plan: Plan, end: JobEnd): JobResult {
  const { figures, cutover } = end;
  return {
    text: [headline(plan, end), ...figureLines(end), ...cutoverLines(end)].join("\n"),
    data: {
      state: end.state,
      why: end.why ?? null,
      epoch: { before: plan.before.epoch, after: cutover?.epoch ?? null },
      at: plan.moves
        .flatMap((move) => move.slice)
        .flatMap(({ from }) => (from.at === "KEY" ? [from.key] : [])),
      copy:
        figures === undefined
          ? null
          : {
              rows: figures.copy.rows,
              rowsOfAllRuns: figures.copy.rowsOfAllRuns,
              seconds: figures.copy.seconds,
              rowsPerSecond:
                figures.copy.seconds === 0 ? 0 : Math.round(figures.copy.rows / figures.copy.seconds),
            },
      verify: figures?.verify ?? null,
      pause: cutover?.pause ?? null,
      attempts: cutover?.attempts ?? null,
      unconfirmed: cutover?.unconfirmed ?? [],
      // maxRSS is in KiB on every system that Node supports.
      memory: { maxRssMiB: Math.round(process.resourceUsage().maxRSS / 1_024) },
    },
    nextSteps: nextSteps(end),
  };
}

function headline(plan: Plan, { job, state, why, cutover }: JobEnd): string {
  const moved = plan.moves
    .map(({ slice, from, to }) => `${formatSlice(slice)} from ${from} to ${to}`)
    .join(", ");
  if (state === "switched") {
    const epoch = cutover === undefined ? "" : ` at epoch ${cutover.epoch}`;
    return `job ${job}: switched${epoch}: ${moved}${why === undefined ? "" : ` (${why})`}`;
  }
  return `job ${job} is ${state}${why === undefined ? "" : `: ${why}`}; the source still serves everything`;
}

function figureLines({ figures }: JobEnd): string[] {
  if (figures === undefined) return [];
  const { copy, verify } = figures;
  return [
    `copied ${formatCount(copy.rows)} rows in ${formatDuration(copy.seconds * 1_000)}; compared ${formatCount(verify.rows)} rows, ${formatCount(verify.mismatches)} differ`,
  ];
}

function cutoverLines({ cutover }: JobEnd): string[] {
  if (cutover === undefined) return [];
  const { pause, attempts, unconfirmed } = cutover;
  return [
    `write pause: ${formatDuration(pause.untilCommittedMs)} until the gate was committed, ${formatDuration(pause.untilOpenMs)} more until the new shard was open (${attempts} ${attempts === 1 ? "attempt" : "attempts"}); had this host died, the gate would have opened after ${formatDuration(pause.hostLossMs)}`,
    "the old shard keeps its rows behind the closed gate; the reverse position is saved. Rolling back and dropping the old rows come with a later version.",
    ...unconfirmed.map((line) => `not confirmed: ${line}`),
  ];
}

function nextSteps({ job, state }: JobEnd): string[] {
  if (state === "switched") return [`shardlift status ${job}`, "shardlift route show"];
  return state === "ready" ? [`shardlift cutover ${job}`] : [`shardlift resume ${job}`];
}
