import { describe, expect, test } from "vitest";
import { countResults } from "../support/count-results.ts";

const file = (status: string, ...results: string[]) => ({
  name: "a.test.ts",
  status,
  assertionResults: results.map((result) => ({ status: result })),
});

describe("the last line of bin/test", () => {
  test("sums the tests of all files", () => {
    const testResults = [
      file("passed", "passed", "passed", "skipped"),
      file("failed", "passed", "failed", "todo"),
    ];
    expect(countResults({ testResults }, 1)).toEqual({ passed: 3, failed: 1, skipped: 2 });
  });

  test("counts a file that could not be loaded, or whose hook failed, as one failure", () => {
    const testResults = [file("failed"), file("failed", "skipped", "skipped")];
    expect(countResults({ testResults }, 1)).toEqual({ passed: 0, failed: 2, skipped: 2 });
  });

  test("never calls a failed run a success", () => {
    expect(countResults({ testResults: [file("passed", "passed")] }, 1)).toMatchObject({ failed: 1 });
    expect(countResults({ testResults: [] }, 1)).toMatchObject({ failed: 1 });
    expect(() => countResults({}, 0)).toThrow(/testResults/);
  });
});
