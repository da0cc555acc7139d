import { defineConfig } from "vitest/config";

/** Two cores, and each server suite runs servers of its own: more files at once only make each of them slower. */
const maxWorkers = 2;

function serverProject(name: string, order: number, minutes: number, workers: number) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ["test/support/global-setup.ts"],
      // Generous bounds for a loaded machine: a test waits for a condition and ends long before them.
      testTimeout: minutes * 60_000,
      hookTimeout: 120_000,
      maxWorkers: workers,
      // Groups run one after another, so the slow ones do not steal time from those that watch the clock.
      sequence: { groupOrder: order },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          testTimeout: 30_000,
          maxWorkers,
          sequence: { groupOrder: 0 },
        },
      },
      serverProject("contract", 1, 2, maxWorkers),
      serverProject("e2e", 2, 5, 1),
      serverProject("crash", 3, 5, 1),
    ],
  },
});
