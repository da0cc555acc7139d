import { z } from "zod";
import type { JobEvent, PhaseName, Reporter } from "../job/events.ts";

/**
 * One JSON object per line on stdout, for machines. `seq` grows by one with each line of a run, so a reader sees a
 * gap. Readers ignore fields and events that they do not know: new ones may come within `v: 1`.
 */
export const ndjsonEvent = z.looseObject({
  v: z.literal(1),
  seq: z.int().positive(),
  ts: z.iso.datetime(),
  run: z.string().describe("Differs for each start of the tool."),
  job: z.string(),
  event: z.enum(["state", "phase", "progress", "note"]),
  phase: z
    .enum(["prepare", "copy", "tail", "verify", "cutover"])
    .nullable()
    .describe("The phase that it belongs to."),
  level: z.enum(["info", "warning"]),
});

export function ndjsonReporter(options: {
  readonly write: (line: string) => void;
  readonly job: string;
  readonly run: string;
  readonly now?: () => number;
  /** A snapshot a second is enough for a chart; the job may take more of them. */
  readonly progressIntervalMs?: number;
}): Reporter {
  const now = options.now ?? Date.now;
  const progressIntervalMs = options.progressIntervalMs ?? 1000;
  let seq = 0;
  let phase: PhaseName | null = null;
  let progressAt = Number.NEGATIVE_INFINITY;
  return {
    event(event) {
      if (event.kind === "phase") phase = event.phase;
      if (event.kind === "progress") {
        phase = event.progress.phase;
        if (now() - progressAt < progressIntervalMs) return;
        progressAt = now();
      }
      const head = {
        v: 1,
        seq: ++seq,
        ts: new Date(now()).toISOString(),
        run: options.run,
        job: options.job,
      };
      options.write(
        JSON.stringify({ ...head, event: event.kind, phase, level: levelOf(event), ...bodyOf(event) }),
      );
    },
    close: () => undefined,
  };
}

function levelOf(event: JobEvent): "info" | "warning" {
  if (event.kind === "note") return event.level;
  const bad =
    (event.kind === "state" && event.state === "failed") ||
    (event.kind === "phase" && event.at === "stopped");
  return bad ? "warning" : "info";
}

function bodyOf(event: JobEvent): object {
  switch (event.kind) {
    case "state":
      return { state: event.state, ...(event.reason === undefined ? {} : { reason: event.reason }) };
    case "phase":
      return { at: event.at, ...(event.text === undefined ? {} : { text: event.text }) };
    case "progress": {
      const { copy, tail, verify } = event.progress;
      return { copy, tail, verify };
    }
    case "note":
      return { text: event.text };
  }
}
