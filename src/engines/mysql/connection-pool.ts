import type { Connector } from "./connect.ts";
import { isConnectionLost } from "./errors.ts";
import { kill, type MysqlConnection } from "./query.ts";
import { reconnecting } from "./reconnect.ts";
import type { ConnectionRole, SessionVariables } from "./session-settings.ts";

/**
 * Connections of one role that wait for their next use. It opens as many as are used at once (the callers bound
 * that: copy threads, one recopy loop a table, one verifier) and keeps them; the connector closes them at the end.
 * Invariant: a connection in the pool has no open transaction and no unread answer.
 */
export class ConnectionPool {
  readonly connector: Connector;
  readonly #role: ConnectionRole;
  readonly #extra: SessionVariables;
  readonly #idle: MysqlConnection[] = [];

  constructor(connector: Connector, role: ConnectionRole, extra: SessionVariables) {
    this.connector = connector;
    this.#role = role;
    this.#extra = extra;
  }

  async take(): Promise<MysqlConnection> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (!idle.stream.destroyed && idle.stream.readable) return idle;
    }
    const connection = await this.connector.connect(this.#role, this.#extra);
    encodeAsUtf8(connection);
    return connection;
  }

  /** Gives back a connection that is as clean as it was taken. */
  give(connection: MysqlConnection): void {
    this.#idle.push(connection);
  }

  /** Runs `body` with a connection of its own; `body` leaves no transaction behind unless the connection is lost. */
  async use<T>(body: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    const connection = await this.take();
    try {
      const result = await body(connection);
      this.give(connection);
      return result;
    } catch (error) {
      if (isConnectionLost(error)) {
        kill(connection, error);
        // Whatever ended this one has most likely ended the idle ones too, and a fresh one costs little.
        for (const idle of this.#idle.splice(0)) kill(idle, error);
      } else {
        this.give(connection);
      }
      throw error;
    }
  }

  /** Like `use`, again over a lost connection: for bodies that may run twice without harm. */
  again<T>(body: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    return reconnecting(this.connector.signal, () => this.use(body));
  }
}

/**
 * After SET NAMES binary the server tells mysql2, which from then on writes statements one byte a character and turns
 * the table name 表 into h. The server takes the bytes of a statement as they come, and names are UTF-8.
 */
function encodeAsUtf8(connection: MysqlConnection): void {
  connection.config.charsetNumber = utf8mb4Number;
}

/** utf8mb4_general_ci (manual, Supported Character Sets). */
const utf8mb4Number = 45;

/**
 * The sessions of the row path also accept the dates that the source holds: '2024-02-30' is legal where the writer
 * had ALLOW_INVALID_DATES, and without it would arrive as a zero date (hard-cases, D13). Spelled in the order in
 * which the server prints it, since it is read back.
 */
export const rowSessionVariables: SessionVariables = {
  sql_mode: "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES",
};
