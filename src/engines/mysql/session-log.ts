import type { ChangeLog, KeyBatch, LogScope, Position } from "../engine.ts";
import type { Connector } from "./connect.ts";
import { MysqlChangeLog } from "./log/change-log.ts";

/**
 * The log of one server as the session gives it out. Every stream gets a reader of its own, since several moves may
 * follow one source at once, and a barrier must wait for what any of them has seen.
 */
export class SessionLog implements ChangeLog {
  readonly #connector: Connector;
  readonly #main: MysqlChangeLog;
  readonly #streams: MysqlChangeLog[] = [];

  constructor(connector: Connector) {
    this.#connector = connector;
    this.#main = new MysqlChangeLog(connector);
  }

  /** The union of what all streams have read, as MySQL writes GTID sets; parts may overlap. */
  seenGtids(): string {
    return this.#streams
      .map((stream) => stream.seenGtids())
      .filter((set) => set !== "")
      .join(",");
  }

  head(): Promise<Position> {
    return this.#main.head();
  }

  whyNotReadable(from: Position): Promise<string | undefined> {
    return this.#main.whyNotReadable(from);
  }

  preparedTransactions(): Promise<string[]> {
    return this.#main.preparedTransactions();
  }

  since(from: Position, scope: LogScope, signal: AbortSignal): AsyncIterable<KeyBatch> {
    const stream = new MysqlChangeLog(this.#connector);
    this.#streams.push(stream);
    return stream.since(from, scope, signal);
  }
}
