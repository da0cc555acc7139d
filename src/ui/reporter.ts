import type { JobEvent, Reporter } from "../job/events.ts";
import { linesReporter } from "./lines.ts";
import { liveReporter } from "./live.ts";
import { ndjsonReporter } from "./ndjson.ts";
import { quietReporter } from "./quiet.ts";

export interface ReporterOptions {
  readonly output: "auto" | "live" | "lines" | "ndjson" | "quiet";
  readonly job: string;
  /** Names this start of the tool, in ndjson. */
  readonly run: string;
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Takes secrets and control characters out of a text. */
  readonly clean: (text: string) => string;
}

/** Opens what --output asks for. Events are told from the first one on. */
export async function openReporter(options: ReporterOptions): Promise<Reporter> {
  const { job, run, stdout, stderr } = options;
  const mode = chooseReporter({ output: options.output, isTTY: stderr.isTTY, env: options.env });
  // A reader that went away (`2>&1 | head`) must not end the job: it goes on unheard, and `status` tells of it.
  const unheard = (): void => undefined;
  (mode === "ndjson" ? stdout : stderr).on("error", unheard);
  const toStderr = (line: string): void => void stderr.write(`${line}\n`);
  const toStdout = (line: string): void => void stdout.write(`${line}\n`);
  switch (mode) {
    case "live":
      return cleaned(await liveReporter(stderr), options.clean);
    case "lines":
      return cleaned(linesReporter({ write: toStderr, job }), options.clean);
    case "ndjson":
      return cleaned(ndjsonReporter({ write: toStdout, job, run }), options.clean);
    case "quiet":
      return quietReporter();
  }
}

/**
 * `auto` is live where a terminal can be drawn on. TERM=dumb can not move its cursor, so even an explicit `live`
 * becomes lines there. NO_COLOR needs nothing here: listr2 colours through Node's styleText, which honours it.
 */
export function chooseReporter(options: {
  readonly output: ReporterOptions["output"];
  readonly isTTY: boolean | undefined;
  readonly env: NodeJS.ProcessEnv;
}): Exclude<ReporterOptions["output"], "auto"> {
  if (options.output !== "auto" && options.output !== "live") return options.output;
  return options.isTTY === true && options.env["TERM"] !== "dumb" ? "live" : "lines";
}

/** Names and reasons come from servers and from errors. */
function cleaned(reporter: Reporter, clean: (text: string) => string): Reporter {
  return {
    event: (event) => reporter.event(cleanEvent(event, clean)),
    close: () => reporter.close(),
  };
}

function cleanEvent(event: JobEvent, clean: (text: string) => string): JobEvent {
  switch (event.kind) {
    case "state":
      return event.reason === undefined ? event : { ...event, reason: clean(event.reason) };
    case "phase":
      return event.text === undefined ? event : { ...event, text: clean(event.text) };
    case "note":
      return { ...event, text: clean(event.text) };
    case "progress": {
      const { copy } = event.progress;
      const tables = copy.tables.map((table) => ({ ...table, table: clean(table.table) }));
      return { ...event, progress: { ...event.progress, copy: { ...copy, tables } } };
    }
  }
}
