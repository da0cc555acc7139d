import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { finished, pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { JobEvent, JobState } from "../job/events.ts";

/** The command line that the operator of the shop would type; `src/demo` and `dist/demo` lie equally deep. */
const program = fileURLToPath(new URL("../../bin/run.js", import.meta.url));
const splitArgs = [
  "split",
  "s0",
  "--into",
  "s0,s1",
  "--cutover",
  "auto",
  "--yes",
  "--output",
  "ndjson",
  "--json",
];

export interface SplitOutcome {
  readonly exit: number | null;
  /** The result, when there is one. */
  readonly result: SplitResult | undefined;
  /** The error that the command told, or how it died. */
  readonly error: string | undefined;
  /** When the job came into which state, by the tool's clock in milliseconds since 1970. */
  readonly states: readonly { readonly state: JobState; readonly at: number }[];
  /** The most memory that it had, in MiB. */
  readonly maxRssMiB: number;
}

const splitResult = z.looseObject({
  state: z.string(),
  epoch: z.looseObject({ before: z.int(), after: z.int().nullable() }),
  at: z.array(z.string()),
  copy: z.looseObject({ rows: z.number(), seconds: z.number(), rowsPerSecond: z.number() }).nullable(),
  verify: z.looseObject({ rows: z.number(), mismatches: z.number() }).nullable(),
  pause: z.looseObject({ untilCommittedMs: z.number(), untilOpenMs: z.number() }).nullable(),
  memory: z.looseObject({ maxRssMiB: z.number() }),
});
export type SplitResult = z.output<typeof splitResult>;

const envelope = z.looseObject({ schema: z.literal("shardlift.split/v1"), data: splitResult });
const failure = z.looseObject({
  schema: z.literal("shardlift.error/v1"),
  error: z.looseObject({
    code: z.string(),
    message: z.string(),
    cause: z.string().nullable(),
    findings: z.array(z.looseObject({ level: z.string(), where: z.string(), why: z.string() })).default([]),
  }),
});
const eventLine = z.looseObject({
  v: z.literal(1),
  ts: z.iso.datetime(),
  job: z.string(),
  event: z.string(),
});

export interface SplitOptions {
  readonly folder: string;
  readonly config: string;
  /** Told as they come, with the name of the job. */
  readonly onEvent: (event: JobEvent, job: string) => void;
  /** Asks the command to stop with a checkpoint, as Ctrl-C does. */
  readonly signal: AbortSignal;
}

/** Runs `shardlift split` as a process of its own and follows what it tells. Never leaves it running. */
export async function runSplit({ folder, config, onEvent, signal }: SplitOptions): Promise<SplitOutcome> {
  signal.throwIfAborted();
  const child = spawn(process.execPath, [program, ...splitArgs, "--config", config], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own: Ctrl-C reaches the demo, which then asks the command to stop.
    detached: true,
  });
  const ended = whenEnded(child);
  using _ends = endsWithUs(child, signal);
  using memory = watchMemory(child.pid);
  const read = new LineReader(onEvent);
  await Promise.all([
    followLines(child.stdout, join(folder, "split.ndjson"), read),
    pipeline(child.stderr, createWriteStream(join(folder, "split.stderr"))),
  ]);
  const { exit, died } = await ended;
  const told = await readFile(join(folder, "split.stderr"), "utf8");
  const { result, error, states } = read;
  return {
    exit,
    result,
    error:
      error ?? (exit === 0 && result !== undefined ? undefined : (died ?? lastLine(told) ?? `exit ${exit}`)),
    states,
    maxRssMiB: Math.round(Math.max(memory.maxMiB, result?.memory.maxRssMiB ?? 0)),
  };
}

async function followLines(stdout: Readable, file: string, read: LineReader): Promise<void> {
  const log = createWriteStream(file);
  for await (const line of createInterface({ input: stdout, crlfDelay: Number.POSITIVE_INFINITY })) {
    log.write(`${line}\n`);
    read.line(line);
  }
  log.end();
  await finished(log);
}

/** Takes the command's lines apart: events, and at the end the result or the error. */
class LineReader {
  readonly states: { state: JobState; at: number }[] = [];
  result: SplitResult | undefined;
  error: string | undefined;
  readonly #onEvent: SplitOptions["onEvent"];

  constructor(onEvent: SplitOptions["onEvent"]) {
    this.#onEvent = onEvent;
  }

  line(line: string): void {
    const data = parseJson(line);
    const asResult = envelope.safeParse(data);
    const asFailure = failure.safeParse(data);
    if (asResult.success) this.result = asResult.data.data;
    else if (asFailure.success) {
      const { code, message, cause, findings } = asFailure.data.error;
      const blockers = findings.filter(({ level }) => level === "blocker");
      const reasons = [
        ...(cause === null ? [] : [cause]),
        ...blockers.map(({ where, why }) => `${where}: ${why}`),
      ];
      this.error = `${code}: ${message}${reasons.length === 0 ? "" : ` (${reasons.join("; ")})`}`;
    } else this.#event(data);
  }

  #event(data: unknown): void {
    const line = eventLine.safeParse(data).data;
    const event = line === undefined ? undefined : jobEventOf(line);
    if (line === undefined || event === undefined) return;
    if (event.kind === "state") this.states.push({ state: event.state, at: Date.parse(line.ts) });
    this.#onEvent(event, line.job);
  }
}

/** The line back as the event that it was made from (ui/ndjson.ts); undefined for kinds that come later. */
function jobEventOf(line: z.output<typeof eventLine>): JobEvent | undefined {
  const { v: _v, ts: _ts, job: _job, event, seq: _seq, run: _run, phase, level, ...body } = line;
  switch (event) {
    case "state":
      return { kind: "state", ...body } as JobEvent;
    case "phase":
      return { kind: "phase", phase, ...body } as JobEvent;
    case "progress":
      return { kind: "progress", progress: { phase, ...body } } as JobEvent;
    case "note":
      return { kind: "note", level, ...body } as JobEvent;
    default:
      return undefined;
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Not ours: something that printed by itself. It stays in the log.
    return undefined;
  }
}

async function whenEnded(child: ChildProcess): Promise<{ exit: number | null; died: string | undefined }> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve({ exit: null, died: error.message }));
    child.once("close", (exit, signal) => {
      resolve({ exit, died: signal === null ? undefined : `shardlift split was ended by ${signal}` });
    });
  });
}

/** The command saves its checkpoint within 10 s (CLI contract); later than this it is stuck. */
const stopBoundMs = 15_000;

/** Stops the command when the demo is told to stop, and at the latest when the demo's process ends. */
function endsWithUs(child: ChildProcess, signal: AbortSignal): Disposable {
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    child.kill("SIGTERM");
    timer = setTimeout(() => child.kill("SIGKILL"), stopBoundMs);
  };
  const kill = (): boolean => child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  process.once("exit", kill);
  return {
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      process.removeListener("exit", kill);
      // After an error here, such as a full disk: nobody would follow it any more.
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    },
  };
}

const memoryIntervalMs = 250;

/** The kernel's own high-water mark, where there is /proc; else the command's own figure has to do. */
function watchMemory(pid: number | undefined): Disposable & { readonly maxMiB: number } {
  let maxMiB = 0;
  const look = async (): Promise<void> => {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    maxMiB = Math.max(maxMiB, Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1_024);
  };
  const timer = setInterval(() => void look(), memoryIntervalMs);
  return {
    get maxMiB() {
      return maxMiB;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function lastLine(text: string): string | undefined {
  return text.trimEnd().split("\n").at(-1) || undefined;
}
