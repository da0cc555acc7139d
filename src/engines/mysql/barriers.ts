import { ShardliftError } from "../../errors/error.ts";
import type { Barrier, BarrierSource, KeyInterval } from "../engine.ts";
import type { Claim } from "../engine.ts";
import type { Connector } from "./connect.ts";
import { ledgerDatabase } from "./ledger-schema.ts";
import { isConnectionLost } from "./errors.ts";
import { execute, kill, query, type MysqlConnection } from "./query.ts";
import { reconnecting } from "./reconnect.ts";

/**
 * Markers in the source's log (rule 3). A marker is one changed and committed row; the log delivers it, and a read
 * that starts after `raise` has returned sees everything that was logged before it.
 *
 * That last part needs more than the commit on MySQL: with binlog_order_commits=OFF earlier logged transactions may
 * still be invisible (facts/pitfalls 2: 181 of 442 barriers). So there it also waits for every GTID that this
 * session's log reader has seen. It waits for that set and nothing else: a hand-set gtid_next leaves gaps for ever,
 * so "everything up to the newest" may never come. Without GTIDs the order of commits is looked at again each time,
 * since the variable is dynamic. MariaDB commits in order.
 *
 * Invariant: callers that arrive while a marker is being committed share the next one, never that one: it may have
 * been logged before what they have seen.
 */
export class MysqlBarriers implements BarrierSource {
  readonly #connector: Connector;
  readonly #claim: Claim;
  readonly #seenGtids: () => string;
  readonly #timeoutMs: number;
  #connection: MysqlConnection | undefined;
  #gtids: boolean | undefined;
  /** The batch that collects callers now; it starts when the one in flight is done. */
  #next: { readonly marks: Mark[]; readonly raised: Promise<Barrier> } | undefined;
  #inFlight: Promise<unknown> = Promise.resolve();

  /** `seenGtids`: the GTID set that the log reader has read so far, as the server writes it; empty before the first. */
  constructor(
    connector: Connector,
    claim: Claim,
    options: { readonly seenGtids: () => string; readonly timeoutMs?: number },
  ) {
    this.#connector = connector;
    this.#claim = claim;
    this.#seenGtids = options.seenGtids;
    this.#timeoutMs = options.timeoutMs ?? 30_000;
  }

  raise(mark?: Mark): Promise<Barrier> {
    const batch = this.#next ?? this.#open();
    if (mark !== undefined) batch.marks.push(mark);
    return batch.raised;
  }

  #open(): { readonly marks: Mark[]; readonly raised: Promise<Barrier> } {
    const marks: Mark[] = [];
    const raised = this.#inFlight.then(() => {
      this.#next = undefined;
      // A marker too many is harmless: what counts is that one was committed after the call.
      return reconnecting(this.#connector.signal, () => this.#raise(marks));
    });
    this.#inFlight = raised.catch(() => {});
    this.#next = { marks, raised };
    return this.#next;
  }

  async #raise(marks: readonly Mark[]): Promise<Barrier> {
    this.#connector.signal.throwIfAborted();
    const connection = (this.#connection ??= await this.#connector.connect("control"));
    try {
      const n = await this.#commitMarker(connection, marks);
      if (this.#connector.facts.flavor === "mysql") await this.#awaitVisible(connection);
      return { n };
    } catch (error) {
      if (isConnectionLost(error)) {
        kill(connection, error);
        this.#connection = undefined;
      }
      throw error;
    }
  }

  /** LAST_INSERT_ID(expr) hands the new value back in the same answer (manual, Information Functions). */
  async #commitMarker(connection: MysqlConnection, marks: readonly Mark[]): Promise<number> {
    const text = markText(marks);
    const result = await execute(
      connection,
      `INSERT INTO ${ledgerDatabase}.barrier (job, n, mark) VALUES (?, LAST_INSERT_ID(1), ?)
       ON DUPLICATE KEY UPDATE n = LAST_INSERT_ID(n + 1), mark = ?`,
      [this.#claim.job, text, text],
    );
    return result.insertId;
  }

  async #awaitVisible(connection: MysqlConnection): Promise<void> {
    this.#gtids ??= await hasGtids(connection);
    if (!this.#gtids) {
      await mustOrderCommits(connection);
      return;
    }
    const seen = this.#seenGtids();
    if (seen === "") return;
    const seconds = (this.#timeoutMs / 1000).toFixed(3);
    const [row] = await query<{ late: string }>(
      connection,
      `SELECT CAST(WAIT_FOR_EXECUTED_GTID_SET(?, ${seconds}) AS CHAR) AS late`,
      [seen],
    );
    if (row?.late === "0") return;
    throw new ShardliftError(
      "E_TIMEOUT",
      `shard ${this.#connector.endpoint.shard}: transactions that are in the log did not become visible within ${seconds} s`,
      { next: "Look for a stuck commit (SHOW PROCESSLIST), then run `shardlift resume`.", retryable: true },
    );
  }
}

type Mark = { readonly table: string; readonly interval: KeyInterval };

/** Room of the column in characters (ledger-schema.ts). */
const markRoom = 1024;

/**
 * What is about to be read, for log readers in another process: they keep the keys of these intervals from here on.
 * Where the keys are too long for the column the tables are named without their ends, and where even that is too long
 * `[]` stands for all of them: keeping too many keys costs time, dropping one loses a row.
 */
export function markText(marks: readonly Mark[]): string | null {
  if (marks.length === 0) return null;
  const exact = JSON.stringify(marks.map(({ table, interval }) => ({ table, ...interval })));
  if (exact.length <= markRoom) return exact;
  const tables = JSON.stringify([...new Set(marks.map(({ table }) => table))].map((table) => ({ table })));
  return tables.length <= markRoom ? tables : "[]";
}

async function hasGtids(connection: MysqlConnection): Promise<boolean> {
  const [row] = await query<{ mode: string }>(connection, "SELECT CAST(@@GLOBAL.gtid_mode AS CHAR) AS mode");
  return row?.mode === "ON";
}

async function mustOrderCommits(connection: MysqlConnection): Promise<void> {
  const [row] = await query<{ ordered: string }>(
    connection,
    "SELECT CAST(@@GLOBAL.binlog_order_commits AS CHAR) AS ordered",
  );
  if (row?.ordered === "1") return;
  throw new ShardliftError(
    "E_PREFLIGHT",
    "binlog_order_commits is OFF and the server has no GTIDs, so a read can not be proven to see what the log shows",
    { next: "SET GLOBAL binlog_order_commits = ON, then run `shardlift resume`." },
  );
}
