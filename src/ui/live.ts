import {
  DefaultRenderer,
  Listr,
  ListrDefaultRendererLogLevels,
  ListrLogger,
  ListrTaskState,
  ProcessOutput,
} from "listr2";
import { Spinner, type ListrTask, type ListrTaskObject } from "listr2";
import type { JobEvent, JobState, PhaseName, Progress, Reporter } from "../job/events.ts";
import { phaseText, tableBars } from "./progress-text.ts";

/**
 * The live screen: listr2 draws the list of phases, cli-progress the bars of the tables in flight, as the output of
 * the copy phase. One program draws, so nothing flickers.
 * Invariants: at most 5 draws a second; after `close` (or an exit in between) the last screen stands as plain text,
 * the cursor is visible and the stream is handed back. What others write to it meanwhile comes after the last screen.
 */
export async function liveReporter(stream: NodeJS.WriteStream): Promise<Reporter> {
  const rows = new Map(phases.map((phase) => [phase, new Row(phase)]));
  const notes = new Row("notes");
  const opened = Promise.withResolvers<Screen>();
  const list = new Listr(
    [...rows.values(), notes].map((row) => row.definition()),
    {
      concurrent: true,
      exitOnError: false,
      // listr2 would end the process with 127 at Ctrl-C; our own handler lets the job save a checkpoint.
      registerSignalListeners: false,
      renderer: screenThatTells(opened.resolve),
      rendererOptions: {
        logger: new ListrLogger<ListrDefaultRendererLogLevels>({
          processOutput: new ProcessOutput(stream, stream),
        }),
        spinner: new FrameSpinner(),
        // Bars and notes bring their own marks; a blank keeps the first bar in line with the others.
        icon: {
          [ListrDefaultRendererLogLevels.OUTPUT]: " ",
          [ListrDefaultRendererLogLevels.OUTPUT_WITH_BOTTOMBAR]: "",
        },
      },
    },
  );
  const finished = list.run();
  const screen = await opened.promise;
  await Promise.all([...rows.values(), notes].map((row) => row.running));
  // listr2 begins to keep a task's output when it lays the task out for the first time; what came before is lost.
  screen.create();

  const view = new View(rows, notes, stream);
  let closed = false;
  const close = (): void => {
    if (closed) return;
    closed = true;
    process.off("exit", close);
    view.finish();
    screen.end();
  };
  process.once("exit", close);
  // The rows never fail, so neither does the list; if listr2 itself does, the job goes on without a screen.
  finished.catch(close);
  return {
    event: (event) => {
      if (!closed) view.show(event);
    },
    close,
  };
}

const phases: readonly PhaseName[] = ["prepare", "copy", "tail", "verify", "cutover"];
const frameMs = 200;

/** Below the list, live: the newest ones. The last screen has them all, within reason. */
const notesLive = 4;
const notesKept = 100;

/** Turns events into the texts of the rows. */
class View {
  readonly #rows: ReadonlyMap<PhaseName, Row>;
  readonly #notesRow: Row;
  readonly #stream: NodeJS.WriteStream;
  readonly #notes: string[] = [];
  readonly #reasons = new Map<PhaseName, string>();
  #progress: Progress | undefined;

  constructor(rows: ReadonlyMap<PhaseName, Row>, notesRow: Row, stream: NodeJS.WriteStream) {
    this.#rows = rows;
    this.#notesRow = notesRow;
    this.#stream = stream;
  }

