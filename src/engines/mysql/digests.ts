import { invariant, ShardliftError } from "../../errors/error.ts";
import type { Slice } from "../../model/slice.ts";
import type { Digest, Digests, KeyId, KeyInterval, TableShape } from "../engine.ts";
import { ConnectionPool, rowSessionVariables } from "./connection-pool.ts";
import type { Connector } from "./connect.ts";
import { keyBucket, rowHash, rowHashNumber } from "./digest-sql.ts";
import { errnoOf } from "./errors.ts";
import { keyFromParts, whereInterval } from "./key-codec.ts";
import { fromByKey, selectKey, whereKeyList } from "./key-index.ts";
import { queryArrays, type SqlValue } from "./query.ts";
import { readError } from "./row-errors.ts";
import { sliceWhere } from "./slice-sql.ts";
import { mysqlTable, type MysqlTable } from "./table.ts";

/**
 * Hashes rows at the server (DESIGN section 3, verification). Each call is one SELECT with a view of its own; whoever
 * compares two servers settles what changed in between. BIT_XOR over 64 bits of SHA-256 with a row count, never CRC32
 * (facts/copy-and-log, 5).
 */
export class MysqlDigests implements Digests {
  readonly #pool: ConnectionPool;

  constructor(connector: Connector) {
    this.#pool = new ConnectionPool(connector, "read", rowSessionVariables);
  }

  async of(shape: TableShape, slice: Slice, interval: KeyInterval): Promise<Digest> {
    const table = mysqlTable(shape);
    const [row] = await this.#rows(
      table,
      `SELECT ${sums(table)} FROM ${fromByKey(table, "t")} WHERE ${whereInterval(table, interval)} AND ${sliceWhere(table, slice)}`,
    );
    return digest(row ?? []);
  }

  async buckets(
    shape: TableShape,
    slice: Slice,
    interval: KeyInterval,
    bucketCount: number,
  ): Promise<Map<number, Digest>> {
    const table = mysqlTable(shape);
    const rows = await this.#rows(
      table,
      `SELECT ${sums(table)}, ${bucket(table, bucketCount)} AS bucket FROM ${fromByKey(table, "t")} WHERE ${whereInterval(table, interval)} AND ${sliceWhere(table, slice)} GROUP BY 3`,
    );
    return new Map(rows.map((row) => [Number(row[2]), digest(row)]));
  }

  async listed(
    shape: TableShape,
    slice: Slice,
    interval: KeyInterval,
    bucketCount: number,
    buckets: readonly number[],
  ): Promise<Map<KeyId, string>> {
    if (buckets.length === 0) return new Map();
    const table = mysqlTable(shape);
    const wanted = `${bucket(table, bucketCount)} IN (${buckets.map(Number).join(",")})`;
    return await this.#hashes(
      table,
      `${whereInterval(table, interval)} AND ${sliceWhere(table, slice)} AND ${wanted}`,
    );
  }

  async at(shape: TableShape, slice: Slice, keys: readonly KeyId[]): Promise<Map<KeyId, string>> {
    if (keys.length === 0) return new Map();
    const table = mysqlTable(shape);
    return await this.#hashes(table, `${whereKeyList(table, keys)} AND ${sliceWhere(table, slice)}`);
  }

  async #hashes(table: MysqlTable, where: string): Promise<Map<KeyId, string>> {
    const hash = `LEFT(${rowHash(table)},16)`;
    const rows = await this.#rows(
      table,
      `SELECT ${selectKey(table)}, ${hash} AS hash FROM ${fromByKey(table, "t")} WHERE ${where}`,
    );
    return new Map(
      rows.map((row) => {
        const key = keyFromParts(row.slice(0, -1).map(String));
        const value = row.at(-1);
        if (value === null || value === undefined)
          throw this.#failed(table, `the hash of key ${key} is NULL`);
        return [key, String(value)];
      }),
    );
  }

  async #rows(table: MysqlTable, sql: string): Promise<SqlValue[][]> {
    try {
      return await this.#pool.again((connection) => queryArrays(connection, sql));
    } catch (error) {
      // 1690 is how a hash of NULL shows itself (digest-sql.ts).
      if (errnoOf(error) === 1690) throw this.#failed(table, "the hash of a row is NULL", error);
      throw readError(this.#pool.connector.endpoint.shard, table.name, error);
    }
  }

  #failed(table: MysqlTable, what: string, cause?: unknown): ShardliftError {
    const { shard } = this.#pool.connector.endpoint;
    return new ShardliftError("E_DIGEST_FAILED", `table ${table.name} at shard ${shard}: ${what}`, { cause });
  }
}

/** Number of rows and their combined hash. */
function sums(table: MysqlTable): string {
  return `COUNT(*), LPAD(HEX(BIT_XOR(${rowHashNumber(table)})),16,'0')`;
}

function digest(row: readonly SqlValue[]): Digest {
  return { rows: Number(row[0] ?? 0), hash: String(row[1] ?? "0".repeat(16)).toLowerCase() };
}

function bucket(table: MysqlTable, bucketCount: number): string {
  invariant(bucketCount > 0 && (bucketCount & (bucketCount - 1)) === 0, `${bucketCount} buckets`);
  return keyBucket(table, bucketCount);
}
