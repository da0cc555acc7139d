import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkSize } from "../../src/copy/chunk-size.ts";
import { pressureReasons } from "../../src/copy/throttle.ts";
import { reservedStart } from "../../src/cutover/counters.ts";
import { jobStates, type JobState } from "../../src/job/events.ts";
import { Rates } from "../../src/job/rates.ts";
import { assertTransition, isEnded, mayBecome } from "../../src/job/transitions.ts";
import { differingKeys } from "../../src/verify/mismatch.ts";

describe("job states", () => {
  it("lead from planned to switched in the order of the phases", () => {
    const path: JobState[] = [
      "planned",
      "preparing",
      "copying",
      "catching-up",
      "verifying",
      "ready",
      "cutting-over",
      "switched",
    ];
    for (const [index, state] of path.slice(0, -1).entries()) {
      expect(() => assertTransition(state, path[index + 1] ?? "switched")).not.toThrow();
    }
  });

  it("never lead back from a slice that has moved, nor out of an end", () => {
    for (const state of jobStates) {
      if (state !== "finished" && state !== "rolled-back") expect(mayBecome("switched", state)).toBe(false);
      for (const end of jobStates.filter(isEnded)) expect(mayBecome(end, state)).toBe(false);
    }
    expect(() => assertTransition("switched", "aborted")).toThrow(/can not go/);
  });

  it("can be resumed from every state in which work was begun", () => {
    for (const state of ["copying", "catching-up", "verifying", "ready", "cutting-over"] as const) {
      expect(mayBecome(state, "preparing")).toBe(true);
    }
  });
});

describe("the size of chunks", () => {
  it("goes towards the target time, by at most a factor of two at once", () => {
    const size = new ChunkSize(500);
    const first = size.rows;
    size.took(first, 1);
    expect(size.rows).toBe(first * 2);
    size.took(size.rows, 100_000);
    expect(size.rows).toBe(first);
    size.took(0, 100);
    expect(size.rows).toBe(first);
  });

  it("stays within its bounds whatever the server does", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(500_000), fc.nat(100_000))), (chunks) => {
        const size = new ChunkSize(500);
        for (const [rows, ms] of chunks) size.took(rows, ms);
        expect(size.rows).toBeGreaterThanOrEqual(500);
        expect(size.rows).toBeLessThanOrEqual(200_000);
      }),
    );
  });
});

describe("rates and the time left", () => {
  it("are the plain average until a window is full, and give a range", () => {
    const rates = new Rates();
    rates.sample(0, { percent: 0, rows: 0, bytes: 0 });
    const reading = rates.sample(10_000, { percent: 10, rows: 1_000, bytes: 50_000 });
    expect(reading).toMatchObject({ rowsPerSecond: 100, bytesPerSecond: 5_000 });
    expect(reading.eta?.lowSeconds).toBeCloseTo(90);
    const slower = rates.sample(20_000, { percent: 12, rows: 1_200, bytes: 60_000 });
    expect(slower.rowsPerSecond).toBeCloseTo(60);
  });

  it("say nothing of the time left before one percent and after the end", () => {
    const rates = new Rates();
    rates.sample(0, { percent: 0, rows: 0, bytes: 0 });
    expect(rates.sample(1_000, { percent: 0.5, rows: 1, bytes: 1 }).eta).toBeUndefined();
    expect(rates.sample(2_000, { percent: 100, rows: 2, bytes: 2 }).eta).toBeUndefined();
  });
});

describe("the reserve of generated keys", () => {
  it("is 2^32 for wide columns and a tenth of what is left for narrow ones", () => {
    expect(reservedStart("t", { next: 5n, max: 2n ** 63n - 1n })).toBe(5n + 2n ** 32n);
    expect(reservedStart("t", { next: 1_000_000n, max: 2n ** 31n - 1n })).toBe(
      1_000_000n + (2n ** 31n - 1_000_001n) / 10n,
    );
  });

  it("is refused where too little is left", () => {
    expect(() => reservedStart("t", { next: 120n, max: 127n })).toThrow(
      /AUTO_INCREMENT counter of t stands at 120 of 127/,
    );
  });
});

describe("the throttle's reasons", () => {
  it("name server, figure and limit, for each limit that is passed", () => {
    const pressure = { threadsRunning: 60, historyList: 2_000 };
    expect(pressureReasons("s0", pressure, { maxThreadsRunning: 40, historyList: 1_000 })).toEqual([
      "s0 threads running 60 > 40",
      "s0 history list 2000 > 1000",
    ]);
    expect(pressureReasons("s0", pressure, { maxThreadsRunning: 60, historyList: undefined })).toEqual([]);
  });
});

describe("differing keys", () => {
  it("are those that one side lacks or that have another hash, each once, with the side told", () => {
    const side = fc.dictionary(fc.constantFrom("1", "2", "3", "4"), fc.constantFrom("a", "b"));
    fc.assert(
      fc.property(side, side, (source, target) => {
        const found = differingKeys(new Map(Object.entries(source)), new Map(Object.entries(target)));
        const expected = ["1", "2", "3", "4"]
          .filter((key) => source[key] !== target[key])
          .map((key) => ({
            key,
            kind:
              target[key] === undefined
                ? "missing at target"
                : source[key] === undefined
                  ? "only at target"
                  : "different",
          }));
        expect(found.toSorted((a, b) => Number(a.key) - Number(b.key))).toEqual(expected);
      }),
    );
  });
});
