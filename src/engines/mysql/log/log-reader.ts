import { ShardliftError } from "../../../errors/error.ts";
import type { LogScope } from "../../engine.ts";
import { ledgerDatabase } from "../ledger-schema.ts";
import { mysqlTable, type MysqlTable } from "../table.ts";
import { barrierTable, BarrierRows } from "./barrier-rows.ts";
import type { PendingBatch } from "./batch.ts";
import {
  eventFlags,
  eventSize,
  eventTime,
  eventType,
  headerLength,
  ignorableFlag,
  rowsLayouts,
  type LogEvent,
  type RowsLayout,
} from "./event.ts";
import type { GtidTracker } from "./gtid-tracker.ts";
import { MovedTable } from "./moved-table.ts";
import { readFormat } from "./format.ts";
import { readQuery } from "./query-event.ts";
import { classify, type StatementScope } from "./statement.ts";
import { dummyTableId, readTableMap, readTableName, tableIdOf, whyDifferent } from "./table-map.ts";
import { readXaPrepare, type HeldKeys } from "./xa.ts";

/**
 * Reads events in the order of the log and gathers the keys of the moved tables in a batch. Knows where transactions
 * begin and end; the GTID tracker learns it from here. Everything that is not known to be harmless throws (rule 10):
 * an event type that the server does not mark ignorable, a statement, a table whose columns have changed.
 */
export class LogReader {
  readonly #flavor: "mysql" | "mariadb";
  readonly #scope: LogScope;
  readonly #database: string;
  readonly #tables: ReadonlyMap<string, MysqlTable>;
  readonly #statements: StatementScope;
  readonly #gtids: GtidTracker;
  readonly #batch: PendingBatch;
  readonly #held: HeldKeys;
  readonly #mapped: Map<number, Mapped>;
  #checksumLength: number;
  #group: Group | undefined;
  #fileBegan: boolean;

