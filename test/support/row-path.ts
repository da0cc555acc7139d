/**
 * The row path between two servers of one flavor, without a job around it: reader and digests at both, a writer at
 * the target under a claim.
 */
import { readFileSync } from "node:fs";
import { type Connection, type RowDataPacket, createConnection } from "mysql2/promise";
import type { Barrier, Claim, Endpoint, KeyId, KeyInterval } from "../../src/engines/engine.ts";
import { Connector } from "../../src/engines/mysql/connect.ts";
import { shapeOf } from "../../src/engines/mysql/describe.ts";
import { MysqlDigests } from "../../src/engines/mysql/digests.ts";
import { createLedgerTable, ledgerDatabase, ledgerTables } from "../../src/engines/mysql/ledger-schema.ts";
import { quoteIdentifier } from "../../src/engines/mysql/quote.ts";
import { MysqlReader } from "../../src/engines/mysql/reader.ts";
import { readTableFacts } from "../../src/engines/mysql/table-facts.ts";
import type { MysqlTable } from "../../src/engines/mysql/table.ts";
import { MysqlWriter } from "../../src/engines/mysql/writer.ts";
import { ShardliftError } from "../../src/errors/error.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { type Slice, wholeSlice } from "../../src/model/slice.ts";

export const claim: Claim = { storeId: "test-store", job: "rows", token: 7 };
/** Nothing writes at the source while these tests read, so any barrier will do. */
export const barrier: Barrier = { n: 1 };

export interface Side {
  readonly connector: Connector;
  readonly digests: MysqlDigests;
  /** Several statements a query; utf8mb4. */
  readonly root: Connection;
  describe(table: string, shardKey: string): Promise<MysqlTable>;
}

export interface RowPath extends AsyncDisposable {
  readonly source: Side & { readonly reader: MysqlReader };
  readonly target: Side & { readonly writer: MysqlWriter };
  /** Runs statements at both servers. */
  both(sql: string): Promise<void>;
}

export interface RowPathAccount {
  readonly user: string;
  readonly password: string;
}

/** Makes the database anew at both servers, and a lease for `claim` at the target. */
export async function openRowPath(
  servers: { readonly source: LocalServer; readonly target: LocalServer },
  database: string,
  account: RowPathAccount,
): Promise<RowPath> {
  const controller = new AbortController();
  const { signal } = controller;
  const source = await openSide(servers.source, database, account, { signal });
  const target = await openSide(servers.target, database, account, { signal, claim });
  const lease = [
    `CREATE DATABASE IF NOT EXISTS ${ledgerDatabase}`,
    ...Object.keys(ledgerTables).map(createLedgerTable),
    `DELETE FROM ${ledgerDatabase}.chunk`,
    `REPLACE INTO ${ledgerDatabase}.lease (job, store_id, token) VALUES ('${claim.job}', '${claim.storeId}', ${claim.token})`,
  ];
  await target.root.query(lease.join(";\n"));
  return {
    source: { ...source, reader: new MysqlReader(source.connector) },
    target: { ...target, writer: new MysqlWriter(target.connector, claim) },
    both: async (sql) => {
      await source.root.query(sql);
      await target.root.query(sql);
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([source, target].map(async (side) => side.connector.closeAll()));
      await Promise.all([source, target].map(async (side) => side.root.end()));
      controller.abort();
    },
  };
}

async function openSide(
  server: LocalServer,
  database: string,
  account: RowPathAccount,
  options: { readonly signal: AbortSignal; readonly claim?: Claim },
): Promise<Side> {
  const root = await createConnection({
    ...server.rootConnection,
    multipleStatements: true,
    charset: "utf8mb4",
    supportBigNumbers: true,
    bigNumberStrings: true,
  });
  const name = quoteIdentifier(database);
  await root.query(
    `DROP DATABASE IF EXISTS ${name}; CREATE DATABASE ${name} CHARACTER SET utf8mb4; USE ${name}`,
  );
  const endpoint: Endpoint = {
    shard: options.claim === undefined ? "s0" : "s1",
    hosts: [{ host: server.host, port: server.port }],
    ...account,
    database,
  };
  const connector = await Connector.open(endpoint, options);
  return {
    connector,
    digests: new MysqlDigests(connector),
    root,
    describe: async (table, shardKey) => {
      const connection = await connector.connect("control");
      const facts = await readTableFacts(connection, database, table);
      await connector.close(connection);
      if (facts === undefined) throw new ShardliftError("E_PREFLIGHT", `no table ${table}`);
      const shape = shapeOf({ name: table, shardKey }, facts);
      if (!("detail" in shape)) throw new ShardliftError("E_PREFLIGHT", `${table}: ${shape.join(", ")}`);
      return shape;
    },
  };
}

