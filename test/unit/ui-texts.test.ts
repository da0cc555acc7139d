import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Progress } from "../../src/job/events.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatEta,
  formatPercent,
  formatPlural,
  formatRate,
} from "../../src/ui/format.ts";
import { linesReporter } from "../../src/ui/lines.ts";
import { ndjsonEvent, ndjsonReporter } from "../../src/ui/ndjson.ts";
import { phaseText, tableBars } from "../../src/ui/progress-text.ts";
import { chooseReporter } from "../../src/ui/reporter.ts";

export function progressOf(percent: number): Progress {
  return {
    phase: "copy",
    copy: {
      rows: 1_234_567,
      bytes: 842e9,
      percent,
      rowsPerSecond: 61_000,
      bytesPerSecond: 118.4e6,
      eta: { lowSeconds: 3900, highSeconds: 4800 },
      tables: [
        { table: "orders", percent: 64, rows: 1000 },
        { table: "done", percent: 100, rows: 5 },
        { table: "later", percent: 0, rows: 0 },
      ],
    },
    tail: { lagMs: 300, livenessMs: 20, dirtyKeys: 212, checkpointAgeMs: 12_000 },
    verify: { percent: 40, mismatches: 0, rows: 1000 },
  };
}

describe("figures", () => {
  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [45_250_000, "45.2 MB"],
    [842e9, "842 GB"],
    [1376e9, "1.37 TB"],
    [999_999, "999 kB"],
    [4.35e6, "4.35 MB"],
    [-1, "unknown"],
  ])("%i bytes are %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test("rates and counts", () => {
    expect(formatRate(118.4e6)).toBe("118 MB/s");
    expect(formatRate(Number.POSITIVE_INFINITY)).toBe("unlimited");
    expect(formatCount(61_000)).toBe("61 000");
    expect(formatCount(1_234_567)).toBe("1 234 567");
    expect(formatPlural(1, "table")).toBe("1 table");
    expect(formatPlural(2000, "table")).toBe("2 000 tables");
  });

  test.each([
    [0, "0 ms"],
    [480, "480 ms"],
    [999.6, "1.0 s"],
    [1400, "1.4 s"],
    [9949, "9.9 s"],
    [9950, "10 s"],
    [59_499, "59 s"],
    [59_500, "1m00s"],
    [250_000, "4m10s"],
    [3_900_000, "1h05"],
    [183_600_000, "2d03h"],
    [Number.NaN, "unknown"],
    [-5, "0 ms"],
  ])("%d ms are %s", (ms, text) => expect(formatDuration(ms)).toBe(text));

  test.each([
    [3900, 4800, "1h05–1h20"],
    [40, 55, "40s–55s"],
    [700, 710, "12m"],
    [3599, 3599, "60m"],
    [4800, 3900, "1h05–1h20"],
    [-10, 20, "0s–20s"],
    [10, Number.POSITIVE_INFINITY, "unknown"],
    [10, 1e9, "unknown"],
  ])("an estimate of %d to %d seconds is %s", (lowSeconds, highSeconds, text) =>
    expect(formatEta({ lowSeconds, highSeconds })).toBe(text),
  );

  test("percent is never above 99.9 before the work is done, and never rounded up", () => {
    expect(formatPercent(61.29, false)).toBe("61.2 %");
    expect(formatPercent(100, true)).toBe("100 %");
    fc.assert(
      fc.property(fc.double(), (percent) => {
        const value = Number(formatPercent(percent, false).replace(" %", ""));
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThanOrEqual(99.9);
        if (percent >= 0 && percent < 99.9) expect(value).toBeLessThanOrEqual(percent + 1e-6);
      }),
    );
  });
});

describe("phase lines", () => {
  test("say how far the copy is and how long it takes", () => {
    const progress = progressOf(61.29);
    expect(phaseText("copy", progress, "running")).toBe(
      "61.2 %  842 GB  1 234 567 rows  118 MB/s  ETA 1h05–1h20",
    );
    expect(phaseText("copy", progress, "stopped")).toBe("61.2 %  842 GB  1 234 567 rows");
    expect(phaseText("copy", progress, "done")).toBe("100 %  842 GB  1 234 567 rows");
    expect(phaseText("tail", progress, "running")).toBe("lag 300 ms · dirty 212 · checkpoint 12 s ago");
    expect(phaseText("verify", progress, "running")).toBe("40.0 % of copied  1 000 rows, 0 differ");
  });

  test("tell apart a lag and a source that says nothing", () => {
    const progress = progressOf(1);
    const silent = {
      ...progress,
      tail: { ...progress.tail, livenessMs: 15_000, checkpointAgeMs: undefined },
    };
    expect(phaseText("tail", silent, "running")).toBe("lag 300 ms · dirty 212 · source silent for 15 s");
  });

  test("have bars for the tables in flight that fit the terminal, and count the others", () => {
    const many = Array.from({ length: 12 }, (_, index) => ({ table: `t${index}`, percent: 50, rows: index }));
    expect(tableBars([...many, { table: "z", percent: 100, rows: 1 }], 100)).toHaveLength(9);
    expect(tableBars([...many, { table: "z", percent: 100, rows: 1 }], 100).at(-1)).toBe(
      "4 more in flight, 1 table done",
    );
    expect(tableBars([{ table: "only", percent: 100, rows: 1 }], 100)).toEqual([]);
    for (const columns of [40, 60, 76, 80, 120, 200]) {
      const name = "a_table_with_a_name_that_is_far_too_long_for_a_terminal";
      for (const line of tableBars([{ table: name, percent: 64, rows: 123_456_789 }], columns)) {
        expect(line.length).toBeLessThanOrEqual(columns - 6);
      }
    }
  });
});

