import type { ErrorCode } from "../../../errors/codes.ts";
import { tokenReadings, type Token } from "./sql-tokens.ts";
import { parseXid } from "./xa.ts";

/**
 * What a statement in the log means for the tables that are being moved (DESIGN rule 10: stop, never guess). Only what
 * is known to leave their rows and columns alone is harmless. A change that is logged as a statement is never: through
 * views, functions and triggers it may write any table.
 */
export type Statement =
  | { readonly kind: "begin" | "commit" | "rollback" | "savepoint" | "harmless" | "xa-start" | "xa-end" }
  | { readonly kind: "xa-verdict"; readonly verdict: "commit" | "rollback"; readonly xid: string }
  | { readonly kind: "stop"; readonly code: ErrorCode; readonly why: string };

export interface StatementScope {
  readonly database: string;
  /** Names of the moved tables, in lower case: servers may fold the case of names, and a stop too many is safe. */
  readonly tables: ReadonlySet<string>;
}

export interface LoggedStatement {
  readonly sql: string;
  /** False: the session used another character set, and `sql` has one character for each byte. */
  readonly isUtf8: boolean;
  /** The default database of the session that ran it. */
  readonly database: string;
  readonly noBackslashEscapes: boolean;
}

/** The triggers of our own gates; whoever makes them names them so. */
export const ownTriggerPrefix = "shardlift_";

export function classify(statement: LoggedStatement, scope: StatementScope): Statement {
  if (statement.sql === "BEGIN") return { kind: "begin" };
  if (statement.sql === "COMMIT") return { kind: "commit" };
  const readings = tokenReadings(statement.sql, statement);
  if (readings === undefined) return stop("E_STATEMENT_LOGGED", "a statement that can not be read", []);
  const [first = notUnderstood([]), ...others] = readings.map((tokens) =>
    classifyTokens(tokens, statement, scope),
  );
  // Which of them the server has taken depends on its version: they must agree, or it is not proven.
  const worse = others.find(({ kind }) => kind !== first.kind);
  if (worse === undefined) return first;
  return [first, worse].find(({ kind }) => kind === "stop") ?? notUnderstood(readings[0] ?? []);
}

function classifyTokens(
  tokens: readonly Token[],
  statement: LoggedStatement,
  scope: StatementScope,
): Statement {
  const ddl: Ddl = { tokens, schema: statement.database, scope };
  const first = word(tokens, 0);
  switch (first) {
    case "BEGIN":
      // `BEGIN NOT ATOMIC` is a block of statements.
      return tokens.length === 1 || word(tokens, 1) === "WORK" ? { kind: "begin" } : notUnderstood(tokens);
    case "START":
      return word(tokens, 1) === "TRANSACTION" ? { kind: "begin" } : notUnderstood(tokens);
    case "COMMIT":
      return { kind: "commit" };
    case "ROLLBACK":
      return { kind: [word(tokens, 1), word(tokens, 2)].includes("TO") ? "savepoint" : "rollback" };
    case "SAVEPOINT":
    case "RELEASE":
      return { kind: "savepoint" };
    case "XA":
      return classifyXa(statement.sql, tokens);
    case "CREATE":
    case "ALTER":
    case "DROP":
    case "RENAME":
    case "TRUNCATE":
      return statement.isUtf8 ? classifyDdl(ddl) : classifyForeignText(statement.sql, ddl);
    case "SET":
      if (word(tokens, 1) === "STATEMENT") return classifySetStatement(tokens, statement, scope);
      break;
    default:
  }
  return isHarmless(tokens) ? { kind: "harmless" } : notUnderstood(tokens);
}

/**
 * MariaDB logs the prefix together with the statement (measured: `SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE TABLE
 * orders` is a Query event in row format too), so what counts stands after FOR. Parentheses before it may hide another
 * FOR or a call; a changed sql_mode or character set would be logged with the event, although the text was read under
 * the old one.
 */
function classifySetStatement(
  tokens: readonly Token[],
  statement: LoggedStatement,
  scope: StatementScope,
): Statement {
  const at = tokens.findIndex((token) => token.kind === "word" && token.text === "FOR");
  const settings = tokens.slice(0, at);
  const unclear = settings.some(
    ({ text }) => text === "(" || /^(SQL_MODE$|CHARACTER_SET_|COLLATION_)/i.test(text),
  );
  if (at < 0 || unclear) return notUnderstood(tokens);
  const inner = classifyTokens(tokens.slice(at + 1), statement, scope);
  return inner.kind === "stop" || inner.kind === "harmless" ? inner : notUnderstood(tokens);
}

