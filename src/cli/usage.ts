import { stripVTControlCharacters } from "node:util";
import { Errors, type Config } from "@oclif/core";
import { InputError, type Problem, type ShardliftError } from "../errors/error.ts";
import { closest } from "../lib/closest.ts";

/**
 * Wrong flags, arguments and commands as problems of our own form. oclif's own errors carry argv and the whole
 * package configuration, and its --json prints them (CLI.md, section 4): only the facts are taken over from them.
 */
export function usageError(error: Errors.CLIError): ShardliftError {
  return new InputError("E_USAGE", problemsOf(error));
}

interface ParseError extends Errors.CLIError {
  readonly parse?: { readonly input?: { readonly flags?: object; readonly args?: object } };
  readonly flags?: readonly string[];
  readonly args?: readonly unknown[];
}

function problemsOf(error: ParseError): Problem[] {
  const flags = Object.keys(error.parse?.input?.flags ?? {}).map((flag) => `--${flag}`);
  const args = Object.keys(error.parse?.input?.args ?? {}).map((arg) => arg.toUpperCase());
  switch (error.constructor.name) {
    case "NonExistentFlagsError":
      return (error.flags ?? []).map((flag) =>
        withClosest({ where: flag, found: "unknown flag", accepted: list(flags) }, flag, flags),
      );
    case "UnexpectedArgsError":
      return (error.args ?? []).map((arg) => ({
        where: String(arg),
        found: "one argument too many",
        accepted: args.length === 0 ? "no arguments" : list(args),
      }));
    case "RequiredArgsError":
      return (error.args ?? []).map((arg) => {
        const { name, description } = arg as { readonly name: string; readonly description?: string };
        return {
          where: name.toUpperCase(),
          found: "the argument is missing",
          accepted: description ?? "a value",
        };
      });
    default:
      return messageProblems(error);
  }
}

/** The rest tells its facts only in the message: `Missing required flag x`, `Expected --x=y to be one of: …`. */
function messageProblems(error: ParseError): Problem[] {
  const text = stripVTControlCharacters(error.message).replace(/\s*See more help with --help\s*$/, "");
  const option = /^Expected --([\w-]+)=(.*) to be one of: (.*)$/s.exec(text);
  if (option !== null) {
    const [, flag, given = "", options = ""] = option;
    return [
      withClosest({ where: `--${flag}`, found: `"${given}"`, accepted: options }, given, options.split(", ")),
    ];
  }
  const parsing = /^Parsing --([\w-]+)\s+(.*)$/s.exec(text);
  if (parsing !== null) {
    const [, flag, reason = ""] = parsing;
    return [{ where: `--${flag}`, found: lowerFirst(reason), accepted: "see --help" }];
  }
  const reasons = text.replace(/^The following errors? occurred:\s*/, "").split(/\n\s*/);
  return reasons.map((reason) => {
    const missing = /^Missing required flag ([\w-]+)$/.exec(reason)?.[1];
    if (missing !== undefined)
      return { where: `--${missing}`, found: "the flag is missing", accepted: "a value" };
    const value = /^Flag --([\w-]+) expects a value/.exec(reason)?.[1];
    if (value !== undefined) return { where: `--${value}`, found: "no value", accepted: `--${value}=VALUE` };
    const where = /--[\w-]+/.exec(reason)?.[0] ?? "command line";
    return { where, found: lowerFirst(reason), accepted: "see --help" };
  });
}

function lowerFirst(text: string): string {
  return text.replace(/^./, (letter) => letter.toLowerCase());
}

function withClosest(problem: Problem, word: string, candidates: readonly string[]): Problem {
  const found = closest(word, candidates);
  return found === undefined ? problem : { ...problem, closest: found };
}

function list(words: readonly string[]): string {
  return words.toSorted().join(", ");
}

// ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

export type Request =
  | { readonly kind: "command"; readonly id: string; readonly argv: readonly string[] }
  /** Help, version, or a topic alone: oclif prints those. */
  | { readonly kind: "help" };

/** What the words of the command line ask for. Throws E_USAGE with the closest command. */
export function requestOf(
  argv: readonly string[],
  known: Pick<Config, "commandIDs"> & { readonly topics: readonly { readonly name: string }[] },
): Request {
  const options = argv.indexOf("--") < 0 ? argv : argv.slice(0, argv.indexOf("--"));
  if (argv.length === 0 || argv[0] === "--version" || options.includes("--help")) return { kind: "help" };
  const firstFlag = argv.findIndex((word) => word.startsWith("-"));
  const words = firstFlag < 0 ? argv : argv.slice(0, firstFlag);
  for (let length = words.length; length > 0; length--) {
    const id = words.slice(0, length).join(":");
    if (known.commandIDs.includes(id)) return { kind: "command", id, argv: argv.slice(length) };
  }
  if (words.length > 0 && known.topics.some((topic) => topic.name === words.join(":")))
    return { kind: "help" };
  throw new InputError("E_USAGE", [unknownCommand(argv, words, known)]);
}

function unknownCommand(
  argv: readonly string[],
  words: readonly string[],
  known: { readonly commandIDs: readonly string[]; readonly topics: readonly { readonly name: string }[] },
): Problem {
  const names = known.commandIDs.map((id) => id.replaceAll(":", " ")).toSorted();
  if (words.length === 0) {
    return {
      where: argv[0] ?? "",
      found: "a flag before the command",
      accepted: "shardlift COMMAND [flags]",
    };
  }
  const topic = known.topics.find(({ name }) => name === words[0])?.name;
  const candidates = topic === undefined ? names : names.filter((name) => name.startsWith(`${topic} `));
  // `shardlift splti s0 --into …`: the command may be one word or two, the rest are its arguments.
  const guesses = [words.slice(0, 2).join(" "), words[0] ?? ""];
  const found = guesses.map((guess) => closest(guess, candidates)).find((guess) => guess !== undefined);
  const where = topic === undefined ? (words[0] ?? "") : words.slice(0, 2).join(" ");
  return {
    where,
    found: "unknown command",
    accepted: candidates.join(", "),
    ...(found === undefined ? {} : { closest: found }),
  };
}
