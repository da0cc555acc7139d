import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Connection, createConnection, type TypeCastField } from "mysql2";
import type { FoundRow, FoundRows } from "./compare-promises.ts";
import type { RowName } from "./write-ledger.ts";

/**
 * Reads what the servers hold, by plain SELECTs as the application's account. It shares no code with the tool that it
 * checks: who owns what comes from the published file, the statements and the digests are its own.
 *
 * Invariant: a row counts where the published map says that its shard owns its key; moved rows that stay at the old
 * shard behind the closed gate until `finish` do not.
 */
export interface ShardAddress {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** `[from, to)`; undefined ends are open. */
export interface OwnedRange {
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly shard: string;
}

export interface PublishedMap {
  readonly epoch: number;
  readonly ranges: readonly OwnedRange[];
}

/** Reads the published map (`shardlift.map/v1`). */
export async function readPublishedMap(file: string, keyspace: string): Promise<PublishedMap> {
  type End = { readonly at: string; readonly key?: string };
  type Range = { readonly from: End; readonly to: End; readonly shard: string };
  const map = JSON.parse(await readFile(file, "utf8")) as {
    readonly epoch: number;
    readonly keyspaces: Readonly<Record<string, { readonly ranges: readonly Range[] }>>;
  };
  const ranges = map.keyspaces[keyspace]?.ranges;
  if (ranges === undefined) throw new Error(`${file} does not name the keyspace ${keyspace}`);
  return {
    epoch: map.epoch,
    ranges: ranges.map(({ from, to, shard }) => ({ from: from.key, to: to.key, shard })),
  };
}

/** Every row of every shard, read through the slices that the map gives to it. */
export async function readOwnedRows(
  { ranges }: PublishedMap,
  shards: ReadonlyMap<string, ShardAddress>,
  options: {
    /** Shards that owned nothing before the split: what they hold outside their slices then is astray. */
    readonly newShards: readonly string[];
    readonly signal: AbortSignal;
  },
): Promise<FoundRows> {
  const found = { rows: new Map<RowName, FoundRow>(), twice: [] as RowName[], astray: [] as RowName[] };
  const readers = [...shards].map(async ([shard, address]) => {
    const owned = ranges.filter((range) => range.shard === shard).map(predicate);
    // It may have no tables yet, or half of a copy.
    if (owned.length === 0) return;
    const connection = await connect(address);
    try {
      for (const table of tables) {
        const where = owned.map((text) => text.replaceAll("KEY", table.key)).join(" OR ");
        for await (const [name, row] of rowsOf(connection, shard, table, where)) {
          options.signal.throwIfAborted();
          if (found.rows.has(name)) found.twice.push(name);
          found.rows.set(name, row);
        }
        if (!options.newShards.includes(shard)) continue;
        for await (const [name] of rowsOf(connection, shard, table, `NOT (${where})`))
          found.astray.push(name);
      }
    } finally {
      connection.destroy();
    }
  });
  // All of them end before the first error is told: then nobody reads from a server that is being ended.
  await Promise.allSettled(readers);
  await Promise.all(readers);
  return found;
}

function predicate({ from, to }: OwnedRange): string {
  const parts = [from === undefined ? "TRUE" : `KEY >= ${from}`, to === undefined ? "TRUE" : `KEY < ${to}`];
  return `(${parts.join(" AND ")})`;
}

/**
 * Which columns are read, and how. `fixed` ones are written by no writer after a row's insert. A FLOAT is shown with
 * six digits only, so it is read as a DOUBLE.
 */
const tables = [
  {
    name: "orders",
    id: "id",
    key: "user_id",
    fixed:
      "sku, country, discount + 0e0, weight, gift, placed_on, pickup, season, created_at, receipt, attrs, channels",
    changing: "status, amount, quantity, note, updated_at, cents",
  },
  {
    name: "order_items",
    id: "CONCAT(order_id, '/', line)",
    key: "buyer_id",
    fixed: "sku, price",
    changing: "qty",
  },
] as const;
type Table = (typeof tables)[number];

async function* rowsOf(
  connection: Connection,
  shard: string,
  table: Table,
  where: string,
): AsyncGenerator<[RowName, FoundRow]> {
  const fixedCount = table.fixed.split(",").length;
  const rows = connection
    .query({
      sql: `SELECT ${table.id}, ${table.key}, ver, trail, hops, ${table.fixed}, ${table.changing} FROM ${table.name} WHERE ${where}`,
      rowsAsArray: true,
      typeCast: bytes,
    })
    .stream({ highWaterMark: 500 });
  for await (const values of rows as AsyncIterable<readonly (string | null)[]>) {
    const [id = null, user = null, ver = null, trail = null, hops = null, ...columns] = values;
    const fixed = digest(columns.slice(0, fixedCount));
    const all = digest([fixed, user, ver, trail, hops, ...columns.slice(fixedCount)]);
    yield [
      `${table.name}/${id}`,
      { shard, user: user ?? "", ver: Number(ver), trail: trail ?? "", hops: hops ?? "", fixed, all },
    ];
  }
}

/** Bytes as the server sends them: what a driver makes of a value must not hide a difference. */
function bytes(field: TypeCastField): string | null {
  return field.string("latin1");
}

function digest(values: readonly (string | null)[]): string {
  // With their lengths, so that two columns can not swap a character unseen.
  const text = values.map((value) => (value === null ? "~" : `${value.length}:${value}`)).join("");
  return hash("sha256", Buffer.from(text, "latin1"), "base64");
}

async function connect({ port, user, password, database }: ShardAddress): Promise<Connection> {
  const connection = createConnection({ host: "127.0.0.1", port, user, password, database });
  await new Promise<void>((resolve, reject) => {
    connection.query("SET time_zone = '+00:00'", (error) => (error === null ? resolve() : reject(error)));
  });
  return connection;
}