describe("plain lines", () => {
  beforeEach(() => vi.useFakeTimers({ now: Date.parse("2026-01-02T03:04:05.678Z") }));
  afterEach(() => vi.useRealTimers());

  function open() {
    const lines: string[] = [];
    const reporter = linesReporter({ write: (line) => lines.push(line), job: "j1" });
    return { reporter, lines };
  }

  test("come at each change of state and phase, without escapes", () => {
    const { reporter, lines } = open();
    reporter.event({ kind: "state", state: "copying" });
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    reporter.event({ kind: "progress", progress: progressOf(10) });
    reporter.event({ kind: "note", level: "warning", text: "two\nlines" });
    reporter.event({ kind: "phase", phase: "copy", at: "stopped", text: "interrupted" });
    reporter.event({ kind: "state", state: "ready", reason: "waiting" });
    reporter.close();
    expect(lines.map((line) => line.replace("2026-01-02T03:04:05Z  ", ""))).toEqual([
      "job j1",
      "state copying",
      "copy started",
      "warning: two lines",
      "copy stopped: interrupted  10.0 %  842 GB  1 234 567 rows",
      "state ready: waiting",
    ]);
    // oxlint-disable-next-line no-control-regex
    expect(lines.join("")).not.toMatch(/[\u0000-\u001f]/);
  });

  test("come every 30 s in between, however many events there are", () => {
    const { reporter, lines } = open();
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    for (let second = 0; second < 120; second++) {
      vi.advanceTimersByTime(1000);
      reporter.event({ kind: "progress", progress: progressOf(second) });
    }
    reporter.close();
    expect(lines.filter((line) => line.includes("copy ") && line.includes("%"))).toHaveLength(4);
  });

  test("come also when nothing is heard any more, and say so; none comes after the end", () => {
    const { reporter, lines } = open();
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    vi.advanceTimersByTime(31_000);
    expect(lines.at(-1)).toContain("copy running");
    reporter.event({ kind: "progress", progress: progressOf(10) });
    vi.advanceTimersByTime(45_000);
    expect(lines.at(-1)).toMatch(/copy 10\.0 %.*\(nothing new for \d+ s\)/);
    reporter.close();
    const { length } = lines;
    vi.advanceTimersByTime(120_000);
    expect(lines).toHaveLength(length);
  });
});

describe("ndjson", () => {
  test("is one valid event per line, numbered without gaps, with at most one snapshot a second", () => {
    const lines: string[] = [];
    let now = Date.parse("2026-01-02T03:04:05.678Z");
    const reporter = ndjsonReporter({
      write: (line) => lines.push(line),
      job: "j1",
      run: "r1",
      now: () => now,
    });
    reporter.event({ kind: "state", state: "copying", reason: "go" });
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    for (let index = 0; index < 10; index++) {
      reporter.event({ kind: "progress", progress: progressOf(index) });
      now += 250;
    }
    reporter.event({ kind: "note", level: "warning", text: "a\nb" });
    reporter.event({ kind: "phase", phase: "copy", at: "stopped", text: "why" });
    reporter.close();
    const events = lines.map((line) => ndjsonEvent.parse(JSON.parse(line)));
    expect(lines.every((line) => !line.includes("\n"))).toBe(true);
    expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(events.map(({ event, phase, level }) => [event, phase, level])).toEqual([
      ["state", null, "info"],
      ["phase", "copy", "info"],
      ["progress", "copy", "info"],
      ["progress", "copy", "info"],
      ["progress", "copy", "info"],
      ["note", "copy", "warning"],
      ["phase", "copy", "warning"],
    ]);
    expect(events[0]).toMatchObject({
      v: 1,
      run: "r1",
      job: "j1",
      ts: "2026-01-02T03:04:05.678Z",
      state: "copying",
      reason: "go",
    });
  });
});

describe("the choice of output", () => {
  const terminal = { isTTY: true, env: { TERM: "xterm" } };
  test.each([
    [{ output: "auto", ...terminal } as const, "live"],
    [{ output: "auto", isTTY: undefined, env: { TERM: "xterm" } } as const, "lines"],
    [{ output: "auto", isTTY: true, env: { TERM: "dumb" } } as const, "lines"],
    [{ output: "live", isTTY: true, env: { TERM: "dumb" } } as const, "lines"],
    [{ output: "live", isTTY: false, env: {} } as const, "lines"],
    [{ output: "lines", ...terminal } as const, "lines"],
    [{ output: "ndjson", ...terminal } as const, "ndjson"],
    [{ output: "quiet", ...terminal } as const, "quiet"],
    [{ output: "auto", isTTY: true, env: { TERM: "xterm", NO_COLOR: "1" } } as const, "live"],
  ])("%j is %s", (options, mode) => expect(chooseReporter(options)).toBe(mode));
});