/** Copies the slice of a table chunk by chunk; returns the rows and the intervals. */
export async function copyTable(
  path: RowPath,
  table: MysqlTable,
  slice: Slice,
  chunkRows: number,
): Promise<{ readonly rows: number; readonly chunks: readonly KeyInterval[] }> {
  const chunks: KeyInterval[] = [];
  let rows = 0;
  for (let from: KeyId | undefined, more = true; more;) {
    const to = await path.source.reader.boundary(table, slice, from, chunkRows);
    const interval = { from, to };
    const stream = path.source.reader.rowsIn(table, slice, interval, barrier);
    await path.target.writer.load({ shape: table, slice, source: "s0", interval, displaced: nobody }, stream);
    rows += stream.rowCount();
    chunks.push(interval);
    from = to;
    more = to !== undefined;
  }
  return { rows, chunks };
}

/** Recopies keys as a batch of dirty keys is. */
export async function recopyKeys(
  path: RowPath,
  table: MysqlTable,
  slice: Slice,
  keys: readonly KeyId[],
  options: {
    readonly mayReplace?: boolean;
    readonly displaced?: (keys: readonly KeyId[]) => Promise<void>;
  } = {},
): Promise<void> {
  const rows = path.source.reader.rowsAt(table, slice, keys, barrier);
  const { mayReplace = false, displaced = nobody } = options;
  await path.target.writer.recopy({ shape: table, slice, keys, mayReplace, displaced }, rows);
}

/** No row may have to make room. */
export async function nobody(keys: readonly KeyId[]): Promise<void> {
  throw new Error(`rows were displaced: ${keys.join(" ")}`);
}

export const everything: KeyInterval = { from: undefined, to: undefined };

/** Keys of all rows of a table, at one side. */
export async function allKeys(side: Side, table: MysqlTable): Promise<KeyId[]> {
  return [...(await side.digests.listed(table, wholeSlice, everything, 1, [0])).keys()];
}

// ── the hard cases ───────────────────────────────────────────────────────────────────────────────────────────────

export interface HardCase {
  readonly id: string;
  readonly table: string;
  readonly shardKey: string;
  /** The lower end of the range to move. */
  readonly from: string;
}

interface ManifestEntry {
  readonly id: string;
  readonly tables: readonly string[];
  readonly shardKey: string;
  readonly verdict: string;
  readonly flavours: readonly string[];
  readonly move: { readonly from: string | number };
}

const fixtures = new URL("../../fixtures/mysql/", import.meta.url);

export function readFixture(path: string): string {
  return readFileSync(new URL(path, fixtures), "utf8");
}

/** The cases that are to work; those with syntax of MariaDB are left out on MySQL, and its own dialects run there. */
export function workingCases(flavor: "mysql" | "mariadb"): HardCase[] {
  const all = JSON.parse(readFixture("manifest.json")) as ManifestEntry[];
  const cases = all.map((entry) => ({
    id: entry.id,
    // Of the keyless tables the last one has a unique key to go by.
    table: entry.tables.at(-1) ?? "",
    shardKey: entry.shardKey.replaceAll("`", "").split(" ")[0] ?? "",
    from: String(entry.move.from),
    works: entry.verdict.includes("works") && entry.flavours.includes(flavor === "mysql" ? "mysql8" : flavor),
  }));
  // Both were written for MariaDB, and both load on MySQL 9.7 as they are.
  return cases.filter(({ id, works }) => works || id.startsWith("s09") || id.startsWith("s15"));
}

/** The exact content of a table as sorted lines, by the fixtures' own query, which shares no code with the tool. */
export async function canonical(root: Connection, { id, table }: HardCase): Promise<string[]> {
  const lines = readFixture("canon.sql").split("\n");
  const from = `FROM ${quoteIdentifier(table)};`;
  const sql = lines.find(
    (line, index) => lines[index - 1]?.startsWith(`-- ${id} `) === true && line.endsWith(from),
  );
  if (sql === undefined) throw new Error(`canon.sql has no query for ${id} ${table}`);
  await root.query("SET NAMES utf8mb4; SET SESSION time_zone = '+00:00'");
  const [rows] = await root.query<RowDataPacket[]>(sql);
  return rows.map((row) => String(row["canon"])).toSorted();
}
