import { styleText } from "node:util";
import { InputError, type Problem } from "../errors/error.ts";
import { printable } from "../lib/printable.ts";
import type { Secrets } from "../lib/redact.ts";
import { findingsOf } from "./envelope.ts";
import { causesOf, type Failure } from "./failure.ts";

/**
 * An error for people: what happened, why, what to do, the code. Always in that order, so that one learns where to
 * look. Colour only where the stream wants it; without colour the text is the same.
 */
export function errorText(failure: Failure, secrets: Secrets, stream: NodeJS.WriteStream): string {
  const { error, exit, stack } = failure;
  const clean = (text: string): string => printable(secrets.redact(text));
  const style = (format: "red" | "bold" | "dim", text: string): string =>
    styleText(format, text, { stream, validateStream: true });
  const lines: string[] = [];
  if (error instanceof InputError) {
    lines.push(style("red", headline(error)), "");
    for (const problem of error.problems) lines.push(...problemLines(problem, clean, style), "");
  } else {
    const [first = "", ...rest] = clean(error.message).split("\n");
    lines.push(style("red", `Error: ${first}`), ...rest.map((line) => `  ${line}`));
  }
  for (const finding of findingsOf(error).filter(({ level }) => level !== "ok")) {
    lines.push(
      "",
      `  ${style("bold", `${finding.level} ${clean(finding.check)}`)}  ${clean(finding.where)}`,
      ...field("why", clean(finding.why)),
      ...field("fix", clean(finding.fix)),
    );
  }
  if (findingsOf(error).length > 0) lines.push("");
  for (const cause of causesOf(failure)) lines.push(...field("because", clean(cause)));
  lines.push(...field("fix", clean(failure.fix)), style("dim", `  code      ${error.code} (exit ${exit})`));
  if (stack !== undefined) lines.push("", style("dim", clean(stack)));
  return lines.join("\n");
}

function headline(error: InputError): string {
  const count = error.problems.length === 1 ? "one problem" : `${error.problems.length} problems`;
  return `Error: ${count} ${error.code === "E_CONFIG" ? "in the configuration" : "in the command line"}`;
}

function problemLines(
  problem: Problem,
  clean: (text: string) => string,
  style: (format: "bold", text: string) => string,
): string[] {
  return [
    `  ${style("bold", clean(problem.where))}`,
    ...field("found", clean(problem.found), 4),
    ...field("accepted", clean(problem.accepted), 4),
    ...(problem.closest === undefined ? [] : field("closest", clean(problem.closest), 4)),
  ];
}

/** A name in a column of its own, further lines below the first. */
function field(name: string, text: string, indent = 2): string[] {
  const column = " ".repeat(indent);
  return text.split("\n").map((line, index) => `${column}${(index === 0 ? name : "").padEnd(9)} ${line}`);
}
