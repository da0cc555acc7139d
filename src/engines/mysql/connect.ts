import { createConnection, type ConnectionOptions, type Field } from "mysql2";
import { ShardliftError } from "../../errors/error.ts";
import type { Endpoint, SessionOptions } from "../engine.ts";
import { isConnectionLost } from "./errors.ts";
import { takeConnectionMark } from "./connection-mark.ts";
import { mustNotBeOvertaken } from "./ledger-claim.ts";
import { end, execute, kill, query, type MysqlConnection, type SqlValue } from "./query.ts";
import { quoteString } from "./quote.ts";
import { readServerFacts, type ServerFacts } from "./server-facts.ts";
import {
  sessionNames,
  sessionVariables,
  type ConnectionRole,
  type SessionVariables,
} from "./session-settings.ts";

/**
 * Opens connections to one server of an endpoint, each with settings that were read back after they were set.
 * Invariants: all connections of one connector end at the same server (a failover behind a name shows at once, rule
 * 11); the password is in no message; when the signal aborts, every connection closes and everything that waits on
 * one fails. Whoever opens a connection closes it; what is left is closed by `closeAll`.
 */
export class Connector {
  readonly endpoint: Endpoint;
  readonly facts: ServerFacts;
  readonly signal: AbortSignal;
  readonly #options: SessionOptions;
  readonly #address: Address;
  readonly #open: Set<MysqlConnection>;

