import type { Connector } from "./connect.ts";
import { isConnectionLost } from "./errors.ts";
import { execute, kill, type MysqlConnection } from "./query.ts";
import { reconnecting } from "./reconnect.ts";

/**
 * A few connections for control queries, lent to one caller at a time. Bounded, so that a session never takes more
 * than its share of a server's `max_connections`; callers beyond the bound wait in order.
 * Invariant: a connection that is lent is outside any transaction and has the settings of the control role. A caller
 * that changes a session variable opens a connection of its own instead.
 */
export class ControlPool {
  readonly #connector: Connector;
  readonly #size: number;
  readonly #idle: MysqlConnection[] = [];
  readonly #waiting: (() => void)[] = [];
  #lent = 0;

  constructor(connector: Connector, size: number) {
    this.#connector = connector;
    this.#size = size;
  }

  /** Lends a connection for the time of `body`. After an error a transaction that it left open is rolled back. */
  async use<T>(body: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    await this.#turn();
    let connection: MysqlConnection | undefined;
    try {
      connection = this.#takeIdle() ?? (await this.#connector.connect("control"));
      const result = await body(connection);
      this.#idle.push(connection);
      return result;
    } catch (error) {
      if (connection !== undefined) await this.#afterError(connection, error);
      throw error;
    } finally {
      this.#lent -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** Like `use`, again over a lost connection: for bodies that may run twice without harm. */
  again<T>(
    body: (connection: MysqlConnection) => Promise<T>,
    isPassing?: (error: unknown) => boolean,
  ): Promise<T> {
    return reconnecting(this.#connector.signal, () => this.use(body), isPassing);
  }

  async #turn(): Promise<void> {
    this.#connector.signal.throwIfAborted();
    while (this.#lent >= this.#size) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
      // At an abort whoever holds the connection fails and wakes one of us, and that one wakes the next.
      if (this.#connector.signal.aborted) this.#waiting.shift()?.();
      this.#connector.signal.throwIfAborted();
    }
    this.#lent += 1;
  }

  /** Skips connections that the server has closed while they lay idle. */
  #takeIdle(): MysqlConnection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.state === "authenticated") return connection;
    }
  }

  async #afterError(connection: MysqlConnection, error: unknown): Promise<void> {
    if (isConnectionLost(error)) {
      kill(connection, error);
      // Whatever ended this one has most likely ended the idle ones too, and a fresh one costs little.
      for (const idle of this.#idle.splice(0)) kill(idle, error);
      return;
    }
    try {
      await execute(connection, "ROLLBACK");
      this.#idle.push(connection);
    } catch {
      // The first error is the cause and is on its way to the caller; the server rolls back when the line is cut.
      kill(connection, error);
    }
  }
}
