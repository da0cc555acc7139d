import { Errors } from "@oclif/core";
import { ShardliftError } from "../errors/error.ts";
import type { InterruptSignal } from "./interrupt.ts";
import { usageError } from "./usage.ts";

/** How a command ended, in our own terms, whatever was thrown. */
export interface Failure {
  readonly error: ShardliftError;
  readonly exit: number;
  /** What to type next. */
  readonly fix: string;
  /** Further errors of the same end, such as a connection that could not be closed afterwards. */
  readonly also: readonly string[];
  /** Only for what is a bug: where it came from. */
  readonly stack: string | undefined;
}

/**
 * Every thrown thing becomes one coded error. What we did not throw ourselves and do not know is a bug (E_BUG), told
 * with its stack: nothing is swallowed, and nothing pretends to be the operator's fault.
 */
export function failureOf(
  thrown: unknown,
  context: {
    readonly interrupted?: InterruptSignal | undefined;
    /** The command as it is typed; wrong flags lead to its help. */
    readonly command?: string | undefined;
  } = {},
): Failure {
  const { primary, also } = unfold(thrown);
  const error = coded(primary);
  const exit = error.code === "E_INTERRUPTED" && context.interrupted === "SIGTERM" ? 143 : error.exit;
  const source = error.cause instanceof Error && error !== primary ? error.cause : error;
  const misused = primary instanceof Errors.CLIError && context.command !== undefined;
  const fix = misused ? `Run \`${context.command} --help\`.` : error.next;
  return { error, exit, fix, also, stack: error.code === "E_BUG" ? source.stack : undefined };
}

function coded(thrown: unknown): ShardliftError {
  if (thrown instanceof ShardliftError) return thrown;
  // Node's own aborted calls throw an AbortError; what counts is why the signal was aborted.
  if (thrown instanceof Error && thrown.name === "AbortError" && thrown.cause instanceof ShardliftError)
    return thrown.cause;
  if (thrown instanceof Errors.CLIError) return usageError(thrown);
  const text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : `thrown: ${String(thrown)}`;
  return new ShardliftError("E_BUG", text, { cause: thrown });
}

/**
 * `await using` joins an error of its block with one of the clean-up (SuppressedError), a shutdown joins several
 * (AggregateError). The first error is the reason; the others are told beside it.
 */
function unfold(thrown: unknown): { readonly primary: unknown; readonly also: readonly string[] } {
  if (thrown instanceof SuppressedError) {
    const { primary, also } = unfold(thrown.suppressed);
    return { primary, also: [...also, messageOf(thrown.error)] };
  }
  if (thrown instanceof AggregateError && thrown.errors.length > 0) {
    const { primary, also } = unfold(thrown.errors[0]);
    return { primary, also: [...also, ...thrown.errors.slice(1).map(messageOf)] };
  }
  return { primary: thrown, also: [] };
}

/** The causes below the error, outermost first, then what happened besides. */
export function causesOf({ error, also }: Failure): string[] {
  const causes: string[] = [];
  // A chain is a few links long; the bound is for one that leads back to itself.
  for (let cause = error.cause; cause !== undefined && causes.length < 10; cause = causeOf(cause)) {
    const text = messageOf(cause);
    // A bug's message already holds its cause's.
    if (!error.message.includes(text)) causes.push(text);
  }
  return [...causes, ...also.map((text) => `also: ${text}`)];
}

function causeOf(value: unknown): unknown {
  return value instanceof Error ? value.cause : undefined;
}

function messageOf(value: unknown): string {
  if (value instanceof AggregateError && value.errors.length > 0)
    return value.errors.map(messageOf).join("; ");
  if (value instanceof ShardliftError) return `${value.code}: ${value.message}`;
  return value instanceof Error ? value.message : String(value);
}
