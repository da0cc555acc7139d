import type { ServerFlavor } from "../lib/server-binary.ts";
import { formatCount, formatDuration, formatPlural } from "../ui/format.ts";
import type { CheckResult } from "./compare-promises.ts";
import type { PublishedMap } from "./independent-check.ts";
import type { Latencies } from "./latencies.ts";
import type { SplitOutcome } from "./split-process.ts";

/** Everything that a run has found out. */
export interface DemoFacts {
  readonly flavor: ServerFlavor;
  readonly version: string;
  /** Loaded before the split. */
  readonly rows: number;
  /** Of these, those that another shard owns afterwards. */
  readonly rowsMoved: number;
  readonly split: SplitOutcome;
  readonly before: PublishedMap;
  readonly after: PublishedMap;
  readonly writers: {
    readonly count: number;
    /** Answered calls: statements, transactions, row moves. */
    readonly calls: number;
    /** Row writes in them. */
    readonly acknowledged: number;
    readonly failures: readonly string[];
    readonly seconds: number;
    /** Calls a second that they were to make. */
    readonly rate: number;
  };
  readonly pause: { readonly slice: Latencies; readonly otherSlices: Latencies; readonly reads: Latencies };
  readonly check: CheckResult;
  readonly seconds: number;
}

/** For machines: `--json`. Null where the split did not come that far. */
export function demoDocument({
  flavor,
  split,
  before,
  after,
  writers,
  pause,
  check,
  ...facts
}: DemoFacts): object {
  const { slice, otherSlices, reads } = pause;
  const copy = split.result?.copy ?? null;
  const verify = split.result?.verify ?? null;
  return {
    schema: "shardlift.demo/v1",
    engine: flavor,
    rows: facts.rows,
    rowsMoved: facts.rowsMoved,
    copy: copy === null ? null : { seconds: copy.seconds, rowsPerSecond: copy.rowsPerSecond },
    writes: {
      acknowledged: writers.acknowledged,
      failed: writers.failures.length,
      lost: check.lost + check.changed,
      duplicated: check.duplicated,
    },
    pause: {
      slice: { p50Ms: slice.p50Ms, p99Ms: slice.p99Ms, maxMs: slice.maxMs },
      otherSlices: { maxMs: otherSlices.maxMs },
      reads: { maxMs: reads.maxMs },
    },
    verify: verify === null ? null : { rows: verify.rows, mismatches: verify.mismatches },
    epoch: { before: before.epoch, after: after.epoch },
    memory: { maxRssMiB: split.maxRssMiB },
    seconds: Math.round(facts.seconds * 10) / 10,
  };
}

/** Why the run did not go as it must; empty when all is well. */
export function faultsOf({ split, before, after, writers, check }: DemoFacts): string[] {
  const faults: string[] = [];
  if (split.error !== undefined) faults.push(`the split failed: ${split.error}`);
  else if (split.result?.state !== "switched")
    faults.push(`the split ended as ${split.result?.state ?? "nothing"}`);
  else if (after.epoch !== before.epoch + 1) faults.push(`the published map has epoch ${after.epoch}`);
  if ((split.result?.verify?.mismatches ?? 0) > 0) faults.push("the tool found rows that differ");
  if (check.lost > 0) faults.push(`${formatCount(check.lost)} acknowledged writes are lost`);
  if (check.duplicated > 0)
    faults.push(`${formatCount(check.duplicated)} writes or rows are there twice or unasked`);
  if (check.changed > 0) faults.push(`${formatCount(check.changed)} rows changed that nobody wrote`);
  if (writers.failures.length > 0) {
    faults.push(
      `the application saw ${formatCount(writers.failures.length)} errors, first: ${writers.failures[0]}`,
    );
  }
  return faults;
}

const names: Readonly<Record<ServerFlavor, string>> = { mariadb: "MariaDB", mysql: "MySQL" };

/** For people. */
export function demoText(facts: DemoFacts): string {
  const { split, check, writers, pause } = facts;
  const copy = split.result?.copy;
  const verify = split.result?.verify;
  const lines: [string, string][] = [
    ["moved", movedText(facts)],
    [
      "copy",
      copy === undefined || copy === null
        ? "not done"
        : `${formatCount(copy.rows)} rows in ${formatDuration(copy.seconds * 1_000)} (${formatCount(copy.rowsPerSecond)} rows/s)`,
    ],
    [
      "verify",
      verify === undefined || verify === null
        ? "not done"
        : `${formatCount(verify.rows)} rows compared by the tool, ${formatCount(verify.mismatches)} differ`,
    ],
    ["writers", writersText(writers)],
    [
      "pause",
      `writes to moved users ${spread(pause.slice)}; to other users ${formatDuration(pause.otherSlices.maxMs)}, reads ${formatDuration(pause.reads.maxMs)} at most`,
    ],
    ["memory", `${split.maxRssMiB} MiB at most in the tool`],
    [
      "check",
      `${formatCount(check.rows)} rows read from both servers: ${formatCount(check.lost)} writes lost, ${formatCount(check.duplicated)} duplicated, ${formatCount(check.changed)} untouched rows changed`,
    ],
  ];
  const head = `${names[facts.flavor]} ${facts.version.replace(/-.*$/, "")}: split of s0 into s0 and s1 while the application wrote`;
  return [head, ...lines.map(([what, text]) => `  ${what.padEnd(8)} ${text}`)].join("\n");
}

function movedText({ rows, rowsMoved, before, after }: DemoFacts): string {
  const moved = after.ranges.filter(({ shard }) => shard !== "s0");
  if (moved.length === 0)
    return `nothing: s0 still serves all ${formatCount(rows)} rows, at epoch ${after.epoch}`;
  const users = moved.map(({ from = "MIN", to = "MAX" }) => `[${from}, ${to})`).join(", ");
  return `${formatCount(rowsMoved)} of ${formatCount(rows)} rows, users ${users}, from s0 to s1; epoch ${before.epoch} → ${after.epoch}`;
}

function writersText({ count, calls, acknowledged, failures, seconds, rate }: DemoFacts["writers"]): string {
  const speed = calls / Math.max(seconds, 0.001);
  const perSecond = speed < 10 ? speed.toFixed(1) : formatCount(speed);
  return `${formatCount(calls)} transactions by ${formatPlural(count, "writer")} (${perSecond}/s of ${formatCount(rate)}/s wished), ${formatCount(acknowledged)} row writes acknowledged, ${formatCount(failures.length)} failed`;
}

function spread({ calls, p50Ms, p99Ms, maxMs }: Latencies): string {
  if (calls === 0) return `none in the cutover, silent for ${formatDuration(maxMs)}`;
  return `at most ${formatDuration(maxMs)} (half within ${formatDuration(p50Ms)}, 99 % within ${formatDuration(p99Ms)})`;
}
