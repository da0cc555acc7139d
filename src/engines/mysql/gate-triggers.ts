import type { Claim, GateSpec } from "../engine.ts";
import type { GateContext } from "./gate-row.ts";
import { notArmed, openDdl } from "./gate-ddl.ts";
import { createTriggerSql, dropTriggerSql, gateTriggers, type GateTrigger } from "./gate-sql.ts";
import { query, queryArrays, type MysqlConnection } from "./query.ts";
import { quoteTable } from "./quote.ts";

/**
 * The gate's triggers at the server: how they stand, and how they get there.
 * Invariant: a trigger counts as ours only when name, table, event, timing, definer and text are exactly what
 * gate-sql.ts writes; the text alone decides what a write is asked.
 */

/** A trigger as the server shows it. */
interface StandingTrigger {
  readonly name: string;
  readonly event: string;
  readonly timing: string;
  readonly definer: string;
  readonly body: string;
}

/** The triggers of a job's gate at this server. */
export function triggersOf(context: GateContext, claim: Pick<Claim, "job">, spec: GateSpec): GateTrigger[] {
  const { database } = context.connector.endpoint;
  return gateTriggers(spec, { job: claim.job, tool: context.tool.user, database });
}

/** Brings the tables to exactly these triggers. Equal ones stay; others of the same name are replaced, if they may. */
export async function createTriggers(
  context: GateContext,
  triggers: readonly GateTrigger[],
  { mayReplace }: { readonly mayReplace: boolean },
): Promise<void> {
  await using ddl = await openDdl(context, [...new Set(triggers.map(({ table }) => table))]);
  for (const { trigger, reason } of await differences(ddl.reader, triggers, context.tool.definer)) {
    if (reason !== missing) {
      if (!mayReplace) throw notArmed(new Error(`the gate is closed and ${describe(trigger)} ${reason}`));
      await ddl.run(dropTriggerSql(trigger));
    }
    // 1359: a try whose answer was an interruption has created it nevertheless; the check below looks at its text.
    await ddl.run(createTriggerSql(trigger), [1359]);
  }
  const problem = await whyTriggersDiffer(ddl.reader, triggers, context.tool.definer);
  if (problem !== undefined) throw notArmed(new Error(problem));
}

export async function dropTriggers(context: GateContext, triggers: readonly GateTrigger[]): Promise<void> {
  await using ddl = await openDdl(context, [...new Set(triggers.map(({ table }) => table))]);
  for (const own of byTable(triggers)) {
    const standing = await standingTriggers(ddl.reader, own[0]);
    for (const trigger of own) if (standing.has(trigger.name)) await ddl.run(dropTriggerSql(trigger));
  }
}

/** What is missing or not as it should be; undefined when every trigger stands with our text and definer. */
export async function whyTriggersDiffer(
  connection: MysqlConnection,
  triggers: readonly GateTrigger[],
  definer: string,
): Promise<string | undefined> {
  const [first] = await differences(connection, triggers, definer);
  return first === undefined ? undefined : `${describe(first.trigger)} ${first.reason}`;
}

function describe({ name, event, table }: GateTrigger): string {
  return `trigger ${name} (${event} on ${table})`;
}

interface Difference {
  readonly trigger: GateTrigger;
  readonly reason: string;
}

const missing = "is missing";

/** One query a table: this is also asked while the gate is held. */
async function differences(
  connection: MysqlConnection,
  triggers: readonly GateTrigger[],
  definer: string,
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const own of byTable(triggers)) {
    const standing = await standingTriggers(connection, own[0]);
    for (const trigger of own) {
      const seen = standing.get(trigger.name);
      const reason = seen === undefined ? missing : await whyDifferent(connection, seen, trigger, definer);
      if (reason !== undefined) found.push({ trigger, reason });
    }
  }
  return found;
}

function byTable(triggers: readonly GateTrigger[]): readonly [GateTrigger, ...GateTrigger[]][] {
  return [...Map.groupBy(triggers, ({ table }) => table).values()] as [GateTrigger, ...GateTrigger[]][];
}

async function standingTriggers(
  connection: MysqlConnection,
  { database, table }: Pick<GateTrigger, "database" | "table">,
): Promise<ReadonlyMap<string, StandingTrigger>> {
  // Equality on schema and table lets MariaDB open this one table instead of every table of the schema.
  const rows = await query<StandingTrigger>(
    connection,
    `SELECT TRIGGER_NAME AS name, EVENT_MANIPULATION AS event, ACTION_TIMING AS timing, DEFINER AS definer,
            ACTION_STATEMENT AS body
       FROM information_schema.TRIGGERS
      WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?`,
    [database, table],
  );
  return new Map(rows.map((row) => [row.name, row]));
}

async function whyDifferent(
  connection: MysqlConnection,
  standing: StandingTrigger,
  wanted: GateTrigger,
  definer: string,
): Promise<string | undefined> {
  if (standing.timing !== "AFTER" || standing.event !== wanted.event)
    return `fires ${standing.timing} ${standing.event}`;
  if (standing.definer !== definer) return `has the definer ${standing.definer}, not ${definer}`;
  if (standing.body === wanted.body) return undefined;
  // MySQL shows doubled quotes and backticks wrongly here (measured on 9.7: `k``x` reads `kk`xx`); SHOW CREATE
  // TRIGGER has the text as it was written.
  const name = quoteTable(wanted.database, wanted.name);
  const [row] = await queryArrays(connection, `SHOW CREATE TRIGGER ${name}`);
  return String(row?.[2]).endsWith(` FOR EACH ROW ${wanted.body}`) ? undefined : "has another text than ours";
}
