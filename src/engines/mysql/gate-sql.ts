import { createHash } from "node:crypto";
import { ShardliftError } from "../../errors/error.ts";
import { normalizeSlice, type Slice } from "../../model/slice.ts";
import { refusalPrefix, type Refusal } from "../../routing/refusal.ts";
import type { Claim, GateSpec } from "../engine.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { quoteIdentifier, quoteString, quoteTable } from "./quote.ts";
import { sliceWhere } from "./slice-sql.ts";
import { mysqlTable, type MysqlTable } from "./table.ts";

/**
 * The SQL text of the gate: its row and its triggers. Pure.
 *
 * - Triggers are AFTER: before the row is written the server has not yet set an AUTO_INCREMENT key, and a BEFORE
 *   trigger of the application may still change the shard key (facts/gate 1.3, both leak).
 * - The slice is tested first, since most rows are none of our business; the locked read comes last (facts/gate 2).
 * - The shared lock on the gate's row is what the closer waits for: it is held to the writer's commit.
 * - No row counts as closed: whatever happens to the gate, it fails towards refusing.
 * - The tool passes by the name with which it logged in, compared by bytes. A session variable could be set by
 *   anybody, and the collation of USER() would let `SHARDLIFT` pass for `shardlift` (facts/gate 7).
 *
 * Invariant: the text depends on the job, the role, the table, the slice and the account alone, never on token or
 * epoch, so that a resumed job finds its triggers as they are.
 */
export interface GateTrigger {
  readonly database: string;
  readonly table: string;
  readonly event: TriggerEvent;
  readonly name: string;
  /** The text after FOR EACH ROW. */
  readonly body: string;
}

export type TriggerEvent = "INSERT" | "UPDATE" | "DELETE";

const events: readonly TriggerEvent[] = ["INSERT", "UPDATE", "DELETE"];

/** Name of the account that passes, as `USER()` shows it. */
export type ToolUser = string;

/** `database` is this server's own: a shape may have been described at another server. */
export function gateTriggers(
  spec: GateSpec,
  { job, tool, database }: { readonly job: string; readonly tool: ToolUser; readonly database: string },
): GateTrigger[] {
  return spec.tables.flatMap((shape) => {
    const table = mysqlTable(shape);
    return events.map((event) => ({
      database,
      table: table.name,
      event,
      name: triggerName(job, table.name, event),
      body: triggerBody(spec, table, event, job, tool),
    }));
  });
}

/** At most 28 characters; the server's limit is 64. */
export function triggerName(job: string, table: string, event: TriggerEvent): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([job, table]))
    .digest("hex");
  return `shardlift_${hash.slice(0, 16)}_${event.charAt(0).toLowerCase()}`;
}

/** The definer is the session's own account: without naming one, no right beyond TRIGGER is needed. */
export function createTriggerSql({ database, table, event, name, body }: GateTrigger): string {
  return `CREATE TRIGGER ${quoteTable(database, name)} AFTER ${event} ON ${quoteTable(database, table)} FOR EACH ROW ${body}`;
}

export function dropTriggerSql({ database, name }: GateTrigger): string {
  return `DROP TRIGGER IF EXISTS ${quoteTable(database, name)}`;
}

export const gateTable = `${quoteIdentifier(ledgerDatabase)}.gate`;

export function insertGateSql(spec: GateSpec, claim: Claim): string {
  const state = spec.role === "gate" ? "open" : "closed";
  const values = [claim.job, claim.storeId, claim.token, spec.role, state, spec.afterEpoch];
  return (
    `INSERT INTO ${gateTable} (job, store_id, token, role, state, after_epoch) VALUES ` +
    `(${values.map((value) => (typeof value === "string" ? quoteString(value) : value)).join(", ")})`
  );
}

function triggerBody(
  spec: GateSpec,
  table: MysqlTable,
  event: TriggerEvent,
  job: string,
  tool: ToolUser,
): string {
  const isApplication = `CAST(SUBSTRING_INDEX(USER(), '@', 1) AS BINARY) <> ${toolLiteral(tool)}`;
  const inSlice = anyImage(event, (image) => sliceWhere(table, spec.slice, image));
  const gate = [
    `IF (${inSlice}) AND ${isApplication} THEN BEGIN`,
    "  DECLARE gate_state VARCHAR(16) CHARACTER SET ascii;",
    "  DECLARE gate_epoch BIGINT UNSIGNED;",
    "  DECLARE refusal VARCHAR(128) CHARACTER SET ascii;",
    `  SELECT state, after_epoch INTO gate_state, gate_epoch FROM ${gateTable} WHERE job = ${quoteString(job)} LOCK IN SHARE MODE;`,
    "  IF gate_state IS NULL OR gate_state <> 'open' THEN",
    ...refuse(spec.role === "gate" ? "moved" : "not-open", job, "    "),
    "  END IF;",
    "END; END IF;",
  ];
  const fence =
    spec.role === "mirror" ? fenceOf(table, event, [...spec.slice, ...spec.owned], isApplication, job) : [];
  return ["BEGIN", ...fence, ...gate, "END"].join("\n");
}

/** The mirror's first half: whatever the state, no row that this shard does not own is written (facts/pitfalls 22). */
function fenceOf(
  table: MysqlTable,
  event: TriggerEvent,
  served: Slice,
  isApplication: string,
  job: string,
): string[] {
  // IS NOT TRUE: a NULL key counts as outside.
  const outside = (image: string): string =>
    `${sliceWhere(table, normalizeSlice(table.keyType, served), image)} IS NOT TRUE`;
  return [
    `IF (${anyImage(event, outside)}) AND ${isApplication} THEN BEGIN`,
    "  DECLARE gate_epoch BIGINT UNSIGNED;",
    "  DECLARE refusal VARCHAR(128) CHARACTER SET ascii;",
    // No lock: opening the mirror must not wait for writers that it does not concern.
    `  SELECT after_epoch INTO gate_epoch FROM ${gateTable} WHERE job = ${quoteString(job)};`,
    ...refuse("not-owned", job, "  "),
    "END; END IF;",
  ];
}

function refuse(kind: Refusal["kind"], job: string, indent: string): string[] {
  return [
    `${indent}SET refusal = CONCAT(${quoteString(refusalPrefix(kind, job))}, COALESCE(gate_epoch, 0));`,
    `${indent}SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1644, MESSAGE_TEXT = refusal;`,
  ];
}

/** A change concerns the gate when the row was in its reach before or is afterwards. */
function anyImage(event: TriggerEvent, condition: (image: "OLD" | "NEW") => string): string {
  switch (event) {
    case "INSERT":
      return condition("NEW");
    case "DELETE":
      return condition("OLD");
    case "UPDATE":
      return `${condition("OLD")} OR ${condition("NEW")}`;
  }
}

/**
 * The part of USER() before the first `@` is compared, so a name with an `@` in it would let its own first half pass;
 * and a name that is not plain ASCII would be compared in another encoding than it was written in.
 */
function toolLiteral(tool: ToolUser): string {
  if (/^[\x21-\x3f\x41-\x7e]{1,80}$/.test(tool)) return quoteString(tool);
  throw new ShardliftError("E_PREFLIGHT", `a gate can not let the account "${tool}" pass by its name`, {
    next: "Give shardlift an account whose name has ASCII letters, digits and signs only, and no @.",
  });
}