/**
 * Statements that change no row and no column of a table. FLUSH … FOR EXPORT and OPTIMIZE keep the rows as well. The
 * same words begin others that do (`ANALYZE UPDATE …` of MariaDB, `SET @a = f()`), so the second one counts too.
 */
function isHarmless(tokens: readonly Token[]): boolean {
  const end = tokens.findIndex(({ kind, text }) => kind === "symbol" && text === ";");
  if (end >= 0 && end < tokens.length - 1) return false;
  const second = word(tokens, 1);
  switch (word(tokens, 0)) {
    case "GRANT":
    case "REVOKE":
    case "FLUSH":
    case "INSTALL":
    case "UNINSTALL":
      return true;
    case "ANALYZE":
    case "OPTIMIZE": {
      const object = second === "LOCAL" || second === "NO_WRITE_TO_BINLOG" ? word(tokens, 2) : second;
      return object === "TABLE" || object === "TABLES";
    }
    case "CHECK":
      return second === "TABLE" || second === "TABLES" || second === "VIEW";
    case "SET":
      return second === "PASSWORD" || (second === "DEFAULT" && word(tokens, 2) === "ROLE");
    default:
      return false;
  }
}

function notUnderstood(tokens: readonly Token[]): Statement {
  return stop("E_STATEMENT_LOGGED", "a change is logged as a statement", tokens);
}

function classifyXa(sql: string, tokens: readonly Token[]): Statement {
  switch (word(tokens, 1)) {
    case "START":
    case "BEGIN":
      return { kind: "xa-start" };
    case "END":
      return { kind: "xa-end" };
    case "COMMIT":
    case "ROLLBACK": {
      const verdict = word(tokens, 1) === "COMMIT" ? "commit" : "rollback";
      const xid = parseXid(sql.replace(/^\s*XA\s+(COMMIT|ROLLBACK)\s+/i, ""));
      if (xid !== undefined) return { kind: "xa-verdict", verdict, xid };
      break;
    }
    default:
  }
  return stop("E_LOG_UNREADABLE", "an XA statement is not understood", tokens);
}

// ── definitions ──────────────────────────────────────────────────────────────────────────────────────────────────

interface Ddl {
  readonly tokens: readonly Token[];
  readonly schema: string;
  readonly scope: StatementScope;
}

function classifyDdl(ddl: Ddl): Statement {
  const { tokens } = ddl;
  if (word(tokens, 0) === "TRUNCATE") return unlessMentioned(ddl);
  // An account of the DEFINER clause may have such a name too.
  const at = tokens.findIndex(
    ({ kind, text }, index) =>
      index > 0 &&
      kind === "word" &&
      objects.has(text) &&
      !["=", "@"].includes(tokens[index - 1]?.text ?? ""),
  );
  switch (word(tokens, at)) {
    case "TABLE":
    case "TABLES":
      if (tokens.slice(0, at).some((token) => token.text === "TEMPORARY")) return { kind: "harmless" };
      if (isCounterOnly(ddl, at)) return { kind: "harmless" };
      if (tokens.some((token) => token.kind === "word" && token.text === "SELECT")) {
        return stop("E_STATEMENT_LOGGED", "a table is filled by a statement", tokens);
      }
      return unlessMentioned(ddl);
    case "INDEX":
      return unlessMentioned(ddl);
    case "TRIGGER":
      return classifyTrigger(ddl, at);
    case "DATABASE":
    case "SCHEMA":
      if (word(tokens, 0) === "DROP" && tokens.some((token) => sameName(token.raw, ddl.scope.database))) {
        return stop("E_DDL", "the database is dropped", tokens);
      }
      return { kind: "harmless" };
    case "":
      return stop("E_STATEMENT_LOGGED", "a definition is not understood", tokens);
    default:
      // Views, routines, events, accounts, tablespaces, sequences …: none of them holds rows of a moved table.
      return { kind: "harmless" };
  }
}

const objects: ReadonlySet<string> = new Set([
  "TABLE",
  "TABLES",
  "INDEX",
  "TRIGGER",
  "DATABASE",
  "SCHEMA",
  "VIEW",
  "PROCEDURE",
  "FUNCTION",
  "EVENT",
  "USER",
  "ROLE",
  "SERVER",
  "TABLESPACE",
  "LOGFILE",
  "SEQUENCE",
  "PACKAGE",
  "LIBRARY",
  "INSTANCE",
  "RESOURCE",
  "REFERENCE",
]);

