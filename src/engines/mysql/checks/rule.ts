import { invariant } from "../../../errors/error.ts";
import type { ErrorCode } from "../../../errors/codes.ts";
import type { Check, CheckContext, Finding, Session } from "../../engine.ts";
import { query, type Bindable, type SqlRow } from "../query.ts";
import { quoteIdentifier } from "../quote.ts";
import { MysqlSession } from "../session.ts";
import { readTableFacts, type TableFacts } from "../table-facts.ts";

/**
 * The frame of a preflight rule of this engine: what it may ask, and how it reports. A rule reads only, reports
 * everything that it finds, and every finding carries the statement that mends it.
 */
export function rule(
  name: string,
  roles: Check["roles"],
  look: (scope: RuleScope) => Promise<void>,
  code: ErrorCode = "E_PREFLIGHT",
): Check {
  return {
    name,
    roles,
    code,
    run: async (context) => {
      const scope = new RuleScope(name, context);
      await look(scope);
      return scope.findings;
    },
  };
}

export class RuleScope {
  readonly context: CheckContext;
  readonly session: MysqlSession;
  readonly peer: MysqlSession;
  readonly findings: Finding[] = [];
  readonly #check: string;

  constructor(check: string, context: CheckContext) {
    this.#check = check;
    this.context = context;
    this.session = mysqlSession(context.session);
    this.peer = mysqlSession(context.peer);
  }

  get flavor(): "mysql" | "mariadb" {
    return this.session.server.flavor;
  }

  get database(): string {
    return this.session.connector.endpoint.database;
  }

  query<T extends object = SqlRow>(sql: string, values?: readonly Bindable[]): Promise<T[]> {
    return this.session.control.use((connection) => query<T>(connection, sql, values));
  }

  /** Global variables by name; one that the server does not have is absent. */
  variables<N extends string>(...names: readonly N[]): Promise<Partial<Record<N, string>>> {
    return readVariables(this.session, names);
  }

  peerVariables<N extends string>(...names: readonly N[]): Promise<Partial<Record<N, string>>> {
    return readVariables(this.peer, names);
  }

  /** What this server says about the moved tables that it has. */
  async tables(): Promise<TableFacts[]> {
    const found: TableFacts[] = [];
    for (const { name } of this.context.tables) {
      const facts = await this.session.control.use((connection) =>
        readTableFacts(connection, this.database, name),
      );
      if (facts !== undefined) found.push(facts);
    }
    return found;
  }

  /** A finding about the server, or about a table of it. */
  blocker(why: string, fix: string, table?: string): void {
    this.#report("blocker", why, fix, table);
  }

  warning(why: string, fix: string, table?: string): void {
    this.#report("warning", why, fix, table);
  }

  #report(level: "blocker" | "warning", why: string, fix: string, table: string | undefined): void {
    const { shard, address } = this.session.server;
    const where = table === undefined ? `${shard} (${address})` : `${shard} table ${this.database}.${table}`;
    this.findings.push({ check: this.#check, level, where, why, fix });
  }
}

/** Names of tables in a fix: with their database, since an operator may paste it anywhere. */
export function sqlTable(database: string, table: string): string {
  return `${quoteIdentifier(database)}.${quoteIdentifier(table)}`;
}

function mysqlSession(session: Session): MysqlSession {
  invariant(session instanceof MysqlSession, "a MySQL rule was given another engine's session");
  return session;
}

async function readVariables<N extends string>(
  session: MysqlSession,
  names: readonly N[],
): Promise<Partial<Record<N, string>>> {
  const rows = await session.control.use((connection) =>
    query<{ Variable_name: N; Value: string }>(
      connection,
      "SHOW GLOBAL VARIABLES WHERE Variable_name IN (?)",
      [names],
    ),
  );
  const values: Partial<Record<N, string>> = {};
  for (const { Variable_name: name, Value: value } of rows) values[name] = value;
  return values;
}
