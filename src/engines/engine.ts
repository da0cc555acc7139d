import type { ErrorCode } from "../errors/codes.ts";
import type { KeyType, KeyValue } from "../model/key.ts";
import type { Slice } from "../model/slice.ts";

/**
 * The contract between the job and a database engine. Positions, keys and row bytes belong to the engine: everyone
 * else stores them and hands them back, and never looks inside. What only one engine has is a capability here, never
 * an `if (engine === …)` in a phase.
 */
export interface Engine {
  readonly name: "mysql" | "mongodb";
  /** Connects; throws E_CONNECT. The session checks its own settings (time zone, sql_mode …) after each connect. */
  open(endpoint: Endpoint, options: SessionOptions): Promise<Session>;
  /** This engine's preflight rules, in the order in which they are reported. */
  readonly checks: readonly Check[];
}

/** One shard's servers as the configuration names them. The password is held in memory only. */
export interface Endpoint {
  readonly shard: string;
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

export interface SessionOptions {
  /** Ends every wait and closes the session's connections. */
  readonly signal: AbortSignal;
  /** The job and token under which this session writes; absent for read-only use (plan, check, status). */
  readonly claim?: Claim;
}

/**
 * Who may write for a job. The token is the revision at which the runner took the job in the control store: a later
 * runner has a greater one, and every write at a server proves in its own transaction that its token is the newest.
 */
export interface Claim {
  readonly storeId: string;
  readonly job: string;
  readonly token: number;
}

/** One server, seen through the roles that a job needs. Each role can be tested alone. */
export interface Session extends AsyncDisposable {
  readonly server: ServerIdentity;
  readonly catalog: Catalog;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly log: ChangeLog;
  readonly barriers: BarrierSource;
  readonly digests: Digests;
  readonly gates: Gates;
  readonly ledger: Ledger;
  /** How hard the server works now; what the throttle looks at. */
  pressure(): Promise<ServerPressure>;
}

export interface ServerPressure {
  /** Statements that run right now. */
  readonly threadsRunning: number;
  /** Old row versions that are still kept (InnoDB's history list); grows behind long reads. */
  readonly historyList: number;
}

export interface ServerIdentity {
  readonly shard: string;
  /** `mysql` or `mariadb`, `mongodb`: two servers must agree on it, since text forms of values differ. */
  readonly flavor: string;
  readonly version: string;
  /** server_uuid, or server_id and domain: a change of it voids all verification (rule 11). */
  readonly id: string;
  readonly address: string;
}

// ── tables and keys ──────────────────────────────────────────────────────────────────────────────────────────────

/** A table of the keyspace, as the map names it. */
export interface TableSpec {
  readonly name: string;
  /** The column (dotted path on MongoDB) that holds the shard key. */
  readonly shardKey: string;
}

export interface TableShape {
  readonly name: string;
  readonly shardKey: string;
  readonly keyType: KeyType;
  /** Columns of the primary key, in key order. */
  readonly primaryKey: readonly string[];
  /**
   * `client`: this process can order and equate keys exactly (integers, fixed-point, binary, temporal).
   * `server`: only the server can (collated strings); nothing of such a table is dropped and its batches go over one
   * connection in order (rule 5).
   */
  readonly keyOrder: "client" | "server";
  /** Unique keys besides the primary one: REPLACE and IGNORE are never used on such a table (rule 6). */
  readonly secondaryUniqueKeys: readonly string[];
  /** Estimates from the server's statistics: for plans only, never for progress. */
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
  /** Changes with every change of the table's structure; a plan made from another one is stale. */
  readonly fingerprint: string;
  /** What only the engine understands (columns, DDL); plain JSON. */
  readonly detail: unknown;
}

/** A primary key in the engine's canonical text. Equal bytes ⇔ equal text. Safe as a Map key and in JSON. */
export type KeyId = string;

/** A half-open interval of primary keys `[from, to)`; undefined stands for -∞ and +∞. */
export interface KeyInterval {
  readonly from: KeyId | undefined;
  readonly to: KeyId | undefined;
}

export interface Catalog {
  /** Throws E_PREFLIGHT naming the table when it does not exist or has no usable primary key. */
  describe(tables: readonly TableSpec[]): Promise<TableShape[]>;
  /** The names of those of the given tables that exist here. */
  existing(tables: readonly string[]): Promise<Set<string>>;
  /**
   * Creates the table with the source's structure, without foreign keys; deferred indexes are left out. Throws
   * E_STRUCTURE_DIFFERS when what came out is not that structure.
   */
  create(shape: TableShape, options: { readonly deferIndexes: boolean }): Promise<void>;
  /**
   * Proves that a table that is here already has the structure, or throws E_STRUCTURE_DIFFERS: its owner's, or one
   * that this job had begun to create. No table is filled without `create` or this.
   */
  adopt(shape: TableShape): Promise<void>;
  /** Builds the non-unique indexes that `create` left out. Idempotent. */
  buildDeferredIndexes(shape: TableShape): Promise<void>;
  /** Rows of the slice here, counted up to `limit`. */
  countRows(shape: TableShape, slice: Slice, limit: number): Promise<number>;
  /** Rows of the table outside the slice, counted up to `limit`. */
  countOutside(shape: TableShape, slice: Slice, limit: number): Promise<number>;
  /** `count` ascending split points that divide the sampled shard keys of the slice into equal parts. */
  splitPoints(shape: TableShape, slice: Slice, count: number): Promise<KeyValue[]>;
  /**
   * The counter of generated keys: the next value, exact (never from stale statistics), and the greatest that the
   * column's type holds; undefined for a table without one.
   */
  autoIncrement(shape: TableShape): Promise<{ readonly next: bigint; readonly max: bigint } | undefined>;
  /** Lets the counter start at `value` or above. Never lowers it. */
  raiseAutoIncrement(shape: TableShape, value: bigint): Promise<void>;
  /** Compares two keys for listing, in the order in which the engine reads them; `client` tables only. */
  compareKeys(shape: TableShape, a: KeyId, b: KeyId): number;
  /** A key for people: `order_id=5, line=2`. */
  formatKey(shape: TableShape, key: KeyId): string;
}

// ── reading and writing rows ─────────────────────────────────────────────────────────────────────────────────────

/**
 * Proof that a marker was committed at the source and that everything logged before it is visible to a read that
 * starts now (rule 3). Row reads take one, so that none can be forgotten.
 */
export interface Barrier {
  /** Grows with each barrier of a job; the log delivers it in `KeyBatch.barrier`. */
  readonly n: number;
}

export interface BarrierSource {
  /**
   * Commits a marker and waits until all that this session's log reader has seen is visible. Concurrent calls share
   * one commit. `mark` names the interval that is about to be read, for log readers in another process.
   */
  raise(mark?: { readonly table: string; readonly interval: KeyInterval }): Promise<Barrier>;
}

/**
 * Rows in the engine's own bytes, on their way from one server to another. Nothing is kept: a writer that needs the
 * rows again (deadlock, conflict) iterates again.
 */
export interface RowStream {
  /**
   * Encoded blocks, each at most about 1 MiB unless a single row is larger. Each iteration reads the rows anew, in a
   * view that is not older than the one before; counts and keys are those of the latest iteration.
   */
  readonly blocks: AsyncIterable<Uint8Array>;
  /** Rows delivered so far; final once `blocks` has ended. */
  rowCount(): number;
  /** Bytes delivered so far. */
  byteCount(): number;
  /** The primary keys of the delivered rows; collected by `rowsAt` on `client` tables only. */
  readonly keys: readonly KeyId[];
}

export interface Reader {
  /**
   * The exclusive upper end of an interval that starts at `from` and holds about `rows` rows of the table, or
   * undefined when fewer are left: then the interval is open to +∞ and is still to be read (rule 2).
   */
  boundary(
    shape: TableShape,
    slice: Slice,
    from: KeyId | undefined,
    rows: number,
  ): Promise<KeyId | undefined>;
  rowsIn(shape: TableShape, slice: Slice, interval: KeyInterval, after: Barrier): RowStream;
  rowsAt(shape: TableShape, slice: Slice, keys: readonly KeyId[], after: Barrier): RowStream;
  /** The first and the last primary key of the table, undefined for an empty one; only to show progress. */
  extent(shape: TableShape): Promise<{ readonly first: KeyId; readonly last: KeyId } | undefined>;
  /** About which share of `[first, last]` lies below the key, 0 to 1; only to show progress. */
  share(shape: TableShape, extent: { readonly first: KeyId; readonly last: KeyId }, key: KeyId): number;
  /** For `server` tables: which of the keys lie below the boundary in the server's own order. */
  below(shape: TableShape, keys: readonly KeyId[], boundary: KeyId): Promise<boolean[]>;
}

export interface Writer {
  /**
   * Loads a chunk in one transaction with its progress row. All rows or none: any warning or difference in counts
   * rolls back and throws.
   */
  load(request: LoadRequest, rows: RowStream): Promise<void>;
  /**
   * In one transaction: deletes the keys that no delivered row equals, then writes every delivered row (rule 4).
   * Every delete carries the slice.
   */
  recopy(request: RecopyRequest, rows: RowStream): Promise<void>;
}

interface WriteRequest {
  readonly shape: TableShape;
  readonly slice: Slice;
  /**
   * Called before the commit with the keys of rows of the same move that had to make room for a unique key (rule 6).
   * They must be marked dirty and pinned at the last saved checkpoint before this returns.
   */
  readonly displaced: (keys: readonly KeyId[]) => Promise<void>;
}

export interface LoadRequest extends WriteRequest {
  /** Which source the rows come from: progress is kept per source. */
  readonly source: string;
  readonly interval: KeyInterval;
}

export interface RecopyRequest extends WriteRequest {
  readonly keys: readonly KeyId[];
  /** True when the table held no row of its own before the job and the primary key is its only unique key. */
  readonly mayReplace: boolean;
}

// ── the change log ───────────────────────────────────────────────────────────────────────────────────────────────

/** A place in the server's log, in the engine's own text. Resumable on any server that has the same history. */
export type Position = string;

export interface ChangeLog {
  /** The newest position; everything committed before the call lies at or below it. */
  head(): Promise<Position>;
  /** Undefined when the log can be read from here; else why not (purged, foreign history). */
  whyNotReadable(from: Position): Promise<string | undefined>;
  /** Names of transactions prepared but undecided (XA); their rows lie below `head()` but are not visible (rule 1). */
  preparedTransactions(): Promise<string[]>;
  /**
   * Batches of dirty keys after a position, in commit order. Pulling is the back-pressure: while nobody pulls, the
   * reader stops reading. Reconnects by itself from the last delivered position with a bounded back-off; throws on
   * anything that it can not prove harmless (rule 10).
   */
  since(from: Position, scope: LogScope, signal: AbortSignal): AsyncIterable<KeyBatch>;
}

export interface LogScope {
  readonly job: string;
  readonly tables: readonly TableShape[];
  /** Changes whose shard key lies outside both before and after may be left out where the log shows the key. */
  readonly slice: Slice;
}

/** The keys of one or more whole transactions, or a part of a very large one (then without a position). */
export interface KeyBatch {
  readonly changes: readonly { readonly table: string; readonly keys: readonly KeyId[] }[];
  /** The greatest barrier of the job that lies in or before this batch; undefined when none was seen yet. */
  readonly barrier: number | undefined;
  /**
   * Where to resume once everything up to the end of this batch is applied; never past an undecided prepared
   * transaction. Undefined in the middle of a transaction.
   */
  readonly position: Position | undefined;
  /** Seconds since the epoch at which the source wrote the newest event of the batch. */
  readonly sourceTime: number;
  /** Row changes scanned for this batch, including those of other tables and slices. */
  readonly scanned: number;
}

// ── verification ─────────────────────────────────────────────────────────────────────────────────────────────────

/** XOR of 64-bit SHA-256 prefixes of the rows, and their number. Never CRC32: it is linear and blind. */
export interface Digest {
  readonly rows: number;
  readonly hash: string;
}

export interface Digests {
  of(shape: TableShape, slice: Slice, interval: KeyInterval): Promise<Digest>;
  /** One digest per bucket of keys; `bucketCount` is a power of two. Same buckets on every server. */
  buckets(
    shape: TableShape,
    slice: Slice,
    interval: KeyInterval,
    bucketCount: number,
  ): Promise<Map<number, Digest>>;
  /** Hash by key for the listed buckets. */
  listed(
    shape: TableShape,
    slice: Slice,
    interval: KeyInterval,
    bucketCount: number,
    buckets: readonly number[],
  ): Promise<Map<KeyId, string>>;
  /** Hash by key; keys without a row in the slice are absent. */
  at(shape: TableShape, slice: Slice, keys: readonly KeyId[]): Promise<Map<KeyId, string>>;
}

// ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * `gate`: at the old shard; writes to the slice wait while it is being closed and are refused once it is closed.
 * `mirror`: at the new shard; refuses rows outside `owned`, and writes to the slice until it is opened.
 */
export interface GateSpec {
  readonly role: "gate" | "mirror";
  readonly tables: readonly TableShape[];
  readonly slice: Slice;
  /** What this server owns besides the slice; a mirror lets writes to it pass. */
  readonly owned: Slice;
  /** The epoch after which the slice has moved. */
  readonly afterEpoch: number;
}

export interface GateState {
  readonly job: string;
  readonly token: number;
  readonly role: "gate" | "mirror";
  readonly state: "open" | "closed";
  readonly afterEpoch: number;
}

export interface Gates {
  /**
   * Writes the gate row (state open for a gate, closed for a mirror) and its triggers. Idempotent. Throws
   * E_GATE_NOT_ARMED, naming who is in the way, when the tables can not be had within `limitMs`.
   */
  arm(spec: GateSpec, limitMs?: number): Promise<void>;
  /** Everything that `arm` would run under a claim, for the dry run. Without one it shows a stand-in for the job. */
  preview(spec: GateSpec, claim?: Claim): string[];
  state(job: string): Promise<GateState | undefined>;
  /** One bounded try to take the gate exclusively; `undefined` with the blockers' names when it did not get it. */
  tryClose(spec: GateSpec, budgetMs: number): Promise<HeldGate | { readonly blockers: readonly string[] }>;
  /** Opens a closed gate again (before the flip) or the mirror (after it). Retries; throws E_JOB_HELD on a foreign token. */
  open(job: string): Promise<void>;
  /** Removes triggers and the gate row. Idempotent. */
  disarm(spec: GateSpec): Promise<void>;
  /** Oldest transaction that has touched one of the tables, in ms; 0 without one. */
  oldestTransactionMs(tables: readonly TableShape[]): Promise<number>;
}

/** The gate held exclusively: writers to the slice wait. Dies with its connection, and then the gate opens by itself. */
export interface HeldGate extends AsyncDisposable {
  /** Why the gate does not hold everything back (prepared XA, a missing trigger); undefined when all is well. */
  whyNotTight(): Promise<string | undefined>;
  /** Makes the closed state durable. From here on writers of the slice are refused. Unknown outcome → throws E_GATE_LOST. */
  commit(): Promise<void>;
  /** Nothing happened. */
  rollback(): Promise<void>;
}

// ── what shardlift keeps at a server ─────────────────────────────────────────────────────────────────────────────

/** The job's own rows in the server's `_shardlift` database. */
export interface Ledger {
  /** Creates the helper tables. Idempotent. */
  install(): Promise<void>;
  /**
   * Writes the claim's token; waits out a transaction that still holds the old one, ends the old runner's
   * connections, and refuses a foreign store (E_JOB_HELD) or a newer token (E_JOB_HELD).
   */
  claim(): Promise<void>;
  /** Claims that stand at this server, of any job. */
  claims(): Promise<Claim[]>;
  /** The saved checkpoint of a source, or undefined. */
  checkpoint(source: string): Promise<Checkpoint | undefined>;
  /** Saves a position; one row under the claim's token, or E_JOB_HELD. */
  saveCheckpoint(source: string, position: Position, sourceServer: string): Promise<void>;
  /** Intervals whose chunk is loaded, by table. */
  loadedChunks(
    source: string,
  ): Promise<{ readonly table: string; readonly interval: KeyInterval; readonly rows: number }[]>;
  /** Deletes the job's rows of the slice from a table, in bounded chunks (abort). */
  deleteSlice(shape: TableShape, slice: Slice, signal: AbortSignal): Promise<number>;
  /** Drops a table that this job has created and that holds no row outside the slice (abort). */
  dropCreated(shape: TableShape, slice: Slice): Promise<void>;
  /** Removes the job's rows; drops the helper tables when no job is left. */
  uninstall(): Promise<void>;
  /** Every object that shardlift has at this server, for reports and for the leftovers test. */
  leftovers(): Promise<string[]>;
}

export interface Checkpoint {
  readonly position: Position;
  readonly sourceServer: string;
  readonly savedAt: string;
}

// ── preflight ────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Finding {
  readonly check: string;
  readonly level: "blocker" | "warning" | "ok";
  readonly where: string;
  readonly why: string;
  /** SQL or a command that mends it. */
  readonly fix: string;
}

export interface CheckContext {
  readonly role: "source" | "target";
  readonly session: Session;
  /** The other end of the move, for rules that compare the two. */
  readonly peer: Session;
  /** The control store that asks; undefined when there is none yet. A job of another store is a blocker. */
  readonly storeId: string | undefined;
  readonly tables: readonly TableSpec[];
  readonly slice: Slice;
  readonly keyType: KeyType;
  /** How many moves are looked at together. */
  readonly moves: number;
}

/** One precondition. Reports everything that it finds; an empty list means that all is well. */
export interface Check {
  readonly name: string;
  readonly roles: readonly ("source" | "target")[];
  /** The code that a blocker of this rule ends with. */
  readonly code: ErrorCode;
  run(context: CheckContext): Promise<Finding[]>;
}
