import { createHash } from "node:crypto";
import { z } from "zod";
import { canonicalJson } from "../control/json.ts";
import { sliceSchema } from "../control/slice-schema.ts";
import type { TableShape } from "../engines/engine.ts";
import { InputError } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import type { Slice } from "../model/slice.ts";
import { mapSchema } from "../routing/map-codec.ts";

/**
 * A plan is the difference of two routing maps: which slices move from which shard to which, and what it takes. It is
 * plain data, made without touching anything, and can be saved and run later; then everything that it was made from
 * is compared again, and a stale plan is refused (E_STALE_PLAN).
 */
const tableSchema = z.strictObject({
  name: z.string(),
  shardKey: z.string(),
  keyType: z.enum(["integer", "decimal", "binary", "temporal"]),
  primaryKey: z.array(z.string()),
  keyOrder: z.enum(["client", "server"]),
  secondaryUniqueKeys: z.array(z.string()),
  estimatedRows: z.number(),
  estimatedBytes: z.number(),
  fingerprint: z.string(),
  detail: z.unknown(),
});

const moveSchema = z.strictObject({
  /** Stable within the plan: names the move in journal, checkpoint and progress rows. */
  id: z.string(),
  slice: sliceSchema.transform((slice): Slice => slice),
  from: z.string(),
  to: z.string(),
});

const stepSchema = z.strictObject({
  phase: z.string(),
  what: z.string(),
  statements: z.array(z.string()).readonly(),
});

const planSchema = z.strictObject({
  schema: z.literal("shardlift.plan/v1"),
  kind: z.literal("split"),
  keyspace: z.string(),
  createdAt: z.string(),
  before: mapSchema.transform((map): RoutingMap => map),
  after: mapSchema.transform((map): RoutingMap => map),
  moves: z.array(moveSchema).readonly(),
  tables: z.array(tableSchema.transform((table): TableShape => table)).readonly(),
  /** Shard name → the server that the plan was made against. */
  servers: z.record(z.string(), z.strictObject({ flavor: z.string(), version: z.string(), id: z.string() })),
  steps: z.array(stepSchema).readonly(),
  estimates: z.strictObject({
    rows: z.number(),
    bytes: z.number(),
    copySeconds: z.strictObject({ low: z.number(), high: z.number() }),
    pauseMs: z.strictObject({ expected: z.number(), budget: z.number() }),
    basis: z.string(),
  }),
  warnings: z.array(z.string()).readonly(),
});

export type Plan = Readonly<z.output<typeof planSchema>>;
export type Move = Plan["moves"][number];
export type PlanStep = Plan["steps"][number];

/** The content hash that names a plan; the same plan has the same hash wherever it is read. */
export function planHash(plan: Plan): string {
  return createHash("sha256").update(canonicalJson(plan)).digest("hex").slice(0, 16);
}

/** Reads a saved plan; every problem is listed with its path in the file. */
export function parsePlan(text: string, where: string): Plan {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError("E_USAGE", [
      {
        where,
        found: `not JSON (${(cause as Error).message})`,
        accepted: "a file made by `shardlift plan … --out`",
      },
    ]);
  }
  const result = planSchema.safeParse(value);
  if (result.success) return result.data;
  throw new InputError(
    "E_USAGE",
    result.error.issues.map((issue) => ({
      where: `${where}: ${issue.path.join(".") || "(top)"}`,
      found: issue.message,
      accepted: "a file made by `shardlift plan … --out`",
    })),
  );
}
