import { z } from "zod";
import { InputError, type ShardliftError } from "../errors/error.ts";
import { MismatchError } from "../verify/mismatch.ts";
import type { Secrets } from "../lib/redact.ts";
import { causesOf, type Failure } from "./failure.ts";

/**
 * The JSON that every command prints with --json. Versioned: a field may be added, never renamed or dropped, within
 * `/v1`. The schemas below ship (`shardlift config schema --of …`), and a test checks documents against them.
 */
export const resultEnvelope = z.strictObject({
  schema: z
    .string()
    .regex(/^shardlift\.[a-z-]+\/v\d+$/)
    .describe("shardlift.<command>/v1"),
  job: z.string().optional().describe("The job that the result is about."),
  generatedAt: z.iso.datetime(),
  data: z.unknown().describe("The command's result."),
  warnings: z.array(z.string()),
  nextSteps: z.array(z.string()).describe("Commands to type next."),
});
export type ResultEnvelope = z.output<typeof resultEnvelope>;

const problem = z.strictObject({
  where: z.string().describe("file:line:column, a flag or a variable"),
  found: z.string(),
  accepted: z.string(),
  closest: z.string().optional(),
});

const finding = z.strictObject({
  check: z.string(),
  level: z.enum(["blocker", "warning", "ok"]),
  where: z.string(),
  why: z.string(),
  fix: z.string(),
});

const mismatch = z.strictObject({
  table: z.string(),
  key: z.string(),
  shown: z.string().describe("The key as people read it."),
  kind: z.enum(["missing at target", "only at target", "different"]),
  sourceHash: z.string().optional(),
  targetHash: z.string().optional(),
});

export const errorEnvelope = z.strictObject({
  schema: z.literal("shardlift.error/v1"),
  error: z.strictObject({
    code: z.string(),
    message: z.string(),
    cause: z.string().nullable().describe("The chain of causes, outermost first."),
    fix: z.string().describe("What to type next."),
    retryable: z.boolean(),
    exit: z.int(),
    problems: z
      .array(problem)
      .optional()
      .describe("E_CONFIG and E_USAGE: everything that is wrong with the input."),
    mismatches: z.array(mismatch).optional().describe("E_MISMATCH: every key that differs."),
    findings: z.array(finding).optional().describe("E_PREFLIGHT: everything that the checks found."),
  }),
});
export type ErrorEnvelope = z.output<typeof errorEnvelope>;

export interface CommandResult {
  /** Name of the data's format; by default the command's name. */
  readonly schema: string;
  readonly job?: string;
  readonly data: unknown;
  readonly warnings?: readonly string[];
  readonly nextSteps?: readonly string[];
}

export function envelopeOf(result: CommandResult, now: Date, secrets: Secrets): ResultEnvelope {
  return {
    schema: `shardlift.${result.schema}/v1`,
    ...(result.job === undefined ? {} : { job: result.job }),
    generatedAt: now.toISOString(),
    data: secrets.redactData(result.data),
    warnings: (result.warnings ?? []).map((text) => secrets.redact(text)),
    nextSteps: [...(result.nextSteps ?? [])],
  };
}

export function errorEnvelopeOf(failure: Failure, secrets: Secrets): ErrorEnvelope {
  const { error, exit } = failure;
  const hide = (text: string): string => secrets.redact(text);
  const causes = causesOf(failure);
  return {
    schema: "shardlift.error/v1",
    error: {
      code: error.code,
      message: hide(error.message),
      cause: causes.length === 0 ? null : hide(causes.join(": ")),
      fix: hide(failure.fix),
      retryable: error.retryable,
      exit,
      ...(error instanceof InputError
        ? { problems: error.problems.map((item) => mapTexts(item, hide)) }
        : {}),
      ...(error instanceof MismatchError
        ? { mismatches: error.mismatches.map((item) => mapTexts(item, hide)) }
        : {}),
      ...(findingsOf(error).length === 0
        ? {}
        : { findings: findingsOf(error).map((item) => mapTexts(item, hide)) }),
    },
  };
}

type Finding = z.output<typeof finding>;

/** Preflight errors carry their findings; asked for by shape, since the error lives with the checks. */
export function findingsOf(error: ShardliftError): readonly Finding[] {
  const { findings } = error as { readonly findings?: unknown };
  return Array.isArray(findings) ? (findings as readonly Finding[]) : [];
}

function mapTexts<T extends object>(item: T, change: (text: string) => string): T {
  const entries = Object.entries(item).map(([key, value]) => [
    key,
    typeof value === "string" ? change(value) : value,
  ]);
  return Object.fromEntries(entries) as T;
}
