import { ShardliftError } from "../../../errors/error.ts";
import type { Position } from "../../engine.ts";
import type { Bindable, SqlRow } from "../query.ts";

/**
 * Whether a server's history goes on from where we have read. MySQL accepts any GTID set and sends what it has: a
 * foreign server would replay everything, and a promoted replica that lacks what we saw would never say so
 * (facts/ha-backup, 2). So it is asked before each dump, on the connection that becomes the dump.
 */
export interface HistoryQuestion {
  readonly flavor: "mysql" | "mariadb";
  /** Where the dump will start. */
  readonly from: Position;
  /** Everything of which a change may have been delivered; at or beyond `from`. */
  readonly seen: Position;
  /** An event can arrive before its transaction is visible; how long to wait for what we have seen. */
  readonly waitSeconds: number;
}

export type Ask = (sql: string, values?: readonly Bindable[]) => Promise<SqlRow[]>;

/** Undefined when the log can be read from there. */
export async function whyNotContinued(
  ask: Ask,
  question: HistoryQuestion,
): Promise<ShardliftError | undefined> {
  return question.flavor === "mysql" ? whyNotOnMysql(ask, question) : whyNotOnMariadb(ask, question);
}

async function whyNotOnMysql(ask: Ask, question: HistoryQuestion): Promise<ShardliftError | undefined> {
  const { from, seen } = question;
  if (!(await containsOnMysql(ask, seen, question.waitSeconds))) {
    const [row] = await ask("SELECT GTID_SUBTRACT(?, @@GLOBAL.gtid_executed) AS missing", [seen]);
    return foreign(text(row?.["missing"]));
  }
  const [row] = await ask("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, ?) AS missing", [from]);
  const missing = text(row?.["missing"]);
  if (missing === "") return undefined;
  return new ShardliftError("E_LOG_LOST", `the source has purged the log of ${missing}`);
}

async function containsOnMysql(ask: Ask, set: Position, waitSeconds: number): Promise<boolean> {
  const [now] = await ask("SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed) AS holds", [set]);
  if (Number(now?.["holds"]) === 1) return true;
  if (waitSeconds === 0) return false;
  const [later] = await ask("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) AS timedOut", [set, waitSeconds]);
  return Number(later?.["timedOut"]) === 0;
}

/**
 * The state names the newest transaction of every server in every domain. Whether the exact transaction of `from` is
 * in the log is found by the server itself when the dump starts (strict mode).
 */
async function whyNotOnMariadb(ask: Ask, question: HistoryQuestion): Promise<ShardliftError | undefined> {
  const [row] = await ask("SELECT @@GLOBAL.gtid_binlog_state AS state");
  const newest = new Map<string, bigint>();
  for (const gtid of split(text(row?.["state"]))) newest.set(gtid.source, gtid.sequence);
  const missing = split(question.seen).filter(
    ({ source, sequence }) => (newest.get(source) ?? -1n) < sequence,
  );
  return missing.length === 0 ? undefined : foreign(missing.map((gtid) => gtid.text).join(", "));
}

function split(
  position: Position,
): { readonly text: string; readonly source: string; readonly sequence: bigint }[] {
  return position
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")
    .map((entry) => {
      const dash = entry.lastIndexOf("-");
      return { text: entry, source: entry.slice(0, dash), sequence: BigInt(entry.slice(dash + 1)) };
    });
}

function foreign(missing: string): ShardliftError {
  return new ShardliftError("E_LOG_FOREIGN", `the source does not hold ${missing}, which this job has read`);
}

function text(value: unknown): string {
  // Long GTID sets are printed with line breaks.
  return typeof value === "string" ? value.replaceAll(/\s/g, "") : "";
}
