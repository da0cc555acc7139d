import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createConnection, type Connection } from "mysql2/promise";
import type { RowHistory, RowName } from "./write-ledger.ts";

/**
 * Compares what the application was promised with what the servers hold, by plain reads. It shares no code with the
 * tool that it checks: the map is read from the published file, rows by ordinary SELECTs as the application's account.
 */
export interface ShardAddress {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** A row as found, with a digest of all its columns. */
export interface FoundRow {
  readonly shard: string;
  readonly user: bigint;
  readonly ver: number;
  readonly trail: string;
  readonly digest: string;
}

export interface CheckResult {
  /** Acknowledged writes that are not there. */
  readonly lost: number;
  /** Writes that are there twice, or rows with two owners. */
  readonly duplicated: number;
  /** Rows that nobody wrote and that are not what they were. */
  readonly changed: number;
  readonly details: readonly string[];
}

const tables = [
  { name: "orders", id: "CAST(id AS CHAR)", key: "user_id" },
  { name: "order_items", id: "CONCAT(order_id, '/', line)", key: "buyer_id" },
] as const;

interface OwnedRange {
  readonly from: string;
  readonly to: string;
  readonly shard: string;
}

/** Reads the published map; the file's form is documented in docs/routing-file.md. */
export function readPublishedRanges(file: string, keyspace: string): OwnedRange[] {
  type End = { at: string; key?: string };
  type Published = { keyspaces: Record<string, { ranges: { from: End; to: End; shard: string }[] }> };
  const map = JSON.parse(readFileSync(file, "utf8")) as Published;
  const text = (end: End): string => end.key ?? end.at;
  return (map.keyspaces[keyspace]?.ranges ?? []).map(({ from, to, shard }) => ({
    from: text(from),
    to: text(to),
    shard,
  }));
}

/** Every row of every shard, read through the slices that the map gives to it. */
export async function readOwnedRows(
  ranges: readonly OwnedRange[],
  shards: ReadonlyMap<string, ShardAddress>,
): Promise<{ readonly rows: Map<RowName, FoundRow>; readonly twice: RowName[] }> {
  const rows = new Map<RowName, FoundRow>();
  const twice: RowName[] = [];
  for (const [shard, address] of shards) {
    const connection = await createConnection({
      host: "127.0.0.1",
      port: address.port,
      user: address.user,
      password: address.password,
      database: address.database,
      supportBigNumbers: true,
      bigNumberStrings: true,
      dateStrings: true,
    });
    try {
      await connection.query("SET time_zone = '+00:00'");
      for (const range of ranges.filter((r) => r.shard === shard)) {
        for (const table of tables) await readTable(connection, shard, range, table, rows, twice);
      }
    } finally {
      await connection.end();
    }
  }
  return { rows, twice };
}

async function readTable(
  connection: Connection,
  shard: string,
  range: OwnedRange,
  table: (typeof tables)[number],
  rows: Map<RowName, FoundRow>,
  twice: RowName[],
): Promise<void> {
  const low = range.from === "MIN" ? "TRUE" : `${table.key} >= ${range.from}`;
  const high = range.to === "MAX" ? "TRUE" : `${table.key} < ${range.to}`;
  const stream = connection.connection
    .query({
      sql: `SELECT ${table.id}, ${table.key}, ver, trail, t.* FROM ${table.name} t WHERE ${low} AND ${high}`,
      rowsAsArray: true,
      // Bytes as they come: what the driver makes of a value must not hide a difference.
      typeCast: (field) => field.buffer(),
    })
    .stream({ highWaterMark: 1_000 });
  for await (const values of stream as AsyncIterable<(Buffer | null)[]>) {
    const [id, user, ver, trail] = values.slice(0, 4).map((value) => value?.toString("utf8") ?? "");
    const name = `${table.name}/${id}`;
    if (rows.has(name)) twice.push(name);
    const hash = createHash("sha256");
    for (const value of values.slice(4)) hash.update(value === null ? "~" : `${value.length}:`).update(value ?? "");
    rows.set(name, {
      shard,
      user: BigInt(user ?? "0"),
      ver: Number(ver),
      trail: trail ?? "",
      digest: hash.digest("base64"),
    });
  }
}

/** Everything that is not as it was promised. Pure. */
export function compareWithPromises(
  before: ReadonlyMap<RowName, FoundRow>,
  after: ReadonlyMap<RowName, FoundRow>,
  promises: ReadonlyMap<RowName, RowHistory>,
  twice: readonly RowName[],
): CheckResult {
  const details: string[] = twice.map((name) => `${name} is owned by two shards`);
  let lost = 0;
  let duplicated = twice.length;
  let changed = 0;
  for (const [name, history] of promises) {
    const verdict = judgeRow(before.get(name), after.get(name), history);
    lost += verdict.lost.length;
    duplicated += verdict.repeated.length;
    for (const token of verdict.lost) details.push(`${name}: the acknowledged write ${token} is lost`);
    for (const token of verdict.repeated) details.push(`${name}: the write ${token} is there twice or was not sent`);
  }
  for (const [name, row] of before) {
    if (promises.has(name)) continue;
    if (after.get(name)?.digest === row.digest) continue;
    changed += 1;
    details.push(`${name}: nobody wrote it, and it is ${after.has(name) ? "not what it was" : "gone"}`);
  }
  for (const name of after.keys()) {
    if (before.has(name) || promises.has(name)) continue;
    changed += 1;
    details.push(`${name}: nobody wrote it, and it is there`);
  }
  return { lost, duplicated, changed, details };
}

/**
 * One row: its trail must list the tokens of its acknowledged writes since its last insert, in order, numbered without
 * a gap, with nothing else in it; a write with an unknown outcome may be there or not.
 */
export function judgeRow(
  before: FoundRow | undefined,
  after: FoundRow | undefined,
  history: RowHistory,
): { readonly lost: readonly string[]; readonly repeated: readonly string[] } {
  const start = before === undefined ? [] : tokensOf(before.trail);
  const found = after === undefined ? [] : tokensOf(after.trail);
  // Every life that the row may have had, given that unknown writes may have happened or not.
  let lives: string[][] = [start];
  for (const { write, outcome } of history.writes) {
    const next = lives.map((life) => (write.deleted ? [] : [...life, write.token]));
    lives = outcome === "acknowledged" ? next : [...lives, ...next];
  }
  if (lives.some((life) => life.join(" ") === found.join(" ")) && wellNumbered(after)) return { lost: [], repeated: [] };
  const expected = lives[0] ?? [];
  const lost = expected.filter((token) => !found.includes(token));
  const possible = new Set(lives.flat());
  const repeated = found.filter((token, index) => !possible.has(token) || found.indexOf(token) !== index);
  // A row that differs in order or number only counts as a lost write too: nothing may look right by accident.
  return lost.length + repeated.length > 0 ? { lost, repeated } : { lost: ["(order or version)"], repeated: [] };
}

function tokensOf(trail: string): string[] {
  return trail.split(" ").map((part) => part.slice(part.indexOf("=") + 1));
}

function wellNumbered(row: FoundRow | undefined): boolean {
  if (row === undefined) return true;
  const numbers = row.trail.split(" ").map((part) => Number(part.slice(0, part.indexOf("="))));
  return numbers.every((number, index) => number === index + 1) && row.ver === numbers.length;
}