  show(event: JobEvent): void {
    switch (event.kind) {
      case "state":
        return this.#state(event.state, event.reason);
      case "phase":
        return this.#phase(event);
      case "progress":
        this.#progress = event.progress;
        for (const phase of phases) this.#refresh(phase);
        return;
      case "note":
        this.#notes.push(`${event.level === "warning" ? "⚠" : "ℹ"} ${event.text}`);
        if (this.#notes.length > notesKept) this.#notes.shift();
        this.#notesRow.output(this.#notes.slice(-notesLive));
    }
  }

  finish(): void {
    if (this.#notes.length > 0) this.#notesRow.output(this.#notes);
    for (const [phase, row] of this.#rows) {
      // A rate and an estimate of something that no longer runs would mislead.
      if (row.started && this.#progress !== undefined) {
        row.text([phaseText(phase, this.#progress, "stopped"), this.#reasons.get(phase) ?? ""]);
      }
      row.leave();
    }
    this.#notesRow.leave();
  }

  #state(state: JobState, reason: string | undefined): void {
    const phase = phaseOf[state];
    if (phase === undefined) return;
    // The phases before the cutover show by themselves where the job is; only a reason adds something.
    const text = phase === "cutover" ? [state, reason] : [reason];
    this.#reasons.set(phase, text.filter((part) => part !== undefined).join(": "));
    this.#refresh(phase);
  }

  #phase({ phase, at, text }: JobEvent & { readonly kind: "phase" }): void {
    const row = this.#rows.get(phase);
    if (row === undefined) return;
    if (at === "start") {
      this.#reasons.set(phase, text ?? "");
      row.state(ListrTaskState.STARTED);
      this.#refresh(phase);
      return;
    }
    const figures = this.#progress === undefined ? "" : phaseText(phase, this.#progress, at);
    if (at === "done") row.text([text ?? figures]);
    else row.text([figures, text === undefined ? "stopped" : `stopped: ${text}`]);
    row.state(at === "done" ? ListrTaskState.COMPLETED : ListrTaskState.CANCELLED);
  }

  #refresh(phase: PhaseName): void {
    const row = this.#rows.get(phase);
    if (row === undefined || row.ended) return;
    const reason = this.#reasons.get(phase) ?? "";
    const progress = this.#progress;
    const visible =
      progress !== undefined && (row.started || (phase === "verify" && progress.verify.rows > 0));
    row.text([visible ? phaseText(phase, progress, "running") : "", reason]);
    if (phase === "copy" && row.started && progress !== undefined) {
      row.output(tableBars(progress.copy.tables, this.#stream.columns));
    }
  }
}

/** Where the reason of a state is shown; the other states have no phase of their own. */
const phaseOf: Readonly<Record<JobState, PhaseName | undefined>> = {
  planned: undefined,
  preparing: "prepare",
  copying: "copy",
  "catching-up": "tail",
  verifying: "verify",
  ready: "cutover",
  "cutting-over": "cutover",
  switched: "cutover",
  finished: "cutover",
  "rolled-back": "cutover",
  aborted: undefined,
  failed: undefined,
};

/** One task of the list, steered from outside: it runs until `leave`, and its state and texts are set by events. */
class Row {
  readonly #name: string;
  readonly #running = Promise.withResolvers<void>();
  readonly #left = Promise.withResolvers<void>();
  #task:
    | Pick<ListrTaskObject<unknown>, "state" | "state$" | "title" | "title$" | "output$" | "outputReset$">
    | undefined;
  #spoke = false;

  constructor(name: PhaseName | "notes") {
    this.#name = name;
  }

  get running(): Promise<void> {
    return this.#running.promise;
  }

  definition(): ListrTask<unknown, typeof DefaultRenderer> {
    const isNotes = this.#name === "notes";
    return {
      // A task without a title shows its output below the list.
      ...(isNotes ? {} : { title: this.#name }),
      rendererOptions: isNotes ? { persistentOutput: true, bottomBar: notesKept } : {},
      task: async (_, wrapper) => {
        this.#task = wrapper.task;
        this.#task.state$ = ListrTaskState.WAITING;
        this.#running.resolve();
        await this.#left.promise;
      },
    };
  }

  get started(): boolean {
    return this.#task?.state === ListrTaskState.STARTED;
  }

  get ended(): boolean {
    return this.#task?.state === ListrTaskState.COMPLETED || this.#task?.state === ListrTaskState.CANCELLED;
  }

  state(state: ListrTaskState): void {
    if (this.#task === undefined) return;
    this.#spoke = true;
    this.#task.state$ = state;
  }

  text(parts: readonly string[]): void {
    if (this.#task === undefined) return;
    const text = parts.filter((part) => part !== "").join("  ");
    if (text !== "") this.#spoke = true;
    this.#task.title$ = `${this.#name.padEnd(7)}  ${text}`.trimEnd();
  }

  output(lines: readonly string[]): void {
    if (this.#task === undefined) return;
    this.#task.outputReset$ = null;
    // Notes are entries of their own, so that each wraps by itself; bars are one entry, drawn line by line.
    const entries = this.#name === "notes" ? lines : lines.length === 0 ? [] : [lines.join("\n")];
    for (const entry of entries) this.#task.output$ = entry;
  }

  /** The last word: a phase that never began is not shown, one that did not end is marked so. */
  leave(): void {
    if (this.#task !== undefined && this.#name !== "notes") {
      if (this.started) this.#task.state$ = ListrTaskState.CANCELLED;
      if (!this.#spoke) delete this.#task.title;
    }
    this.#left.resolve();
  }
}

class FrameSpinner extends Spinner {
  override start(draw?: () => void): void {
    super.start(draw, frameMs);
  }
}

/**
 * listr2's own renderer with two bounds: it draws at most once a frame, whatever the events (the spinner's tick draws
 * what was skipped), and it ends once, when `close` says so and not when the list does.
 */
class Screen extends DefaultRenderer {
  /** listr2 looks at stdout to choose a renderer; ours draws on stderr, and the caller has looked. */
  static override readonly nonTTY = true;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #ended = false;

  override update(): void {
    const now = performance.now();
    // A little under a frame, since timers are not exact.
    if (now - this.#drawnAt < frameMs * 0.95) return;
    this.#drawnAt = now;
    super.update();
  }

  override end(): void {
    if (this.#ended) return;
    this.#ended = true;
    super.end();
  }
}

function screenThatTells(opened: (screen: Screen) => void): typeof Screen {
  return class extends Screen {
    override async render(): Promise<void> {
      await super.render();
      opened(this);
    }
  };
}
