import { formatSlice } from "../model/slice.ts";
import { formatBytes, formatCount, formatDuration } from "../ui/format.ts";
import { ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import { planHash, type Plan } from "./plan.ts";

/**
 * A plan as people read it: what moves, what it takes, what will be run, what to watch out for. The exact statements
 * are long (six triggers a table and shard), so they are told only when asked for.
 */
export function planText(plan: Plan, options: { readonly statements: boolean }): string {
  const { estimates } = plan;
  return [
    `split of keyspace ${plan.keyspace}, epoch ${plan.before.epoch} → ${plan.after.epoch}   (plan ${planHash(plan)})`,
    "",
    "who owns what",
    ...ownerLines(plan),
    "",
    "tables",
    ...plan.tables.map(
      (table) =>
        `  ${table.name}  by ${table.shardKey}, primary key (${table.primaryKey.join(", ")}), about ${formatCount(table.estimatedRows)} rows, ${formatBytes(table.estimatedBytes)}`,
    ),
    "",
    "steps",
    ...plan.steps.flatMap((step, index) => [
      `  ${index + 1}. ${step.phase}: ${step.what}`,
      ...(options.statements ? step.statements : summaries(step.statements)).flatMap((statement) =>
        statement.split("\n").map((line) => `       ${line}`),
      ),
    ]),
    "",
    `moves ${formatCount(estimates.rows)} rows (${estimates.basis}), about ${formatBytes(estimates.bytes)}`,
    `copy takes about ${formatDuration(estimates.copySeconds.low * 1_000)} to ${formatDuration(estimates.copySeconds.high * 1_000)} on a small machine`,
    `writes to the slice pause for about ${formatDuration(estimates.pauseMs.expected)}, at most ${formatDuration(estimates.pauseMs.budget)}; reads and other slices never wait`,
    ...(plan.warnings.length === 0
      ? []
      : ["", "watch out for", ...plan.warnings.map((warning) => `  ${warning}`)]),
  ].join("\n");
}

/** Triggers are counted, everything else is short enough to be shown. */
function summaries(statements: readonly string[]): string[] {
  const isTrigger = (statement: string): boolean => statement.startsWith("CREATE TRIGGER");
  const triggers = statements.filter(isTrigger).length;
  const others = statements.filter((statement) => !isTrigger(statement));
  return triggers === 0
    ? others
    : [...others, `CREATE TRIGGER …, ${triggers} of them (--statements shows all)`];
}

function ownerLines(plan: Plan): string[] {
  const shards = [...new Set(plan.moves.flatMap((move) => [move.from, move.to]))];
  const owned = (map: RoutingMap, shard: string): string => {
    const keyspace = map.keyspaces[plan.keyspace];
    const slice = keyspace === undefined ? [] : ownedSlice(keyspace, shard);
    return slice.length === 0 ? "nothing" : formatSlice(slice);
  };
  return shards.map((shard) => `  ${shard}  ${owned(plan.before, shard)}  →  ${owned(plan.after, shard)}`);
}
