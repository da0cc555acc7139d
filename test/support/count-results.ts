/**
 * Turns vitest's JSON report into the three numbers of bin/test: passed, failed, skipped.
 *
 *   node test/support/count-results.ts REPORT EXIT-CODE
 *
 * Invariant: a run that vitest calls a failure never counts as zero failures, whatever the report says.
 */
import { readFileSync } from "node:fs";
import { isAbsolute } from "node:path";
import { argv } from "node:process";
import { z } from "zod";

const reportSchema = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      assertionResults: z.array(z.object({ status: z.string() })),
    }),
  ),
});

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function countResults(report: unknown, exitCode: number): Counts {
  const { testResults } = reportSchema.parse(report);
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const file of testResults) {
    const failedHere = file.assertionResults.filter((result) => result.status === "failed").length;
    const passedHere = file.assertionResults.filter((result) => result.status === "passed").length;
    passed += passedHere;
    // A file that could not be loaded, or whose hook failed, has no failed test of its own.
    failed += failedHere === 0 && file.status === "failed" ? 1 : failedHere;
    skipped += file.assertionResults.length - failedHere - passedHere;
  }
  // An unhandled rejection, or no test at all.
  if (exitCode !== 0 && failed === 0) failed = 1;
  return { passed, failed, skipped };
}

const [, script, path, exitCode] = argv;
if (script !== undefined && isAbsolute(script) && import.meta.filename === script && path !== undefined) {
  const counts = countResults(JSON.parse(readFileSync(path, "utf8")), Number(exitCode));
  console.log(`${counts.passed} ${counts.failed} ${counts.skipped}`);
}
