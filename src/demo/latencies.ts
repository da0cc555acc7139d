/** One call of the application, by the clock of `Date.now()` with fractions. */
export interface Call {
  readonly kind: "write" | "read";
  /** Whose rows it was about. */
  readonly users: readonly number[];
  readonly startedAt: number;
  readonly endedAt: number;
  readonly isDone: boolean;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

export interface Latencies {
  readonly calls: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The slowest call, or the longest time without an answered call, whichever is longer. */
  readonly maxMs: number;
}

/** What the callers of that time saw: the calls that overlap the span, and the longest silence that touches it. Pure. */
export function latenciesIn(calls: readonly Call[], span: Span): Latencies {
  const touching = calls.filter((call) => call.startedAt < span.to && call.endedAt > span.from);
  const sorted = touching.map((call) => call.endedAt - call.startedAt).toSorted((a, b) => a - b);
  return {
    calls: touching.length,
    p50Ms: roundMs(quantile(sorted, 0.5)),
    p99Ms: roundMs(quantile(sorted, 0.99)),
    maxMs: roundMs(Math.max(sorted.at(-1) ?? 0, longestSilence(calls, span))),
  };
}

/** The longest time between two answers that touches the span; the span's ends stand in for answers that are missing. */
function longestSilence(calls: readonly Call[], { from, to }: Span): number {
  const answers = calls.filter(({ isDone }) => isDone).map(({ endedAt }) => endedAt);
  const before = answers.filter((at) => at <= from);
  const after = answers.filter((at) => at >= to);
  const first = before.length === 0 ? from : before.reduce((a, b) => Math.max(a, b));
  const last = after.length === 0 ? to : after.reduce((a, b) => Math.min(a, b));
  const marks = [first, ...answers.filter((at) => at > first && at < last).toSorted((a, b) => a - b), last];
  return marks.reduce((longest, at, index) => Math.max(longest, at - (marks[index - 1] ?? at)), 0);
}

/** The smallest value that at least that share of all values does not exceed. */
function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

function roundMs(ms: number): number {
  return Math.round(ms * 10) / 10;
}
