import { ShardliftError } from "../../../errors/error.ts";
import { sleep } from "../../../lib/wait.ts";
import type { ChangeLog, KeyBatch, LogScope, Position } from "../../engine.ts";
import { query, type Bindable, type MysqlConnection, type SqlRow } from "../query.ts";
import { PendingBatch, type BatchLimits } from "./batch.ts";
import { finalFailure } from "./dump-failure.ts";
import { prepareDump } from "./dump-request.ts";
import { DumpEnded, DumpStream } from "./dump-stream.ts";
import { eventType, type LogEvent } from "./event.ts";
import { furthest, gtidTracker, type GtidTracker } from "./gtid-tracker.ts";
import { whyNotContinued } from "./history.ts";
import { LogReader } from "./log-reader.ts";
import { payloadEvents } from "./payload.ts";
import { HeldKeys } from "./xa.ts";

/** What the log reader needs of a server; the engine's connector is one. */
export interface LogSource {
  readonly facts: { readonly flavor: "mysql" | "mariadb" };
  /** The moved tables' database. */
  readonly endpoint: { readonly database: string };
  connect(role: "log" | "control"): Promise<MysqlConnection>;
  close(connection: MysqlConnection): Promise<void>;
}

export interface LogOptions {
  readonly batch: BatchLimits;
  /** Bytes of the log that wait to be read; enough to keep the socket busy while a batch is worked on. */
  readonly queueBytes: number;
  /** Keys of undecided XA transactions; half a million takes about 50 MB. */
  readonly heldKeys: number;
  readonly heartbeatMs: number;
  readonly silenceMs: number;
  /** Back-off after a lost connection: doubles from the first to the longest pause. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** How long a server may be away before the reading ends (resumable). */
  readonly giveUpMs: number;
  /** How long a server may take to show what it has sent already. */
  readonly visibleSeconds: number;
}

const defaults: LogOptions = {
  batch: { keys: 50_000, bytes: 8 << 20 },
  queueBytes: 1 << 20,
  heldKeys: 500_000,
  heartbeatMs: 1000,
  silenceMs: 10_000,
  firstRetryMs: 100,
  longestRetryMs: 5000,
  giveUpMs: 120_000,
  visibleSeconds: 10,
};

/**
 * The binary log as a stream of dirty keys. It is pulled: nothing is read while nobody asks, except for a bounded
 * queue. `since` reconnects from the last delivered position; what was read but not delivered is read again. When the
 * signal aborts it throws the signal's reason; it never ends by itself.
 */
export class MysqlChangeLog implements ChangeLog {
  readonly #source: LogSource;
  readonly #flavor: "mysql" | "mariadb";
  readonly #options: LogOptions;
  #gtids: GtidTracker | undefined;
  #seenBefore: Position;

  constructor(source: LogSource, options: Partial<LogOptions> = {}) {
    this.#source = source;
    this.#flavor = source.facts.flavor;
    this.#options = { ...defaults, ...options };
    this.#gtids = undefined;
    this.#seenBefore = "";
  }