  private constructor(endpoint: Endpoint, options: SessionOptions, address: Address, facts: ServerFacts) {
    this.endpoint = endpoint;
    this.#options = options;
    this.signal = options.signal;
    this.#address = address;
    this.facts = facts;
    this.#open = new Set();
    options.signal.addEventListener("abort", this.#abort, { once: true });
  }

  /** Tries the hosts in order and stays with the first that answers. Throws E_CONNECT with every host's reason. */
  static async open(endpoint: Endpoint, options: SessionOptions): Promise<Connector> {
    const failures: { address: Address; error: unknown }[] = [];
    for (const address of endpoint.hosts) {
      options.signal.throwIfAborted();
      try {
        const connection = await dial(endpoint, address, options.signal);
        try {
          const facts = await readServerFacts(connection, endpoint, address);
          return new Connector(endpoint, options, address, facts);
        } finally {
          await end(connection);
        }
      } catch (error) {
        if (options.signal.aborted) throw options.signal.reason;
        failures.push({ address, error });
      }
    }
    throw cannotConnect(endpoint, failures);
  }

  /**
   * A connection for a role, with the role's settings and `extra` on top. Under a claim it is marked, so that a later
   * runner can find and end it (connection-mark.ts).
   */
  async connect(role: ConnectionRole, extra: SessionVariables = {}): Promise<MysqlConnection> {
    this.signal.throwIfAborted();
    const connection = await this.#dial();
    try {
      this.#open.add(connection);
      connection.once("error", () => this.#open.delete(connection));
      connection.once("end", () => this.#open.delete(connection));
      await this.#mustBeTheSameServer(connection);
      if (this.#options.claim !== undefined) {
        await takeConnectionMark(connection, this.#options.claim);
        await mustNotBeOvertaken(connection, this.#options.claim);
      }
      // Last: under NAMES binary every text of the server would arrive as bytes.
      await settle(connection, this.facts, role, extra);
      return connection;
    } catch (error) {
      await this.close(connection);
      if (this.signal.aborted) throw this.signal.reason;
      if (error instanceof ShardliftError) throw error;
      throw cannotConnect(this.endpoint, [{ address: this.#address, error }]);
    }
  }

  async close(connection: MysqlConnection): Promise<void> {
    this.#open.delete(connection);
    await end(connection);
  }

  /** The server's ids of the connections that are open now. */
  threadIds(): number[] {
    return [...this.#open].map((connection) => connection.threadId);
  }

  /** Closes everything that is still open; safe to call twice. */
  async closeAll(): Promise<void> {
    this.signal.removeEventListener("abort", this.#abort);
    await Promise.all([...this.#open].map((connection) => this.close(connection)));
  }

  async #dial(): Promise<MysqlConnection> {
    try {
      return await dial(this.endpoint, this.#address, this.signal);
    } catch (error) {
      if (this.signal.aborted) throw this.signal.reason;
      throw cannotConnect(this.endpoint, [{ address: this.#address, error }]);
    }
  }

  async #mustBeTheSameServer(connection: MysqlConnection): Promise<void> {
    const now = await readServerFacts(connection, this.endpoint, this.#address);
    if (now.id === this.facts.id) return;
    throw new ShardliftError(
      "E_CONNECT",
      `shard ${this.endpoint.shard}: ${format(this.#address)} was server ${this.facts.id} and is now ${now.id}`,
      {
        next: "Name each server by its own address; after a failover run `shardlift resume`.",
        retryable: true,
      },
    );
  }

  readonly #abort = (): void => {
    for (const connection of this.#open) kill(connection, this.signal.reason);
    this.#open.clear();
  };
}

type Address = Endpoint["hosts"][number];

/** TCP and authentication, nothing more. The account's default database is the shard's. */
function dial(endpoint: Endpoint, address: Address, signal: AbortSignal): Promise<MysqlConnection> {
  const connection = createConnection({
    ...driverOptions,
    host: address.host,
    port: address.port,
    user: endpoint.user,
    password: endpoint.password,
    database: endpoint.database,
  }) as MysqlConnection;
  // A connection without a listener would end the process when the server closes it between two queries; the next
  // query on it fails, and that is where the loss is handled.
  connection.on("error", ignoreIdleLoss);
  return new Promise((resolve, reject) => {
    const abort = (): void => kill(connection, signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    connection.connect((error) => {
      signal.removeEventListener("abort", abort);
      if (error === null) {
        resolve(connection);
      } else {
        connection.stream.destroy();
        reject(error);
      }
    });
  });
}

function ignoreIdleLoss(): void {}

/**
 * What mysql2 must not do with values (facts/copy-and-log 1, facts/hard-cases 0.5): make Dates, round big numbers,
 * parse JSON, read DOUBLE through its own parser. No multiple statements. A file is only ever sent for a LOAD whose
 * own stream is given with the statement; a server that asks for one elsewhere gets an error.
 */
const driverOptions: ConnectionOptions = {
  charset: "utf8mb4_bin",
  supportBigNumbers: true,
  bigNumberStrings: true,
  decimalNumbers: false,
  dateStrings: true,
  jsonStrings: true,
  timezone: "Z",
  multipleStatements: false,
  namedPlaceholders: false,
  stringifyObjects: true,
  connectTimeout: 10_000,
  enableKeepAlive: true,
  keepAliveInitialDelay: 10_000,
  typeCast: (field: Field, next: () => unknown): unknown =>
    field.type === "FLOAT" || field.type === "DOUBLE" ? field.string() : next(),
};

async function settle(
  connection: MysqlConnection,
  facts: ServerFacts,
  role: ConnectionRole,
  extra: SessionVariables,
): Promise<void> {
  const wanted = { ...sessionVariables(facts.flavor, role), ...extra };
  const assignments = Object.entries(wanted).map(
    ([name, value]) =>
      `@@SESSION.${name} = ${typeof value === "number" || /^\d/.test(value) ? value : quoteString(value)}`,
  );
  await execute(connection, `SET NAMES ${sessionNames(role)}, ${assignments.join(", ")}`);
  const names = Object.keys(wanted);
  const [actual] = await query(
    connection,
    `SELECT ${names.map((name, index) => `CAST(@@SESSION.${name} AS CHAR) AS v${index}`).join(", ")}`,
  );
  const wrong = names.filter((name, index) => shown(actual?.[`v${index}`]) !== shown(wanted[name]));
  if (wrong.length === 0) return;
  const list = wrong.map(
    (name) => `${name}=${shown(actual?.[`v${names.indexOf(name)}`])} (set to ${wanted[name]})`,
  );
  throw new Error(`the session did not keep its settings: ${list.join(", ")}`);
}

/** Booleans read back as ON and OFF on MariaDB, as 1 and 0 on MySQL. */
function shown(value: SqlValue | undefined): string {
  const text = value instanceof Uint8Array ? value.toString("utf8") : String(value);
  return text === "ON" ? "1" : text === "OFF" ? "0" : text;
}

function cannotConnect(
  endpoint: Endpoint,
  failures: readonly { readonly address: Address; readonly error: unknown }[],
): ShardliftError {
  const reasons = failures.map(
    ({ address, error }) => `${format(address)}: ${error instanceof Error ? error.message : String(error)}`,
  );
  const errors = failures.map(({ error }) => error);
  return new ShardliftError(
    "E_CONNECT",
    `cannot connect to shard ${endpoint.shard} as user ${endpoint.user}: ${reasons.join("; ")}`,
    {
      cause: errors.length === 1 ? errors[0] : new AggregateError(errors),
      retryable: errors.every(isConnectionLost),
    },
  );
}

function format(address: Address): string {
  return `${address.host}:${address.port}`;
}
