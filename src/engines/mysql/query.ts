import type { Socket } from "node:net";
import type { Connection, ResultSetHeader } from "mysql2";
import { isConnectionLost, lostAt } from "./errors.ts";

/**
 * mysql2's callback connection as this engine uses it. The promise wrapper of mysql2 is left out on purpose: the row
 * and log paths read raw packets through `addCommand`, which it does not have.
 */
export type MysqlConnection = Connection & {
  readonly stream: Socket;
  /** Runs a custom protocol command; `execute` gets every packet and returns true when the command has ended. */
  addCommand(command: { execute(packet: unknown, connection: unknown): boolean }): unknown;
};

/**
 * A value of a control query. BIGINT and DECIMAL, FLOAT and DOUBLE, JSON and all temporal types arrive as strings;
 * integers up to 32 bits as numbers; binary strings and BIT as Buffers (options in `connect.ts`).
 */
export type SqlValue = string | number | Buffer | null;
export type SqlRow = Readonly<Record<string, SqlValue>>;
/** What may be bound to a `?`. Typed by hand, so that no object can slip in and become `key = value` text. */
export type Bindable =
  | string
  | number
  | bigint
  | boolean
  | Uint8Array
  | null
  | readonly (string | number | bigint)[];

/**
 * Runs a query and returns its rows. The caller names every result column itself (`AS c0`), never by the name of a
 * user's column: one called `__proto__` makes mysql2 throw out of its socket handler, which ends the process
 * (facts/hard-cases 0.6; measured: also with `rowsAsArray`).
 */
export function query<T extends object = SqlRow>(
  connection: MysqlConnection,
  sql: string,
  values?: readonly Bindable[],
): Promise<T[]> {
  return send<T[]>(connection, { sql, values });
}

/** Like `query`, with each row as an array in column order. The columns must be named by the caller all the same. */
export function queryArrays(
  connection: MysqlConnection,
  sql: string,
  values?: readonly Bindable[],
): Promise<SqlValue[][]> {
  return send<SqlValue[][]>(connection, { sql, values, rowsAsArray: true });
}

/** Runs a statement without rows; the answer carries affectedRows, warningStatus and insertId. */
export function execute(
  connection: MysqlConnection,
  sql: string,
  values?: readonly Bindable[],
): Promise<ResultSetHeader> {
  return send<ResultSetHeader>(connection, { sql, values });
}

interface Statement {
  readonly sql: string;
  readonly values?: readonly Bindable[] | undefined;
  readonly rowsAsArray?: boolean;
}

function send<T>(connection: MysqlConnection, statement: Statement): Promise<T> {
  const { values, ...rest } = statement;
  return new Promise<T>((resolve, reject) => {
    connection.query(
      { ...rest, ...(values === undefined ? {} : { values: values as never }) },
      (error: Error | null, result: unknown) => {
        if (error === null) resolve(result as T);
        else reject(asLost(connection, error));
      },
    );
  });
}

/**
 * Every statement of every role passes here, so this is where the driver's words for a lost connection end. One that
 * we have closed ourselves keeps the reason that it was closed with.
 */
function asLost(connection: MysqlConnection, error: Error): Error {
  if (!isConnectionLost(error) || error instanceof ClosedByUs) return error;
  const { host, port } = connection.config;
  return lostAt(`${host}:${port}`, error);
}

/**
 * Runs `body` inside one transaction: commits when it returns, rolls back when it throws. The error of a failed
 * ROLLBACK is left out: the server rolls back by itself when the connection is gone, and the first error is the cause.
 */
export async function inTransaction<T>(connection: MysqlConnection, body: () => Promise<T>): Promise<T> {
  await execute(connection, "BEGIN");
  let result: T;
  try {
    result = await body();
  } catch (error) {
    await execute(connection, "ROLLBACK").catch(() => kill(connection, error));
    throw error;
  }
  await execute(connection, "COMMIT");
  return result;
}

/** Closes at once, and fails everything that waits on the connection (mysql2's own `destroy` leaves it hanging). */
export function kill(connection: MysqlConnection, cause: unknown): void {
  connection.stream.destroy(new ClosedByUs("the connection was closed by shardlift", { cause }));
}

class ClosedByUs extends Error {
  override readonly name = "ClosedByUs";
  readonly code = "PROTOCOL_CONNECTION_LOST";
  readonly fatal = true;
}

/** Says goodbye to the server; falls back to closing at once. */
export async function end(connection: MysqlConnection): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, 1000);
    connection.end(() => {
      clearTimeout(timer);
      resolve();
    });
  });
  connection.stream.destroy();
}
