import type { Check, CheckContext, Finding, Session, TableSpec } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import type { ErrorCode } from "../errors/codes.ts";
import type { KeyType } from "../model/key.ts";
import type { Slice } from "../model/slice.ts";
import { counterRoom } from "./checks/counter-room.ts";
import { distinctServers } from "./checks/distinct-servers.ts";
import { foreignStore } from "./checks/foreign-store.ts";
import { sameFlavor } from "./checks/same-flavor.ts";
import { targetRows } from "./checks/target-rows.ts";

/**
 * Looks at both ends of every move before anything is changed, and finds everything at once: an operator should not
 * have to mend one thing to learn of the next. Reads only.
 * The order of the findings is fixed: by rule, then by move, then source before target.
 */
export interface PreflightRequest {
  /** The engine's own rules; the rules that hold for every engine stand around them. */
  readonly checks: readonly Check[];
  readonly moves: readonly { readonly source: Session; readonly target: Session; readonly slice: Slice }[];
  readonly tables: readonly TableSpec[];
  readonly keyType: KeyType;
  readonly storeId: string | undefined;
  readonly signal: AbortSignal;
}

export interface PreflightReport {
  /** Blockers and warnings, and one `ok` for each rule at each end that had nothing to say. */
  readonly findings: readonly Finding[];
  /** What a refusal ends with: the rule's own code where all blockers agree on one. Undefined without a blocker. */
  readonly code: ErrorCode | undefined;
}

export async function runPreflight(request: PreflightRequest): Promise<PreflightReport> {
  const checks = [sameFlavor, distinctServers, foreignStore, ...request.checks, targetRows, counterRoom];
  const findings: Finding[] = [];
  for (const check of checks) {
    for (const context of contextsOf(request)) {
      if (!check.roles.includes(context.role)) continue;
      request.signal.throwIfAborted();
      findings.push(...(await runCheck(check, context)));
    }
  }
  return { findings: distinct(findings), code: codeOf(findings, checks) };
}

/** Throws one error with every blocker; returns when there is none. */
export function refuseBlockers({ findings, code }: PreflightReport): void {
  if (code === undefined) return;
  throw new PreflightError(
    findings.filter((finding) => finding.level === "blocker"),
    code,
  );
}

/** Carries the findings, so that the terminal can show them as a list and `--json` as data; the message counts them. */
export class PreflightError extends ShardliftError {
  override readonly name = "PreflightError";
  readonly findings: readonly Finding[];

  constructor(findings: readonly Finding[], code: ErrorCode) {
    const blockers = findings.filter(({ level }) => level === "blocker");
    const names = [...new Set(blockers.map(({ check }) => check))].join(", ");
    super(code, `${blockers.length} ${blockers.length === 1 ? "blocker" : "blockers"} found: ${names}`);
    this.findings = findings;
  }
}

function contextsOf({ moves, tables, keyType, storeId }: PreflightRequest): CheckContext[] {
  return moves.flatMap(({ source, target, slice }): CheckContext[] => {
    const shared = { tables, keyType, storeId, slice, moves: moves.length };
    return [
      { ...shared, role: "source", session: source, peer: target },
      { ...shared, role: "target", session: target, peer: source },
    ];
  });
}

async function runCheck(check: Check, context: CheckContext): Promise<readonly Finding[]> {
  const { shard, address } = context.session.server;
  const where = `${shard} (${address})`;
  try {
    const findings = await check.run(context);
    return findings.length > 0 ? findings : [{ check: check.name, level: "ok", where, why: "", fix: "" }];
  } catch (error) {
    // A server that is gone ends the run; a rule that can not be checked is itself a reason not to start.
    if (error instanceof ShardliftError && error.code !== "E_PREFLIGHT") throw error;
    const message = error instanceof Error ? error.message : String(error);
    return [
      {
        check: check.name,
        level: "blocker",
        where,
        why: `could not be checked: ${message}`,
        fix: "mend what the message says (usually a missing right), then run `shardlift check` again",
      },
    ];
  }
}

/** One shard in several moves has its findings once. */
function distinct(findings: readonly Finding[]): Finding[] {
  return [...new Map(findings.map((finding) => [JSON.stringify(finding), finding])).values()];
}

function codeOf(findings: readonly Finding[], checks: readonly Check[]): ErrorCode | undefined {
  const refusing = new Set(findings.flatMap(({ level, check }) => (level === "blocker" ? check : [])));
  const codes = new Set(checks.flatMap(({ name, code }) => (refusing.has(name) ? code : [])));
  const [first] = codes;
  return codes.size > 1 ? "E_PREFLIGHT" : first;
}
