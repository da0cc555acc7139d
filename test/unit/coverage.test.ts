import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Coverage } from "../../src/copy/coverage.ts";
import type { KeyInterval } from "../../src/engines/engine.ts";

const compare = (a: string, b: string): number => Number(a) - Number(b);

/** Drives a coverage through random marks, copies and give-backs; returns what it claims and what is true. */
function drive(coverage: Coverage, choices: readonly number[]): Map<number, string> {
  const truth = new Map<number, string>(Array.from({ length: 30 }, (_, key) => [key, "unmarked"]));
  const flying: KeyInterval[] = [];
  const set = ({ from, to }: KeyInterval, place: string): void => {
    for (const key of truth.keys()) {
      if ((from === undefined || key >= Number(from)) && (to === undefined || key < Number(to)))
        truth.set(key, place);
    }
  };
  for (const choice of choices) {
    const gap = coverage.nextGap();
    if (choice % 3 === 0 && gap !== undefined) {
      const low = gap.from === undefined ? 0 : Number(gap.from);
      const end = String(low + 1 + (choice % 7));
      const to = gap.to !== undefined && Number(end) >= Number(gap.to) ? gap.to : end;
      const interval = coverage.mark(choice % 11 === 0 ? gap.to : to);
      flying.push(interval);
      set(interval, "in-flight");
    } else {
      const [interval] = flying.splice(choice % Math.max(1, flying.length), 1);
      if (interval === undefined) continue;
      if (choice % 3 === 1) {
        coverage.markCopied(interval);
        set(interval, "copied");
      } else {
        coverage.unmark(interval);
        set(interval, "unmarked");
      }
    }
  }
  return truth;
}

describe("coverage of a table's key space", () => {
  it("always knows for every key whether it is copied, in flight or unmarked", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 60 }), (choices) => {
        const coverage = new Coverage(compare);
        const truth = drive(coverage, choices);
        for (const [key, place] of truth) expect(coverage.place(String(key))).toBe(place);
      }),
    );
  });

  it("covers the whole space once every gap was copied, and says so only then", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 40 }), (choices) => {
        const coverage = new Coverage(compare);
        drive(coverage, choices);
        if (coverage.nextGap() !== undefined) expect(() => coverage.assertWhole()).toThrow(/invariant/);
        while (coverage.nextGap() !== undefined) coverage.markCopied(coverage.mark(coverage.nextGap()?.to));
        if (!coverage.busy) coverage.assertWhole();
      }),
    );
  });

  it("leaves exactly the gaps between restored chunks", () => {
    const coverage = new Coverage(compare);
    coverage.restore([
      { from: "10", to: "20" },
      { from: undefined, to: "5" },
      { from: "5", to: "10" },
      { from: "30", to: undefined },
    ]);
    expect(coverage.nextGap()).toEqual({ from: "20", to: "30" });
    expect(coverage.place("25")).toBe("unmarked");
    expect(coverage.place("19")).toBe("copied");
    coverage.markCopied(coverage.mark("30"));
    coverage.assertWhole();
  });

  it("refuses overlapping restored chunks", () => {
    expect(() =>
      new Coverage(compare).restore([
        { from: undefined, to: "9" },
        { from: "5", to: undefined },
      ]),
    ).toThrow(/overlap/);
  });

  it("copies a server-ordered table from the left, one chunk at a time", () => {
    const coverage = new Coverage(undefined);
    const first = coverage.mark("0x61");
    expect(() => coverage.mark("0x62")).toThrow(/two chunks/);
    coverage.markCopied(first);
    expect(coverage.copiedBelow()).toEqual({ part: "below", key: "0x61" });
    coverage.markCopied(coverage.mark(undefined));
    expect(coverage.copiedBelow()).toEqual({ part: "all" });
    coverage.assertWhole();
  });

  it("restores a server-ordered table only from a chain of chunks", () => {
    const coverage = new Coverage(undefined);
    coverage.restore([
      { from: "0x62", to: "0x63" },
      { from: undefined, to: "0x62" },
    ]);
    expect(coverage.nextGap()).toEqual({ from: "0x63", to: undefined });
    expect(() => new Coverage(undefined).restore([{ from: "0x62", to: undefined }])).toThrow(/left end/);
  });
});
