import type { GateSpec, ServerIdentity, TableShape } from "../engines/engine.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { formatSlice } from "../model/slice.ts";
import type { Move, Plan, PlanStep } from "./plan.ts";

/** What a move needs besides the maps; gathered by reading only. */
export interface MoveFacts {
  readonly move: Move;
  /** Rows of the slice by table, counted up to a limit. */
  readonly rows: ReadonlyMap<string, { readonly count: number; readonly exact: boolean }>;
  /** Tables that do not exist at the target yet. */
  readonly missingTables: readonly string[];
  readonly gate: { readonly spec: GateSpec; readonly statements: readonly string[] };
  readonly mirror: { readonly spec: GateSpec; readonly statements: readonly string[] };
}

export interface PlanInput {
  readonly keyspace: string;
  readonly createdAt: string;
  readonly before: RoutingMap;
  readonly after: RoutingMap;
  readonly tables: readonly TableShape[];
  readonly servers: readonly ServerIdentity[];
  readonly moves: readonly MoveFacts[];
  readonly deferIndexes: boolean;
  readonly maxPauseMs: number;
}

/** Rows a second of one copy on two cores (test/bench/split.ts): the range of an estimate, never used for progress. */
const copyRowsPerSecond = { slow: 30_000, fast: 150_000 };
/** Lock wait of about one transaction, drain, last keys, flip. */
const expectedPauseMs = 60;

/** Puts a plan together. Pure: the same input gives the same plan. */
export function makePlan(input: PlanInput): Plan {
  const counts = input.moves.flatMap(({ rows }) => [...rows]);
  const rows = counts.reduce((sum, [, { count }]) => sum + count, 0);
  const bytes = counts.reduce((sum, [table, { count }]) => sum + count * bytesPerRow(input.tables, table), 0);
  return {
    schema: "shardlift.plan/v1",
    kind: "split",
    keyspace: input.keyspace,
    createdAt: input.createdAt,
    before: input.before,
    after: input.after,
    moves: input.moves.map(({ move }) => move),
    tables: input.tables,
    servers: Object.fromEntries(
      input.servers.map(({ shard, flavor, version, id }) => [shard, { flavor, version, id }]),
    ),
    steps: input.moves.flatMap((facts) => stepsOf(input, facts)),
    estimates: {
      rows,
      bytes: Math.round(bytes),
      copySeconds: {
        low: Math.ceil(rows / copyRowsPerSecond.fast),
        high: Math.ceil(rows / copyRowsPerSecond.slow),
      },
      pauseMs: { expected: expectedPauseMs, budget: input.maxPauseMs },
      basis: counts.every(([, { exact }]) => exact)
        ? "rows counted"
        : "rows counted up to a limit, then statistics",
    },
    warnings: warningsOf(input),
  };
}

function bytesPerRow(tables: readonly TableShape[], name: string): number {
  const table = tables.find((t) => t.name === name);
  if (table === undefined || table.estimatedRows === 0) return 0;
  return table.estimatedBytes / table.estimatedRows;
}

function stepsOf(input: PlanInput, facts: MoveFacts): PlanStep[] {
  const { move, missingTables } = facts;
  const names = input.tables.map((table) => table.name).join(", ");
  const create = missingTables.map(
    (name) => `create table ${name} at ${move.to} with the structure that ${move.from} has`,
  );
  return [
    { phase: "prepare", what: `save the log position of ${move.from} at ${move.to}`, statements: create },
    {
      phase: "prepare",
      what: `arm the mirror gate at ${move.to}: nobody but the tool writes to the slice there until the flip`,
      statements: [...facts.mirror.statements],
    },
    {
      phase: "copy",
      what: `copy ${formatSlice(move.slice)} of ${names} from ${move.from} to ${move.to}`,
      statements: [],
    },
    { phase: "tail", what: `follow the log of ${move.from}, copy changed keys again`, statements: [] },
    ...(input.deferIndexes && missingTables.length > 0
      ? [
          {
            phase: "copy",
            what: `build the non-unique indexes of ${missingTables.join(", ")}`,
            statements: [],
          },
        ]
      : []),
    {
      phase: "verify",
      what: `compare ${move.from} and ${move.to} by chunk hashes, then by key`,
      statements: [],
    },
    { phase: "cutover", what: `arm the gate at ${move.from}`, statements: [...facts.gate.statements] },
    {
      phase: "cutover",
      what: `close the gate, drain, verify the last keys, flip the map to epoch ${input.after.epoch}, open ${move.to}`,
      statements: [],
    },
  ];
}

function warningsOf(input: PlanInput): string[] {
  return input.tables.flatMap((table) =>
    table.secondaryUniqueKeys.map(
      (key) =>
        `unique key ${key} of ${table.name} is checked by each shard alone: after the split it is not unique over shards unless it contains ${table.shardKey}`,
    ),
  );
}
