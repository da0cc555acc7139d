import { codes, type ErrorCode } from "./codes.ts";

/** What every error of shardlift carries: a code, what happened, and what the operator types next. */
export class ShardliftError extends Error {
  override readonly name: string = "ShardliftError";
  readonly code: ErrorCode;
  /** The command or the query that helps now; defaults to the code's documented fix. */
  readonly next: string;
  /** True when the same command may simply be run again. */
  readonly retryable: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { next?: string; cause?: unknown; retryable?: boolean } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.next = options.next ?? codes[code].fix;
    this.retryable = options.retryable ?? false;
  }

  /** The process exit code (CLI contract, docs/exit-codes.md). */
  get exit(): number {
    return codes[this.code].exit;
  }
}

/** One thing that is wrong with what the operator gave us. */
export interface Problem {
  /** `file:line:column`, or the flag. */
  readonly where: string;
  readonly found: string;
  readonly accepted: string;
  /** The closest word that would have been accepted. */
  readonly closest?: string;
}

/** Bad input: lists every problem at once; nothing was touched. */
export class InputError extends ShardliftError {
  override readonly name = "InputError";
  readonly problems: readonly Problem[];

  constructor(code: "E_USAGE" | "E_CONFIG", problems: readonly Problem[]) {
    const lines = problems.map(
      (p) =>
        `${p.where}: ${p.found}; accepted: ${p.accepted}${p.closest === undefined ? "" : ` (did you mean "${p.closest}"?)`}`,
    );
    super(code, lines.join("\n"));
    this.problems = problems;
  }
}

/** Asserts an invariant of our own; a failure is a bug, never the operator's fault. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new ShardliftError("E_BUG", `invariant broken: ${message}`);
}
