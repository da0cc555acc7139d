import { Copier } from "../copy/copier.ts";
import { Pace } from "../copy/pace.ts";
import { cutOver, PastNoReturn } from "../cutover/cutover.ts";
import type { CutoverResult } from "../cutover/cutover-context.ts";
import type { ErrorCode } from "../errors/codes.ts";
import { ShardliftError } from "../errors/error.ts";
import { firstLine } from "../lib/first-line.ts";
import { abortable, sleep } from "../lib/wait.ts";
import { cutoverContext } from "./cutover-ports.ts";
import type { JobContext } from "./job-context.ts";
import { waitForRequest } from "./requests.ts";
import { tellUnconfirmed } from "./settle-run.ts";

/**
 * The table of contents of a job. Each phase is one function; what it does lies in the folder of its name. The tail
 * and the verifier run beside all of them, from the start of the copy until the gate is committed closed.
 */
export type PhaseEnd = { readonly kind: "done" } | { readonly kind: "stop-here"; readonly why: string };

/** Copies every chunk while the tail follows the log, then builds the indexes that were left out. */
export async function copyPhase(context: JobContext): Promise<PhaseEnd> {
  const { deps, moves, meter, background, signal } = context;
  const { threads, chunkTargetMs, bytesPerSecond } = deps.config.copy;
  const pace = new Pace(Number.isFinite(bytesPerSecond) ? bytesPerSecond : undefined);
  await context.book.setState("copying");
  background.run((stop) => context.throttle.run(stop));
  // Both run beside everything that follows: the tail until the flip, the verifier until every chunk is compared.
  for (const phase of ["tail", "verify"] as const) deps.reporter.event({ kind: "phase", phase, at: "start" });
  for (const { tail, verifier } of moves) {
    tail.start();
    background.run((stop) => verifier.run(stop));
  }
  for (const { work, tail, verifier } of moves) {
    const copier = new Copier(work, tail, {
      threads,
      chunkTargetMs,
      pace,
      throttle: context.throttle,
      copied: (table, interval, rows, bytes) => {
        meter.copied(rows, bytes);
        verifier.add(table, interval);
      },
    });
    await copier.run(signal);
    for (const { shape } of work.tables)
      await abortable(work.target.catalog.buildDeferredIndexes(shape), signal);
  }
  await context.book.journal("copy", "did");
  if (context.options.until !== "copied") return { kind: "done" };
  // A job that is left at `copied` stands for the operator to look at and to mend by hand: nothing of the tool is in
  // the way, and the next run arms the mirror again before it compares every row anew.
  for (const { session, spec } of context.gates.targets) await session.gates.disarm(spec);
  return { kind: "stop-here", why: "copied" };
}

/** Drains the log once and waits until every chunk was compared. */
export async function verifyPhase(context: JobContext): Promise<PhaseEnd> {
  const { moves, signal, options } = context;
  await context.book.setState("catching-up");
  for (const { tail } of moves) await tail.passed(await tail.raise(), signal);
  await context.book.setState("verifying");
  for (const { tail, verifier } of moves) {
    while (!verifier.settled) {
      tail.throwIfFailed();
      await sleep(50, signal);
    }
    verifier.throwIfDifferent();
  }
  await context.book.journal("verify", "did");
  return options.until === "verified" ? { kind: "stop-here", why: "verified" } : { kind: "done" };
}

export type CutoverEnd = PhaseEnd | { readonly kind: "switched"; readonly result: CutoverResult };

/** Waits at `ready` for the operator's word, unless the cutover is automatic; then moves the ownership. */
export async function cutoverPhase(context: JobContext): Promise<CutoverEnd> {
  const { options } = context;
  await context.book.setState("ready");
  if (options.until === "ready") return { kind: "stop-here", why: "ready" };
  if (options.cutover === "manual") {
    const text = `waiting at ready: move the slice with \`shardlift cutover ${context.job}\``;
    context.deps.reporter.event({ kind: "note", level: "info", text });
  }
  for (;;) {
    const request = options.cutover === "manual" ? await waitForRequest(context) : undefined;
    await context.book.setState("cutting-over");
    try {
      return {
        kind: "switched",
        result: await switchOver(context, request?.deadlineMs ?? options.cutoverDeadlineMs),
      };
    } catch (error) {
      if (error instanceof PastNoReturn) throw error;
      await context.book.setState("ready", firstLine(error));
      // The operator who asked is told, and may ask again; the source serves as before.
      if (options.cutover === "auto" || !isNotDone(error)) throw error;
      await context.book.remember(error);
    }
  }
}

/** After the flip nothing may look as if it had not happened: what fails then is settled by the map, or only told. */
async function switchOver(context: JobContext, deadlineMs: number): Promise<CutoverResult> {
  const { book, deps, claim } = context;
  const result = await cutOver(cutoverContext(context, deadlineMs));
  try {
    await book.setState("switched", undefined, { cutover: { ...result } });
    await deps.routing.withdraw(claim.claim);
  } catch (error) {
    throw new PastNoReturn(error);
  }
  deps.reporter.event({ kind: "phase", phase: "tail", at: "done" });
  return { ...result, unconfirmed: await tellUnconfirmed(deps) };
}

const notDone: ReadonlySet<ErrorCode> = new Set(["E_CUTOVER_NOT_DONE", "E_GATE_NOT_ARMED"]);

function isNotDone(error: unknown): boolean {
  return error instanceof ShardliftError && notDone.has(error.code);
}
