import { z } from "zod";
import { hostPortPattern, parseHostPort } from "../lib/host-port.ts";
import { durationPattern, parseDuration, parseRate, ratePattern } from "../lib/units.ts";

/**
 * What may stand in `shardlift.yaml`: one schema gives the types, the checks and the JSON Schema for editors
 * (`shardlift config schema`). It knows single values only; what must hold between places is in rules.ts.
 * Convention: the `error` of every part is the text after "accepted:" in a problem. Unknown keys are refused
 * everywhere, since a misspelt setting that is ignored is found out in production.
 */

const durationText = "a duration with its unit, such as 500ms, 2s or 24h";
function duration(min: string, max: string) {
  const accepted = `${durationText}, from ${min} to ${max}`;
  const [low, high] = [parseDuration(min) ?? Number.NaN, parseDuration(max) ?? Number.NaN];
  return z
    .string({ error: accepted })
    .regex(durationPattern, { error: accepted })
    .transform((text, context) => {
      const ms = parseDuration(text);
      if (ms !== undefined && ms >= low && ms <= high) return ms;
      context.addIssue({ code: "custom", message: accepted, input: text });
      return z.NEVER;
    });
}

function count(min: number, max: number) {
  const error = `a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

const rateText = "bytes per second with their unit, such as 20MB/s, or unlimited";
const rate = z
  .string({ error: rateText })
  .regex(ratePattern, { error: rateText })
  .transform((text, context) => {
    const bytes = parseRate(text);
    if (bytes !== undefined) return bytes;
    context.addIssue({ code: "custom", message: rateText, input: text });
    return z.NEVER;
  });

const someText = (accepted: string) => z.string({ error: accepted }).min(1, { error: accepted });

/** Shard and keyspace names are typed as arguments and stand in lists like `s0,s1`. */
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, {
  error: "a name of letters, digits, `_`, `-` and `.`, at most 63 long",
});

const hostText = "host:port, such as db1.example:3306 (an IPv6 address in brackets)";
const mysqlPort = 3306;
const host = z
  .string({ error: hostText })
  .regex(hostPortPattern, { error: hostText })
  .transform((text, context) => {
    const parsed = parseHostPort(text, mysqlPort);
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: "custom", message: hostText, input: text });
    return z.NEVER;
  });

export const shardSchema = z.strictObject({
  engine: z
    .enum(["mysql", "mariadb"], { error: "mysql (for MySQL and MariaDB)" })
    .transform(() => "mysql" as const)
    .describe("The database engine; mariadb is another word for mysql."),
  hosts: z
    .array(host, {
      error: "a list of host:port, the primary first, such as [db1:3306, db1r:3306]",
    })
    .min(1, { error: "at least one host:port" })
    .describe("host:port of the primary and its replicas; without a port, 3306."),
  user: someText("the name of the database account").describe(
    "The database account; see `shardlift check` for its grants.",
  ),
  passwordFile: someText("the path of a file that holds the password only")
    .optional()
    .describe("A file that holds the password; one line break at its end is ignored."),
  password: z
    .string({ error: "${ENV:NAME}, or passwordFile" })
    .regex(/^\$\{ENV:[A-Za-z_][A-Za-z0-9_]*\}$/, {
      error: "${ENV:NAME}, or passwordFile; never the password itself",
    })
    .optional()
    .describe("${ENV:NAME} takes the password from an environment variable. The password itself is refused."),
  database: someText("the name of the database that holds the tables").describe(
    "The database that holds the tables.",
  ),
});

const boundText = "MIN, MAX or a key value";
/** A YAML number arrives here as the text that stands in the file, so that no digit is lost (document.ts). */
const bound = z.union([z.string(), z.number()], { error: boundText });

const table = z.strictObject({
  key: someText("the column that holds the shard key")
    .optional()
    .describe("Where it differs from the keyspace's key."),
  mode: z
    .never({ error: "no mode; reference tables come later, so leave the table out for now" })
    .optional()
    .describe("Not supported yet."),
});

export const keyspaceSchema = z.strictObject({
  function: z
    .literal("range", { error: "range (hash buckets come later)" })
    .describe("How a key finds its shard."),
  keyType: z
    .enum(["integer", "decimal", "binary", "temporal"], { error: "integer, decimal, binary or temporal" })
    .prefault("integer")
    .describe("How keys are ordered; it must fit the column's type."),
  key: someText("the column that holds the shard key").describe("The column that holds the shard key."),
  tables: z
    .record(someText("the name of a table"), table, {
      error: "table names, such as {orders: {}, order_items: {key: buyer_id}}",
    })
    .refine((tables) => Object.keys(tables).length > 0, { error: "at least one table" })
    .describe("The tables that are sharded together."),
  map: z
    .array(
      z.strictObject({
        from: bound.describe("Inclusive lower end: MIN or a key value."),
        to: bound.describe("Exclusive upper end: MAX or a key value."),
        shard: someText("the name of a shard").describe("The shard that owns the range."),
      }),
      { error: "a list of ranges, such as [{from: MIN, to: MAX, shard: s0}]" },
    )
    .min(1, { error: "at least one range, such as {from: MIN, to: MAX, shard: s0}" })
    .describe(
      "Who owns what at the start. Only the first map is taken from here; then the control store owns it.",
    ),
});

export const configFile = z.strictObject({
  version: z.literal(1, { error: "1" }).describe("The version of this file's format."),
  control: z
    .strictObject({
      type: z.literal("sqlite", { error: "sqlite (other control stores come later)" }),
      path: someText("the path of a file").prefault(".shardlift/control.db"),
    })
    .prefault({ type: "sqlite" })
    .describe("Where maps, jobs and journals are kept. A SQLite file serves one host."),
  shards: z
    .record(name, shardSchema, { error: "shard names with their servers" })
    .refine((shards) => Object.keys(shards).length > 0, { error: "at least one shard" })
    .describe("The shards by name."),
  keyspaces: z
    .record(name, keyspaceSchema, { error: "keyspace names with their tables and map" })
    .refine((keyspaces) => Object.keys(keyspaces).length > 0, { error: "at least one keyspace" })
    .describe("Tables that are sharded together, by name."),
  proxies: z
    .array(
      z.strictObject({
        type: z.literal("file", { error: "file (other publishers come later)" }),
        path: someText("the path of the file to write").describe(
          "A JSON file with the map, replaced atomically.",
        ),
      }),
      { error: "a list, such as [{type: file, path: routing.json}]" },
    )
    .prefault([])
    .describe("Who is told of a new routing map."),
  copy: z
    .strictObject({
      threads: count(1, 64).prefault(4).describe("Chunks that are copied at the same time."),
      chunkTarget: duration("50ms", "10s").prefault("500ms").describe("How long one chunk should take."),
      rate: rate.prefault("unlimited").describe("The most that a copy may read from a source."),
      deferIndexes: z
        .boolean({ error: "true or false" })
        .prefault(true)
        .describe("Build non-unique indexes of a new target table after its copy."),
    })
    .prefault({})
    .describe("The bulk copy."),
  throttle: z
    .strictObject({
      maxThreadsRunning: count(2, 100_000)
        .optional()
        .describe("No new chunk begins while a server runs more statements than this at once."),
      historyList: count(1_000, 1_000_000_000)
        .optional()
        .describe("No new chunk begins while InnoDB keeps more old row versions than this."),
    })
    .prefault({})
    .describe("When the copy waits for the servers. The tail is never held back."),
  verify: z
    .strictObject({
      sample: z
        .literal("100%", { error: "100% (every row is verified; sampling comes later)" })
        .prefault("100%"),
    })
    .prefault({})
    .describe("The comparison of source and target before the flip."),
  cutover: z
    .strictObject({
      mode: z
        .enum(["manual", "auto"], { error: "manual or auto" })
        .prefault("manual")
        .describe("manual waits for `shardlift cutover`; auto flips as soon as everything is verified."),
      // A server ends the silent connection that holds the gate after two seconds (engines/mysql/gate-closer.ts).
      maxPause: duration("10ms", "1500ms")
        .prefault("500ms")
        .describe("The longest that writes to the slice may wait until the gate is closed for good."),
      maxLag: duration("10ms", "1m").prefault("500ms").describe("The lag under which a cutover may begin."),
      retries: count(0, 100).prefault(5).describe("Further attempts after one that ran over its budget."),
      flipDeadline: duration("100ms", "1m")
        .prefault("2s")
        .describe("How long the control store may take for the flip before the gate is opened again."),
    })
    .prefault({})
    .describe("The moment at which the slice changes its shard."),
  rollback: z
    .strictObject({
      reverseWindow: duration("0s", "90d").prefault("24h").describe("How long a rollback stays possible."),
    })
    .prefault({})
    .describe("The way back after the flip."),
});

/** A section of which only the heading is left (`copy:`) counts as left out, not as wrong. */
export function withoutEmptySections(data: unknown): unknown {
  if (typeof data !== "object" || data === null || Array.isArray(data)) return data;
  return Object.fromEntries(
    Object.entries(data).filter(([key, value]) => value !== null || !(key in configFile.shape)),
  );
}

/** The file after checking: durations in milliseconds, rates in bytes per second, defaults filled in. */
export type ConfigFile = z.output<typeof configFile>;

/** For editors and for `shardlift config schema`: draft 2020-12, what may be written, not what it becomes. */
export function configJsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(configFile, { io: "input", target: "draft-2020-12" });
  return { $schema, title: "shardlift.yaml", description: "Configuration of shardlift", ...rest };
}
