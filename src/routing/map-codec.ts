import { z } from "zod";
import { encodeJson } from "../control/json.ts";
import { limits } from "../control/limits.ts";
import { boundSchema } from "../control/slice-schema.ts";
import { ShardliftError } from "../errors/error.ts";
import { isKeyValue } from "../model/key.ts";
import { rangeProblems, type Keyspace, type RoutingMap } from "../model/routing-map.ts";

/**
 * Routing maps as JSON, in and out, in the control store and in published files. What is read is checked as strictly
 * as what is written: a map with a gap, an overlap or a key that is not canonical never reaches a router.
 */
const name = z.string().min(1);

const keyspaceSchema = z
  .strictObject({
    function: z.literal("range"),
    keyType: z.enum(["integer", "decimal", "binary", "temporal"]),
    tables: z.record(name, z.strictObject({ key: name })),
    ranges: z.array(z.strictObject({ from: boundSchema, to: boundSchema, shard: name })),
  })
  .superRefine((keyspace, context) => {
    for (const message of keyspaceProblems(keyspace))
      context.addIssue({ code: "custom", message, path: ["ranges"] });
  });

export const mapSchema = z.strictObject({
  epoch: z.int().positive(),
  keyspaces: z.record(name, keyspaceSchema),
});

/** One epoch of the history, as the control store keeps it. Never overwritten, so its stamp tells for ever who wrote it. */
export const mapVersionSchema = z.strictObject({
  map: mapSchema,
  /** The job that flipped to this map, and the epoch that its plan was made from; null for the first map. */
  flip: z.strictObject({ job: z.string(), token: z.int(), planEpoch: z.int().positive() }).nullable(),
  at: z.iso.datetime(),
  stamp: z.string().min(1),
});

export type MapVersion = z.infer<typeof mapVersionSchema>;

/** The pointer. */
export const currentMapSchema = z.strictObject({ epoch: z.int().positive(), stamp: z.string().min(1) });

export const mapDocumentSchema = z.strictObject({
  schema: z.literal("shardlift.map/v1"),
  /** Whose map it is: epochs of different stores can not be compared. */
  store: z.string(),
  ...mapSchema.shape,
});

export type MapDocument = z.infer<typeof mapDocumentSchema>;

/** A map as other programs read it. */
export function mapDocument(map: RoutingMap, store: string): MapDocument {
  return mapDocumentSchema.parse({
    schema: "shardlift.map/v1",
    store,
    epoch: map.epoch,
    keyspaces: map.keyspaces,
  });
}

export function encodeMapVersion(version: {
  readonly [K in keyof MapVersion]: MapVersion[K] | RoutingMap;
}): Uint8Array {
  const value = encodeJson(mapVersionSchema.parse(version));
  if (value.byteLength > limits.valueBytes) {
    throw new ShardliftError(
      "E_CONTROL_STORE",
      `the routing map has ${value.byteLength} bytes, more than a control store carries`,
      {
        next: `merge ranges until the map has less than ${limits.valueBytes} bytes`,
      },
    );
  }
  return value;
}

function keyspaceProblems(keyspace: Keyspace): string[] {
  const keys = keyspace.ranges
    .flatMap(({ from, to }) => [from, to])
    .flatMap((bound) => (bound.at === "KEY" ? [bound.key] : []));
  const wrong = keys.filter((key) => !isKeyValue(keyspace.keyType, key));
  if (wrong.length > 0) return wrong.map((key) => `${key} is not a canonical ${keyspace.keyType} key`);
  return rangeProblems(keyspace.keyType, keyspace.ranges);
}
