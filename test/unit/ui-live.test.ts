import { setTimeout as sleep } from "node:timers/promises";
import { Writable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import type { Progress } from "../../src/job/events.ts";
import { liveReporter } from "../../src/ui/live.ts";

/** A terminal that remembers what was written to it. */
class Terminal extends Writable {
  readonly isTTY = true;
  readonly columns = 100;
  readonly rows = 40;
  readonly writes: string[] = [];

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.writes.push(chunk.toString());
    done();
  }

  get text(): string {
    return stripVTControlCharacters(this.writes.join(""));
  }
}

async function open() {
  const terminal = new Terminal();
  const reporter = await liveReporter(terminal as unknown as NodeJS.WriteStream);
  /** What stands there after the end: all that was written by `close`. */
  const close = (): string[] => {
    const before = terminal.writes.length;
    reporter.close();
    return stripVTControlCharacters(terminal.writes.slice(before).join(""))
      .split("\n")
      .filter((line) => line.trim() !== "");
  };
  return { terminal, reporter, close };
}

function progressOf(percent: number): Progress {
  return {
    phase: "copy",
    copy: {
      rows: 61_000,
      bytes: 842e6,
      percent,
      rowsPerSecond: 1,
      bytesPerSecond: 118e6,
      eta: undefined,
      tables: [
        { table: "orders", percent, rows: 61_000 },
        { table: "order_items", percent: 0, rows: 0 },
      ],
    },
    tail: { lagMs: 300, livenessMs: 0, dirtyKeys: 212, checkpointAgeMs: undefined },
    verify: { percent: 0, mismatches: 0, rows: 0 },
  };
}

describe("the live screen", () => {
  test("leaves its last screen as plain text: phases with their figures, and all notes in full", async () => {
    const { reporter, close } = await open();
    reporter.event({ kind: "phase", phase: "prepare", at: "start" });
    reporter.event({ kind: "phase", phase: "prepare", at: "done", text: "38 ok" });
    for (let index = 0; index < 6; index++)
      reporter.event({ kind: "note", level: "info", text: `note ${index}` });
    reporter.event({ kind: "note", level: "warning", text: `long ${"word ".repeat(40)}end` });
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    reporter.event({ kind: "phase", phase: "tail", at: "start" });
    reporter.event({ kind: "progress", progress: progressOf(61.2) });
    reporter.event({ kind: "phase", phase: "copy", at: "stopped", text: "interrupted" });
    const lines = close();
    expect(lines.slice(0, 3)).toEqual([
      "✔ prepare  38 ok",
      "⊘ copy     61.2 %  842 MB  61 000 rows  stopped: interrupted",
      "⊘ tail     lag 300 ms · dirty 212",
    ]);
    // Phases that never began are not shown.
    expect(lines.join("\n")).not.toMatch(/verify|cutover/);
    expect(lines.filter((line) => line.startsWith("ℹ note "))).toHaveLength(6);
    expect(lines.at(-1)).toContain("end");
  });

  test("shows bars of the tables in flight below the copy while it runs", async () => {
    const { terminal, reporter, close } = await open();
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    reporter.event({ kind: "progress", progress: progressOf(50) });
    await expect
      .poll(() => terminal.text, { timeout: 10_000 })
      .toMatch(/orders +█{15}░{15} +50\.0 % +61 000 rows/);
    expect(terminal.text).toContain("1 waiting");
    expect(close().join("\n")).not.toContain("█");
  });

  test("draws at most five times a second, however many events there are", async () => {
    const { terminal, reporter, close } = await open();
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    const started = performance.now();
    const writesBefore = terminal.writes.length;
    while (performance.now() - started < 1000) {
      reporter.event({ kind: "progress", progress: progressOf((performance.now() - started) / 20) });
      await sleep(2);
    }
    const seconds = (performance.now() - started) / 1000;
    const draws = terminal.writes.slice(writesBefore).filter((text) => text.includes("copy")).length;
    expect(draws).toBeGreaterThan(0);
    expect(draws).toBeLessThanOrEqual(Math.ceil(seconds * 5) + 2);
    close();
  });

  test("hands the terminal back: cursor visible, later writes pass, earlier ones of others come after it", async () => {
    const { terminal, reporter, close } = await open();
    reporter.event({ kind: "phase", phase: "copy", at: "start" });
    terminal.write("a warning of somebody else\n");
    expect(terminal.text).not.toContain("somebody else");
    const lines = close();
    expect(lines.at(-1)).toContain("a warning of somebody else");
    expect(terminal.writes.join("").lastIndexOf("\u001b[?25h")).toBeGreaterThan(
      terminal.writes.join("").lastIndexOf("\u001b[?25l"),
    );
    const { length } = terminal.writes;
    reporter.event({ kind: "progress", progress: progressOf(70) });
    reporter.close();
    await sleep(0);
    expect(terminal.writes).toHaveLength(length);
    terminal.write("after");
    expect(terminal.writes.at(-1)).toBe("after");
  });

  test("leaves no listener behind, so that Ctrl-C stays ours", async () => {
    const before = ["SIGINT", "SIGTERM", "exit"].map((name) => process.listenerCount(name));
    const { close } = await open();
    expect(process.listenerCount("SIGINT")).toBe(before[0]);
    close();
    await expect
      .poll(() => ["SIGINT", "SIGTERM", "exit"].map((name) => process.listenerCount(name)))
      .toEqual(before);
  });
});
