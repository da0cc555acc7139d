import { ShardliftError } from "../../errors/error.ts";
import { compareKeys, type KeyValue } from "../../model/key.ts";
import type { Slice } from "../../model/slice.ts";
import { keyToNumber, numberToKey } from "./key-arithmetic.ts";
import { query, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import { keyLiteral, sliceWhere } from "./slice-sql.ts";
import { columnNamed, type MysqlTable } from "./table.ts";

/**
 * Finds shard-key values that cut the rows of a slice into parts of about equal size, at a bounded cost: up to
 * `exactRows` entries it walks the index of the shard key; a larger slice is measured by the server's estimates for
 * ranges of that index.
 * Invariant: the points ascend strictly, and each lies above the least key of the slice, so that no part is empty.
 */
export async function findSplitPoints(
  connection: MysqlConnection,
  table: MysqlTable,
  slice: Slice,
  count: number,
  exactRows = 500_000,
): Promise<KeyValue[]> {
  const probe = new KeyProbe(connection, table, sliceWhere(table, slice, "t"));
  const rows = await probe.countRows(exactRows);
  const least = await probe.leastKey();
  const wished =
    least === undefined
      ? []
      : rows < exactRows
        ? await walkIndex(probe, rows, count)
        : await cutByEstimates(probe, least, count);
  const points = ascending(table, least, wished);
  if (points.length === count) return points;
  throw new ShardliftError(
    "E_USAGE",
    `table ${table.name} has too few different values of ${table.shardKey} to be cut into ${count + 1} parts`,
    { next: "Name the split points yourself with --at KEY[,KEY]." },
  );
}

/** Keeps what ascends: one key with very many rows may be the wish for several cuts. */
function ascending(table: MysqlTable, least: KeyValue | undefined, wished: readonly KeyValue[]): KeyValue[] {
  const points: KeyValue[] = [];
  for (const point of wished) {
    const before = points.at(-1) ?? least;
    if (before !== undefined && compareKeys(table.keyType, point, before) > 0) points.push(point);
  }
  return points;
}

/** Exact: the keys at equal steps along the index; each after the last, so that a frequent key is one cut. */
async function walkIndex(probe: KeyProbe, rows: number, count: number): Promise<KeyValue[]> {
  const points: KeyValue[] = [];
  let last = await probe.leastKey();
  for (let part = 1; part <= count && last !== undefined; part += 1) {
    const wish = await probe.keyAt(Math.floor((rows * part) / (count + 1)));
    const isAfter = wish !== undefined && compareKeys(probe.table.keyType, wish, last) > 0;
    last = isAfter ? wish : await probe.keyAfter(last);
    if (last !== undefined) points.push(last);
  }
  return points;
}

/** A part of the key range, by number, and how many rows the server believes to be in it. */
interface Cell {
  readonly from: bigint;
  readonly to: bigint;
  readonly rows: number;
}

/** One estimate is two index dives, well under a millisecond. */
const maxCells = 256;

/**
 * Halves the fullest part of the key range again and again, so that dense places get small cells: the estimate for a
 * large range is capped at half the table (InnoDB), for small ones it is good. Cuts lie inside cells by proportion.
 */
async function cutByEstimates(probe: KeyProbe, least: KeyValue, count: number): Promise<KeyValue[]> {
  const from = probe.toNumber(least);
  const to = probe.toNumber((await probe.greatestKey()) ?? least) + 1n;
  const cells: Cell[] = [{ from, to, rows: await probe.estimate(from, to) }];
  while (cells.length < maxCells) {
    const fullest = cells.reduce((a, b) => (b.rows > a.rows && b.to - b.from > 1n ? b : a));
    const middle = (fullest.from + fullest.to) / 2n;
    if (middle <= fullest.from) break;
    cells.splice(
      cells.indexOf(fullest),
      1,
      { from: fullest.from, to: middle, rows: await probe.estimate(fullest.from, middle) },
      { from: middle, to: fullest.to, rows: await probe.estimate(middle, fullest.to) },
    );
  }
  return cutCells(cells, count).map((number) => probe.toKey(number));
}

/** Pure: the numbers at which the cumulated rows reach equal parts. */
export function cutCells(cells: readonly Cell[], count: number): bigint[] {
  const total = cells.reduce((sum, cell) => sum + cell.rows, 0);
  const cuts: bigint[] = [];
  let before = 0;
  for (const cell of cells) {
    while (cuts.length < count) {
      const wish = (total * (cuts.length + 1)) / (count + 1);
      if (wish >= before + cell.rows) break;
      const share = BigInt(Math.floor(((wish - before) / cell.rows) * 1e6));
      cuts.push(cell.from + ((cell.to - cell.from) * share) / 1_000_000n);
    }
    before += cell.rows;
  }
  return cuts;
}

/** Questions to the server about the shard keys of a slice. */
class KeyProbe {
  readonly table: MysqlTable;
  readonly #connection: MysqlConnection;
  readonly #where: string;
  readonly #column: string;
  readonly #scale: number;
  readonly #dateOnly: boolean;

  constructor(connection: MysqlConnection, table: MysqlTable, where: string) {
    const column = columnNamed(table, table.shardKey);
    this.#connection = connection;
    this.table = table;
    this.#where = where;
    // Qualified: ORDER BY would take the result column of the same name, which is a text, for the column.
    this.#column = `t.${quoteIdentifier(table.shardKey)}`;
    this.#scale = column.scale ?? 0;
    this.#dateOnly = column.dataType === "date";
  }

  toNumber(key: KeyValue): bigint {
    return keyToNumber(this.table.keyType, this.#scale, key);
  }

  toKey(number: bigint): KeyValue {
    return numberToKey(this.table.keyType, this.#scale, this.#dateOnly, number);
  }

  async countRows(limit: number): Promise<number> {
    const [row] = await query<{ n: string }>(
      this.#connection,
      `SELECT COUNT(*) AS n FROM (SELECT 1 FROM ${this.#table} WHERE ${this.#where} LIMIT ${limit}) AS part`,
    );
    return Number(row?.n ?? 0);
  }

  leastKey(): Promise<KeyValue | undefined> {
    return this.#key(`ORDER BY ${this.#column} LIMIT 1`);
  }

  greatestKey(): Promise<KeyValue | undefined> {
    return this.#key(`ORDER BY ${this.#column} DESC LIMIT 1`);
  }

  keyAt(offset: number): Promise<KeyValue | undefined> {
    return this.#key(`ORDER BY ${this.#column} LIMIT 1 OFFSET ${offset}`);
  }

  keyAfter(key: KeyValue): Promise<KeyValue | undefined> {
    return this.#key(`AND ${this.#column} > ${this.#literal(key)} ORDER BY ${this.#column} LIMIT 1`);
  }

  async estimate(from: bigint, to: bigint): Promise<number> {
    const range = `${this.#column} >= ${this.#literal(this.toKey(from))} AND ${this.#column} < ${this.#literal(this.toKey(to))}`;
    const [plan] = await query<{ rows: string | number | null }>(
      this.#connection,
      `EXPLAIN FORMAT=TRADITIONAL SELECT ${this.#column} FROM ${this.#table} WHERE ${this.#where} AND ${range}`,
    );
    return Math.max(Number(plan?.rows ?? 0), 1);
  }

  get #table(): string {
    return `${quoteIdentifier(this.table.name)} AS t`;
  }

  #literal(key: KeyValue): string {
    return keyLiteral(this.table.keyType, key);
  }

  async #key(rest: string): Promise<KeyValue | undefined> {
    const sql = `SELECT ${shardKeyText(this.table)} AS k FROM ${this.#table} WHERE ${this.#where} ${rest}`;
    const [row] = await query<{ k: string }>(this.#connection, sql);
    return row?.k;
  }
}

/** Makes the server print a shard key in canonical text. */
export function shardKeyText(table: MysqlTable): string {
  const column = quoteIdentifier(table.shardKey);
  if (table.keyType === "binary") return `CONCAT('0x', LOWER(CONVERT(HEX(${column}) USING latin1)))`;
  // ZEROFILL would print leading zeros.
  return table.keyType === "integer" ? `CAST(${column} + 0 AS CHAR)` : `CAST(${column} AS CHAR)`;
}