  constructor(options: LogReaderOptions) {
    this.#flavor = options.flavor;
    this.#scope = options.scope;
    this.#database = options.database;
    const tables = options.scope.tables.map((shape) => mysqlTable(shape));
    this.#tables = new Map(tables.map((table) => [table.name, table]));
    this.#statements = {
      database: options.database,
      tables: new Set(tables.map((table) => table.name.toLowerCase())),
    };
    this.#gtids = options.gtids;
    this.#batch = options.batch;
    this.#held = options.held;
    this.#mapped = new Map();
    this.#checksumLength = 0;
    this.#group = undefined;
    this.#fileBegan = false;
  }

  /** Whether a transaction has begun that has not ended. */
  get inTransaction(): boolean {
    return this.#group !== undefined;
  }

  /** Where the event's content ends: before the checksum, which the format event announced. */
  contentEnd(event: LogEvent): number {
    return event.end - this.#checksumLength;
  }

  /** An event of the stream itself. */
  read(event: LogEvent): void {
    this.#guarded(event, this.contentEnd(event));
  }

  /** An event out of a compressed transaction: it has no checksum. */
  readInner(event: LogEvent): void {
    this.#guarded(event, event.end);
  }

  /** Anything that goes wrong while bytes are read means that they are not understood. */
  #guarded(event: LogEvent, end: number): void {
    try {
      if (eventSize(event) !== event.end - event.start)
        throw new RangeError("its size is not that of its packet");
      this.#read(event, end);
    } catch (error) {
      if (error instanceof ShardliftError) throw error;
      const type = event.buffer[event.start + 4] ?? 0;
      const reason = error instanceof Error ? error.message : String(error);
      throw new ShardliftError("E_LOG_UNREADABLE", `log event of type ${type}${this.#place()}: ${reason}`, {
        cause: error,
      });
    }
  }

  #read(event: LogEvent, end: number): void {
    const type = event.buffer[event.start + 4] as number;
    const layout = rowsLayouts[type];
    if (layout !== undefined) {
      this.#readRows(event, end, layout);
      return;
    }
    switch (type) {
      case eventType.tableMap:
        this.#readTableMap(event, end);
        return;
      case eventType.gtid:
      case eventType.gtidTagged:
      case eventType.mariadbGtid:
        this.#beginGroup(event, end);
        return;
      case eventType.xid:
        this.#endGroup(event);
        return;
      case eventType.query:
      case eventType.mariadbQueryCompressed:
        this.#readQuery(event, end);
        return;
      case eventType.xaPrepare:
        this.#readXaPrepare(event, end);
        return;
      case eventType.formatDescription:
        this.#checksumLength = readFormat(event);
        this.#fileBegan = true;
        return;
      case eventType.anonymousGtid:
        throw new ShardliftError("E_LOG_UNREADABLE", "the source logs transactions without a GTID", {
          next: "Set gtid_mode=ON and enforce_gtid_consistency=ON at the source, then abort the job and start again.",
        });
      case eventType.incident:
        throw new ShardliftError(
          "E_LOG_UNREADABLE",
          `the log has a gap: the server wrote an incident${this.#place()}`,
        );
      case eventType.beginLoadQuery:
      case eventType.executeLoadQuery:
        throw new ShardliftError("E_STATEMENT_LOGGED", `LOAD DATA is logged as a statement${this.#place()}`);
      default:
        if (harmlessTypes.has(type) || (eventFlags(event) & ignorableFlag) !== 0) return;
        throw new RangeError("shardlift does not know this type");
    }
  }

  // ── transactions ───────────────────────────────────────────────────────────────────────────────────────────────

  #beginGroup(event: LogEvent, end: number): void {
    if (this.#group !== undefined) {
      // A server that dies while it writes leaves a beginning behind, and goes on in a new file. Its keys are dirty
      // for nothing, which is harmless; its GTID will be given to another transaction.
      if (!this.#fileBegan) throw new RangeError("a transaction begins before the last one has ended");
      this.#gtids.abandon();
      this.#held.discard();
    }
    this.#fileBegan = false;
    // Each statement introduces its tables again, so between transactions all of them may be forgotten.
    if (this.#mapped.size > mappedTables) this.#mapped.clear();
    const { standalone, prepares } = this.#gtids.begin(event, end);
    // MariaDB says with the GTID what MySQL shows by a BEGIN.
    this.#group = { begun: this.#flavor === "mariadb" && !standalone };
    if (prepares !== undefined) this.#held.begin();
  }

  #endGroup(event: LogEvent): void {
    if (this.#group === undefined) throw new RangeError("a transaction ends that has not begun");
    this.#gtids.commit();
    this.#ended(event);
  }

  #ended(event: LogEvent): void {
    this.#group = undefined;
    this.#batch.transactionEnded(eventTime(event));
  }

  #readXaPrepare(event: LogEvent, end: number): void {
    const { xid, onePhase } = readXaPrepare(event, end);
    if (this.#group === undefined || !this.#held.isOpen)
      throw new RangeError(`XA ${xid} ends without a beginning`);
    if (onePhase) {
      this.#held.release(this.#batch);
      this.#gtids.commit();
    } else {
      this.#held.hold(xid);
      this.#gtids.prepare(xid);
    }
    this.#ended(event);
  }

  #decideXa(event: LogEvent, xid: string, verdict: "commit" | "rollback"): void {
    if (!this.#held.has(xid)) {
      throw new ShardliftError(
        "E_XA_UNSEEN",
        `XA ${verdict.toUpperCase()} of ${xid}, whose changes were not read`,
      );
    }
    this.#held.decide(xid, verdict, this.#batch);
    this.#gtids.decide(xid);
    this.#ended(event);
  }

  #readQuery(event: LogEvent, end: number): void {
    const query = readQuery(event, end);
    const statement = classify(query, this.#statements);
    switch (statement.kind) {
      case "begin":
        this.#openGroup().begun = true;
        return;
      case "xa-start":
        this.#openGroup().begun = true;
        if (!this.#held.isOpen) this.#held.begin();
        return;
      case "xa-end":
      case "savepoint":
        return;
      case "commit":
      case "rollback":
        this.#endGroup(event);
        return;
      case "xa-verdict":
        this.#decideXa(event, statement.xid, statement.verdict);
        return;
      case "harmless":
        if (!this.#openGroup().begun) this.#endGroup(event);
        return;
      case "stop":
        throw new ShardliftError(statement.code, `${statement.why}${this.#place()}`);
    }
  }

  #openGroup(): Group {
    if (this.#group === undefined) throw new RangeError("a statement stands outside any transaction");
    return this.#group;
  }

  /** Where in the log, for messages. */
  #place(): string {
    return ` (after ${this.#gtids.position() || "the beginning of the log"})`;
  }

  // ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #readTableMap(event: LogEvent, end: number): void {
    const { buffer } = event;
    const body = event.start + headerLength;
    const id = tableIdOf(event);
    const known = this.#mapped.get(id);
    // The same table comes with every statement; its description is compared as bytes.
    if (known !== undefined && known.bytes.compare(buffer, body, end) === 0) return;
    this.#mapped.set(id, {
      bytes: Buffer.from(buffer.subarray(body, end)),
      table: this.#mappedTable(buffer, body, end),
    });
  }

  #mappedTable(buffer: Buffer, body: number, end: number): MovedTable | BarrierRows | undefined {
    const name = readTableName(buffer, body, end);
    if (name.database === ledgerDatabase && name.table === barrierTable) {
      return new BarrierRows(this.#scope.job, buffer, body, end);
    }
    const table = name.database === this.#database ? this.#tables.get(name.table) : undefined;
    if (table === undefined) return undefined;
    const map = readTableMap(buffer, body, end);
    const difference = whyDifferent(table, map);
    if (difference !== undefined) {
      throw new ShardliftError("E_SCHEMA_CHANGED", `table ${table.name}: ${difference}${this.#place()}`);
    }
    return new MovedTable(table, map, this.#scope.slice);
  }

  #readRows(event: LogEvent, end: number, layout: RowsLayout): void {
    const id = tableIdOf(event);
    const mapped = this.#mapped.get(id);
    if (mapped === undefined) {
      if (id === dummyTableId) return;
      throw new RangeError(`rows of table id ${id}, which was not introduced`);
    }
    const { table } = mapped;
    let rows = 1;
    if (table instanceof MovedTable) {
      rows = table.read(event, end, layout, this.#held.isOpen ? this.#held : this.#batch);
    } else if (table !== undefined) {
      rows = table.read(event, end, layout, (n) => this.#batch.barrier(n));
    }
    this.#batch.scanned(rows, eventTime(event));
  }
}

export interface LogReaderOptions {
  readonly flavor: "mysql" | "mariadb";
  readonly database: string;
  readonly scope: LogScope;
  readonly gtids: GtidTracker;
  readonly batch: PendingBatch;
  readonly held: HeldKeys;
}

interface Group {
  /** A commit event will follow. */
  begun: boolean;
}

interface Mapped {
  readonly bytes: Buffer;
  /** Undefined: none of ours. */
  readonly table: MovedTable | BarrierRows | undefined;
}

/** A server gives a table a new id each time that it opens it, so the known ones only ever grow. */
const mappedTables = 10_000;

/** Events that carry no change: files, heartbeats, texts for people, and values for a statement that follows. */
const harmlessTypes: ReadonlySet<number> = new Set([
  eventType.stop,
  eventType.rotate,
  eventType.intvar,
  eventType.rand,
  eventType.userVar,
  eventType.heartbeat,
  eventType.heartbeatV2,
  eventType.ignorable,
  eventType.rowsQuery,
  eventType.previousGtids,
  eventType.transactionContext,
  eventType.viewChange,
  eventType.mariadbAnnotateRows,
  eventType.mariadbBinlogCheckpoint,
  eventType.mariadbGtidList,
  eventType.mariadbStartEncryption,
]);
