import { writeFile } from "node:fs/promises";
import { Flags } from "@oclif/core";
import { BaseCommand, type CommonFlags } from "../cli/base-command.ts";
import type { commonFlags } from "../cli/flags.ts";
import { demoDocument, demoText } from "../demo/demo-report.ts";
import { type DemoEnd, type DemoHost, type DemoOptions, runDemo } from "../demo/run-demo.ts";
import { ShardliftError } from "../errors/error.ts";
import type { Reporter } from "../job/events.ts";

export class Demo extends BaseCommand {
  static override readonly summary =
    "Split a shop on two real local servers under live writes, and prove that nothing is lost.";
  static override readonly description =
    "Starts two servers of its own on free ports in a temporary folder, writes through the router while it splits, and checks every acknowledged write by plain reads. Nothing else on this machine is touched. Needs a MariaDB or MySQL server program; bin/setup gets one.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --engine mysql --rows 300000 --rate 500 --json demo.json",
  ];
  // The demo writes its own configuration and has no result but its own; --json names a file here.
  static override readonly baseFlags = {} as typeof commonFlags;
  static override readonly flags = {
    engine: Flags.option({
      options: ["mariadb", "mysql"] as const,
      default: "mariadb" as const,
      description: "The servers to start.",
      helpValue: "<mariadb|mysql>",
    })(),
    rows: Flags.integer({
      default: 60_000,
      min: 100,
      max: 20_000_000,
      description: "Rows to load.",
      helpValue: "N",
    }),
    writers: Flags.integer({ default: 8, min: 1, max: 100, description: "Writers.", helpValue: "N" }),
    rate: Flags.integer({
      default: 200,
      min: 1,
      max: 20_000,
      description: "Transactions a second, all writers together; as many reads come on top.",
      helpValue: "TX/S",
    }),
    seed: Flags.integer({
      default: 1,
      min: 0,
      max: 1_000_000,
      description: "Repeats data and choices.",
      helpValue: "N",
    }),
    json: Flags.string({ description: "Write the figures to this file as JSON.", helpValue: "FILE" }),
  };

  override async run(): Promise<void> {
    const { flags } = await this.parse(Demo);
    const { engine, rows, writers, rate, seed, json } = flags;
    const end = await this.#play({ flavor: engine, rows, writers, rate, seed });
    if (json !== undefined)
      await writeFile(json, `${JSON.stringify(demoDocument(end.facts), undefined, 2)}\n`);
    this.print(plain, { text: demoText(end.facts), data: {} });
    if (end.faults.length > 0) throw failed(end);
    process.stdout.write("Nothing was lost.\n");
  }

  async #play(options: DemoOptions): Promise<DemoEnd> {
    const signal = AbortSignal.any([this.interruptSignal(), hangUp()]);
    let reporter: Promise<Reporter> | undefined;
    const host: DemoHost = {
      signal,
      tell: (text) => this.logToStderr(text),
      onEvent: (event, job) => {
        reporter ??= this.openReporter(plain, job);
        void reporter.then((opened) => opened.event(event));
      },
      onSplitEnd: () => void reporter?.then((opened) => opened.close()),
    };
    try {
      return await runDemo(options, host);
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new ShardliftError(
        "E_INTERRUPTED",
        "the demo was stopped; its servers are ended and its folder is removed",
        {
          cause: error,
          next: "shardlift demo",
        },
      );
    }
  }

  /** An error is told as text even with `--json FILE`: stdout is no JSON document here. */
  protected override async catch(thrown: unknown): Promise<void> {
    this.argv = this.argv.filter((word) => word !== "--json");
    await super.catch(thrown);
  }
}

/** What the flags of other commands say where they are left out. */
const plain: CommonFlags = { config: "", json: false, output: "auto" };

/** A terminal that was closed ends the demo like Ctrl-C, so that no server stays behind. */
function hangUp(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGHUP", () =>
    controller.abort(new ShardliftError("E_INTERRUPTED", "the terminal was closed")),
  );
  return controller.signal;
}

function failed({ facts, faults, kept }: DemoEnd): ShardliftError {
  const { lost, duplicated, changed } = facts.check;
  const code = lost + duplicated + changed > 0 ? "E_DEMO_LOSS" : "E_DEMO_FAILED";
  return new ShardliftError(code, `the demo failed: ${faults.join("; ")}`, {
    next: `look at faults.txt, split.ndjson, split.stderr and writes.ndjson in ${kept ?? "the demo's folder"}`,
  });
}