  /**
   * Every transaction of which this log has read an event, as a GTID set. A barrier on MySQL waits until the server
   * shows all of it (DESIGN rule 3).
   */
  seenGtids(): Position {
    return furthest(this.#flavor, this.#seenBefore, this.#gtids?.seen() ?? "");
  }

  async head(): Promise<Position> {
    const [row] = await this.#ask(
      this.#flavor === "mysql"
        ? "SELECT @@GLOBAL.gtid_executed AS head, @@GLOBAL.gtid_mode AS mode"
        : "SELECT @@GLOBAL.gtid_binlog_pos AS head, 'ON' AS mode",
    );
    const { head, mode } = row ?? {};
    if (typeof head !== "string" || mode !== "ON") {
      throw new ShardliftError("E_LOG_UNREADABLE", `the source has gtid_mode=${String(mode)}`, {
        next: "Set gtid_mode=ON and enforce_gtid_consistency=ON at the source.",
      });
    }
    // In canonical form, whatever line breaks and order the server prints.
    return gtidTracker(this.#flavor, head.replaceAll(/\s/g, "")).position();
  }

  async whyNotReadable(from: Position): Promise<string | undefined> {
    const question = { flavor: this.#flavor, from, seen: from, waitSeconds: 0 };
    const history = await whyNotContinued((sql, values) => this.#ask(sql, values), question);
    if (history !== undefined) return history.message;
    // MariaDB tells only a dump whether its log still holds a position.
    return this.#flavor === "mysql" ? undefined : this.#probe(from);
  }

  async preparedTransactions(): Promise<string[]> {
    const rows = await this.#ask(
      this.#flavor === "mysql" ? "XA RECOVER CONVERT XID" : "XA RECOVER FORMAT='SQL'",
    );
    return rows.map((row) => String(row["data"]));
  }

  /** These questions are rare, so none keeps a connection. */
  async #ask(sql: string, values?: readonly Bindable[]): Promise<SqlRow[]> {
    const connection = await this.#source.connect("control");
    try {
      return await query(connection, sql, values);
    } finally {
      await this.#source.close(connection);
    }
  }

  async *since(from: Position, scope: LogScope, signal: AbortSignal): AsyncGenerator<KeyBatch, never, void> {
    let delivered = from;
    let barrier: number | undefined;
    let failingSince: number | undefined;
    let pauseMs = this.#options.firstRetryMs;
    for (;;) {
      const startedAt = performance.now();
      try {
        for await (const batch of this.#follow(delivered, scope, barrier, signal)) {
          failingSince = undefined;
          pauseMs = this.#options.firstRetryMs;
          barrier = batch.barrier;
          yield batch;
          delivered = batch.position ?? delivered;
        }
      } catch (error) {
        signal.throwIfAborted();
        const final = finalFailure(error);
        if (final !== undefined) throw final;
        const now = performance.now();
        // A dump that was alive for a while without a change is no failure that goes on.
        if (now - startedAt > this.#options.longestRetryMs) failingSince = undefined;
        failingSince ??= now;
        if (now - failingSince > this.#options.giveUpMs) throw gaveUp(error, this.#options.giveUpMs);
      }
      await sleep(pauseMs, signal);
      pauseMs = Math.min(pauseMs * 2, this.#options.longestRetryMs);
    }
  }

  /** One dump, until it fails. */
  async *#follow(
    from: Position,
    scope: LogScope,
    barrier: number | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<KeyBatch, void, void> {
    const flavor = this.#flavor;
    const { database } = this.#source.endpoint;
    this.#seenBefore = furthest(flavor, this.seenGtids(), from);
    const gtids = gtidTracker(flavor, from);
    this.#gtids = gtids;
    await using stream = await this.#dump(from, signal);
    const batch = new PendingBatch(this.#options.batch, barrier);
    const held = new HeldKeys(this.#options.heldKeys);
    const reader = new LogReader({ flavor, database, scope, gtids, batch, held });
    const take = (): KeyBatch => batch.take(reader.inTransaction ? undefined : gtids.position());
    for (;;) {
      const event = stream.take();
      if (event === undefined) {
        // Nothing more is there: whoever waits gets what has ended, however little it is.
        if (batch.hasNews && !reader.inTransaction) yield take();
        else await stream.arrival();
        continue;
      }
      if (event.buffer[event.start + 4] === eventType.transactionPayload) {
        for await (const events of unpacked(event, reader.contentEnd(event))) {
          for (const inner of events) {
            reader.readInner(inner);
            if (batch.isFull) yield take();
          }
        }
      } else {
        reader.read(event);
        if (batch.isFull) yield take();
      }
    }
  }

  async #dump(from: Position, signal: AbortSignal, stopAtEnd = false): Promise<DumpStream> {
    signal.throwIfAborted();
    const flavor = this.#flavor;
    const connection = await this.#source.connect("log");
    const close = (): Promise<void> => this.#source.close(connection);
    try {
      const history = await whyNotContinued((sql, values) => query(connection, sql, values), {
        flavor,
        from,
        seen: this.#seenBefore,
        waitSeconds: this.#options.visibleSeconds,
      });
      if (history !== undefined) throw history;
      const { heartbeatMs, queueBytes, silenceMs } = this.#options;
      const request = await prepareDump(connection, { flavor, from, heartbeatMs, stopAtEnd });
      return new DumpStream(connection, { request, queueBytes, silenceMs, signal, close });
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** Starts a dump and looks whether the server refuses it or begins to send. */
  async #probe(from: Position): Promise<string | undefined> {
    await using stream = await this.#dump(from, new AbortController().signal, true);
    try {
      for (;;) {
        const event = stream.take();
        if (event === undefined) await stream.arrival();
        else if (event.buffer[event.start + 4] === eventType.mariadbGtid) return undefined;
      }
    } catch (error) {
      // The end of the log was reached.
      if (error instanceof DumpEnded) return undefined;
      const final = finalFailure(error);
      if (final?.code === "E_LOG_LOST" || final?.code === "E_LOG_FOREIGN") return final.message;
      throw final ?? error;
    }
  }
}

/** The events of a compressed transaction; an error of the decompressor says what it means. */
async function* unpacked(event: LogEvent, end: number): AsyncGenerator<readonly LogEvent[]> {
  try {
    for await (const events of payloadEvents(event, end)) yield events;
  } catch (error) {
    throw new ShardliftError(
      "E_LOG_UNREADABLE",
      `a compressed transaction can not be unpacked: ${String(error)}`,
      {
        cause: error,
      },
    );
  }
}

function gaveUp(error: unknown, afterMs: number): ShardliftError {
  const reason = error instanceof Error ? error.message : String(error);
  return new ShardliftError(
    "E_CONNECT",
    `the source's log could not be read for ${afterMs / 1000} s: ${reason}`,
    {
      next: "Bring the source back, then run `shardlift resume`.",
      cause: error,
      retryable: true,
    },
  );
}