/**
 * Our own triggers pass; those of others on a moved table do not, since the target would lack them. DROP TRIGGER does
 * not name its table, so in our database it stops.
 */
function classifyTrigger(ddl: Ddl, at: number): Statement {
  const { tokens, scope } = ddl;
  let nameAt = at + 1;
  while (["IF", "NOT", "EXISTS"].includes(word(tokens, nameAt))) nameAt += 1;
  const qualified = tokens[nameAt + 1]?.text === ".";
  const name = tokens[qualified ? nameAt + 2 : nameAt]?.raw ?? "";
  if (name.startsWith(ownTriggerPrefix)) return { kind: "harmless" };
  if (word(tokens, 0) === "DROP") {
    const database = qualified ? (tokens[nameAt]?.raw ?? "") : ddl.schema;
    if (!sameName(database, scope.database)) return { kind: "harmless" };
    return stop("E_DDL", `trigger ${name} is dropped`, tokens);
  }
  const on = tokens.findIndex(
    (token, index) => index > nameAt && token.kind === "word" && token.text === "ON",
  );
  const target = tokens.slice(0, on + 4);
  const table = target.findIndex((_, index) => index > on && isMentioned({ ...ddl, tokens: target }, index));
  return on >= 0 && table < 0 ? { kind: "harmless" } : stop("E_DDL", `trigger ${name} is created`, tokens);
}

/**
 * In some character sets a quote or a backslash is the second byte of a letter, so the tokens may be wrong. The bytes
 * of an ASCII name can not hide.
 */
function classifyForeignText(sql: string, { tokens, scope }: Ddl): Statement {
  const text = sql.toLowerCase();
  const suspects = [...scope.tables, scope.database.toLowerCase()];
  // oxlint-disable-next-line no-control-regex -- ASCII begins at NUL
  const found = suspects.find((name) => !/^[\x00-\x7f]*$/.test(name) || text.includes(name));
  if (found === undefined) return { kind: "harmless" };
  return stop("E_DDL", `a definition in another character set may concern ${found}`, tokens);
}

/** `ALTER TABLE t AUTO_INCREMENT = 5`: changes no row, and shardlift does it itself. */
function isCounterOnly(ddl: Ddl, at: number): boolean {
  const rest = ddl.tokens.slice(at + 1).map((token) => (token.kind === "number" ? "0" : token.text));
  return word(ddl.tokens, 0) === "ALTER" && /^\S+( \. \S+)? AUTO_INCREMENT( =)? 0$/.test(rest.join(" "));
}

function unlessMentioned(ddl: Ddl): Statement {
  const index = ddl.tokens.findIndex((_, at) => isMentioned(ddl, at));
  if (index < 0) return { kind: "harmless" };
  return stop("E_DDL", `table ${ddl.tokens[index]?.raw ?? ""} is changed`, ddl.tokens);
}

/** Whether the token names a moved table. Names of columns, keys and partitions are told apart by what stands before. */
function isMentioned({ tokens, schema, scope }: Ddl, at: number): boolean {
  const token = tokens[at];
  if (token === undefined || (token.kind !== "name" && token.kind !== "word")) return false;
  if (!scope.tables.has(token.raw.toLowerCase())) return false;
  if (tokens[at + 1]?.text === ".") return false;
  if (tokens[at - 1]?.text === ".") return sameName(tokens[at - 2]?.raw ?? "", scope.database);
  const inTable = word(tokens, 0) === "ALTER" || word(tokens, 0) === "CREATE";
  if (inTable && beforeOtherNames.has(tokens[at - 1]?.text ?? "")) return false;
  return sameName(schema, scope.database);
}

const beforeOtherNames: ReadonlySet<string> = new Set([
  "(",
  ",",
  "ADD",
  "AFTER",
  "BY",
  "CHANGE",
  "COLUMN",
  "CONSTRAINT",
  "DROP",
  "INDEX",
  "KEY",
  "LIKE",
  "MODIFY",
  "PARTITION",
]);

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function word(tokens: readonly Token[], at: number): string {
  const token = tokens[at];
  return token?.kind === "word" ? token.text : "";
}

/** The beginning of the statement without its values: they may be anybody's data (facts/hard-cases, X07). */
function stop(code: ErrorCode, why: string, tokens: readonly Token[]): Statement {
  const shown = tokens
    .slice(0, 8)
    .map((token) => (token.kind === "string" || token.kind === "number" ? "?" : token.raw))
    .join(" ");
  return { kind: "stop", code, why: `${why}: ${shown.slice(0, 120)}${tokens.length > 8 ? " …" : ""}` };
}
