import { fileURLToPath } from "node:url";
import { Config, Errors, flush, run } from "@oclif/core";
import { Secrets } from "../lib/redact.ts";
import { reportFailure } from "./base-command.ts";
import { failureOf } from "./failure.ts";
import { requestOf } from "./usage.ts";

/**
 * The whole program: bin/run.js calls this and nothing else. Errors of commands are told by BaseCommand; what fails
 * before a command runs (an unknown command, a broken installation) is told here in the same form.
 */
export async function main(entryUrl: string, argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  try {
    const config = await Config.load({ root: fileURLToPath(new URL("..", entryUrl)) });
    const request = requestOf(argv, config);
    if (request.kind === "command") await config.runCommand(request.id, [...request.argv]);
    else await run([...argv], config);
  } catch (thrown) {
    if (thrown instanceof Errors.ExitError) {
      process.exitCode = thrown.oclif.exit ?? 0;
    } else {
      const failure = failureOf(thrown);
      process.exitCode = failure.exit;
      reportFailure(failure, argv, new Secrets());
    }
  }
  await flush();
}
