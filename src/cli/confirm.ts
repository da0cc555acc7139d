import { createInterface } from "node:readline/promises";
import { InputError } from "../errors/error.ts";
import { printable } from "../lib/printable.ts";

/**
 * Shows the plan and asks, on a terminal. Without one, or with --no-input, --yes is needed: a script must say that it
 * means it. The answer is a whole word, since this starts hours of work.
 */
export async function confirmPlan(
  plan: string,
  flags: { readonly yes: boolean; readonly "no-input"?: boolean; readonly json: boolean },
): Promise<void> {
  if (flags.yes) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY || flags["no-input"] === true || flags.json) {
    throw new InputError("E_USAGE", [
      {
        where: "--yes",
        found: "nothing, and nobody to ask",
        accepted: "--yes to start, or --dry-run to look first",
      },
    ]);
  }
  process.stderr.write(`${printable(plan)}\n\n`);
  const ask = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await ask.question('Start? Type "yes": ');
    if (answer.trim() === "yes") return;
  } finally {
    ask.close();
  }
  throw new InputError("E_USAGE", [
    { where: "answer", found: "not yes", accepted: "yes; nothing was changed" },
  ]);
}
