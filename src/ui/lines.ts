import type { JobEvent, PhaseName, Progress, Reporter } from "../job/events.ts";
import { formatDuration } from "./format.ts";
import { phaseText } from "./progress-text.ts";

/**
 * For logs and pipes: one line at each change of state or phase, and one every 30 s in between, also when nothing
 * moves, since silence reads as death (CLI.md, W9). No escapes. Each line can stand alone: time, then facts.
 */
export function linesReporter(options: {
  readonly write: (line: string) => void;
  readonly job: string;
  readonly now?: () => number;
  readonly intervalMs?: number;
}): Reporter {
  const now = options.now ?? Date.now;
  const intervalMs = options.intervalMs ?? 30_000;
  const running = new Set<PhaseName>();
  let latest: { readonly progress: Progress; readonly at: number } | undefined;
  let lastLineAt = now();

  const write = (text: string): void => {
    lastLineAt = now();
    const oneLine = text.replaceAll("\n", " ");
    options.write(`${new Date(lastLineAt).toISOString().replace(/\.\d+Z$/, "Z")}  ${oneLine}`);
  };
  const recurring = (): void => {
    if (now() - lastLineAt < intervalMs) return;
    if (latest !== undefined) write(progressLine(latest.progress, running, now() - latest.at));
    else if (running.size > 0) write(`${[...running].join(", ")} running`);
  };
  // Half of the interval bounds how late a line can be; unref'd, so that it never keeps the process alive.
  const timer = setInterval(recurring, intervalMs / 2).unref();

  write(`job ${options.job}`);
  return {
    event(event) {
      switch (event.kind) {
        case "progress":
          latest = { progress: event.progress, at: now() };
          recurring();
          return;
        case "phase":
          if (event.at === "start") running.add(event.phase);
          write(phaseLine(event, latest?.progress));
          if (event.at !== "start") running.delete(event.phase);
          return;
        case "state":
          write(`state ${event.state}${event.reason === undefined ? "" : `: ${event.reason}`}`);
          return;
        case "note":
          write(event.level === "warning" ? `warning: ${event.text}` : event.text);
      }
    },
    close() {
      clearInterval(timer);
    },
  };
}

function phaseLine(event: JobEvent & { readonly kind: "phase" }, progress: Progress | undefined): string {
  const verb = { start: "started", done: "done", stopped: "stopped" }[event.at];
  const figures =
    event.at === "start" || progress === undefined ? "" : phaseText(event.phase, progress, event.at);
  const parts = event.at === "stopped" ? [event.text ?? "", figures] : [event.text ?? figures];
  const text = parts.filter((part) => part !== "").join("  ");
  return `${event.phase} ${verb}${text === "" ? "" : `: ${text}`}`;
}

/** Older than this, the snapshot says how old it is. */
const staleMs = 15_000;

function progressLine(progress: Progress, running: ReadonlySet<PhaseName>, ageMs: number): string {
  const phases: readonly PhaseName[] = ["copy", "tail", "verify"];
  const shown = phases.filter((phase) => running.has(phase));
  const parts = (shown.length === 0 ? [progress.phase] : shown).map((phase) =>
    `${phase} ${phaseText(phase, progress, "running")}`.trimEnd(),
  );
  const age = ageMs > staleMs ? `  (nothing new for ${formatDuration(ageMs)})` : "";
  return `${parts.join("  |  ")}${age}`;
}
