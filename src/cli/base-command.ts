import { Command, Errors } from "@oclif/core";
import { randomUUID } from "node:crypto";
import { loadConfig, type LoadedConfig } from "../config/load.ts";
import type { SettingTexts } from "../config/settings.ts";
import type { Reporter } from "../job/events.ts";
import { printable } from "../lib/printable.ts";
import { Secrets } from "../lib/redact.ts";
import { openReporter } from "../ui/reporter.ts";
import { envelopeOf, errorEnvelopeOf, type CommandResult } from "./envelope.ts";
import { errorText } from "./error-text.ts";
import { failureOf } from "./failure.ts";
import { commonFlags, type OutputMode } from "./flags.ts";
import { listenForInterrupt, type Interrupt } from "./interrupt.ts";

/** What the common flags say. */
export interface CommonFlags {
  readonly config: string;
  readonly json: boolean;
  readonly output: OutputMode;
}

/**
 * What all commands share: flags, the JSON envelope, errors and exit codes, Ctrl-C, the reporter. A command is thin:
 * it parses its flags, makes one call, and prints once. stdout is the result, stderr the story.
 */
export abstract class BaseCommand extends Command {
  static override readonly baseFlags = commonFlags;

  /** Every secret that this process reads; all that is printed goes through it. */
  protected readonly secrets = new Secrets();
  #interrupt: Interrupt | undefined;
  #reporter: Reporter | undefined;

  /** The configuration under the flags, with its warnings told. Throws E_CONFIG with every problem. */
  protected async loadConfig(flags: CommonFlags, settings: SettingTexts = {}): Promise<LoadedConfig> {
    const loaded = await loadConfig(flags.config, process.env, settings);
    if (!flags.json) for (const warning of loaded.warnings) this.#tell(`warning: ${warning}`);
    return loaded;
  }

  /** Opens the reporter that --output asks for. `print` and errors close it. */
  protected async openReporter(flags: CommonFlags, job: string): Promise<Reporter> {
    this.#reporter = await openReporter({
      output: flags.output,
      job,
      run: randomUUID(),
      env: process.env,
      stdout: process.stdout,
      stderr: process.stderr,
      clean: (text) => printable(this.secrets.redact(text)),
    });
    return this.#reporter;
  }

  /** Aborted by the first Ctrl-C or SIGTERM; the second one ends the process at once. */
  protected interruptSignal(): AbortSignal {
    this.#interrupt ??= listenForInterrupt({
      onFirst: () => {
        const text =
          "stopping cleanly and saving a checkpoint; press Ctrl-C again to stop at once (safe as well)";
        if (this.#reporter === undefined) this.#tell(text);
        else this.#reporter.event({ kind: "note", level: "warning", text });
      },
    });
    return this.#interrupt.signal;
  }

  /** Prints the result, once: text, or the envelope. The last thing that a command does. */
  protected print(
    flags: CommonFlags,
    result: Omit<CommandResult, "schema"> & { readonly schema?: string; readonly text: string },
  ): void {
    this.#closeReporter();
    const { text, ...rest } = result;
    if (flags.json || flags.output === "ndjson") {
      const schema = rest.schema ?? (this.id ?? "").replaceAll(":", "-");
      const envelope = envelopeOf({ ...rest, schema }, new Date(), this.secrets);
      // In a stream of JSON lines the result is one more line.
      process.stdout.write(
        `${JSON.stringify(envelope, undefined, flags.output === "ndjson" ? undefined : 2)}\n`,
      );
      return;
    }
    process.stdout.write(`${printable(text)}\n`);
    if (flags.output !== "quiet") for (const step of rest.nextSteps ?? []) this.#tell(`next: ${step}`);
  }

  protected override async catch(thrown: unknown): Promise<void> {
    this.#closeReporter();
    // `this.exit()` and --help: oclif's own way to end, with nothing to report.
    if (thrown instanceof Errors.ExitError) throw thrown;
    const failure = failureOf(thrown, {
      interrupted: this.#interrupt?.received,
      command: `${this.config.bin} ${(this.id ?? "").replaceAll(":", " ")}`,
    });
    process.exitCode = failure.exit;
    // oclif warns of a command that did not parse its flags; here they could not be parsed, and we say why.
    this.parsed = true;
    reportFailure(failure, this.argv, this.secrets);
    await Promise.resolve();
  }

  protected override async finally(): Promise<void> {
    this.#closeReporter();
    this.#interrupt?.[Symbol.dispose]();
    await Promise.resolve();
  }

  #tell(text: string): void {
    process.stderr.write(`${printable(this.secrets.redact(text))}\n`);
  }

  #closeReporter(): void {
    this.#reporter?.close();
    this.#reporter = undefined;
  }
}

/** An error as JSON on stdout or as text on stderr. Looks at argv itself: the flags may be what is wrong. */
export function reportFailure(
  failure: ReturnType<typeof failureOf>,
  argv: readonly string[],
  secrets: Secrets,
): void {
  const options = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  const ndjson = options.some(
    (word, index) => word === "--output=ndjson" || (word === "ndjson" && options[index - 1] === "--output"),
  );
  if (!ndjson && !options.includes("--json")) {
    process.stderr.write(`${errorText(failure, secrets, process.stderr)}\n`);
    return;
  }
  const envelope = errorEnvelopeOf(failure, secrets);
  process.stdout.write(`${JSON.stringify(envelope, undefined, ndjson ? undefined : 2)}\n`);
  if (failure.stack !== undefined) process.stderr.write(`${printable(secrets.redact(failure.stack))}\n`);
}
