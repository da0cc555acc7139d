import { ledgerDatabase } from "../ledger-schema.ts";
import { quoteIdentifier } from "../quote.ts";
import { isGranted, parseGrants } from "./granted.ts";
import { rule } from "./rule.ts";

/** Names the GRANT statements that are missing, and nothing beyond what the tool uses (hard-cases X06). */
export const rights = rule("rights", ["source", "target"], async (scope) => {
  const lines = await scope.query<Record<string, string>>("SHOW GRANTS");
  const grants = parseGrants(lines.map((line) => String(Object.values(line)[0])));
  const [account] = await scope.query<{ name: string }>("SELECT CURRENT_USER() AS name");
  for (const needed of neededRights(scope.flavor, scope.context.role, scope.database)) {
    const missing = needed.rights.filter((right) => !isGranted(grants, right, needed.database));
    if (missing.length === 0) continue;
    scope.blocker(
      `the account lacks ${missing.join(", ")} on ${needed.database ?? "*"}.* (${needed.why})`,
      // All that is needed, not only what is missing: this grant may take the place of a less specific one.
      `GRANT ${needed.rights.join(", ")} ON ${levelSql(needed.database)} TO ${accountSql(account?.name ?? "")}`,
    );
  }
});

interface Needed {
  /** Undefined: global. */
  readonly database: string | undefined;
  readonly rights: readonly string[];
  readonly why: string;
}

/** What this engine's statements need, by what they are for. */
function neededRights(
  flavor: "mysql" | "mariadb",
  role: "source" | "target",
  database: string,
): readonly Needed[] {
  const isMysql = flavor === "mysql";
  const needed: Needed[] = [
    {
      database: ledgerDatabase,
      rights: ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP"],
      why: "its helper tables",
    },
    {
      database: undefined,
      // The log's end and its filters, replication that is set up here, open transactions of others.
      rights: isMysql ? ["PROCESS", "REPLICATION CLIENT"] : ["PROCESS", "BINLOG MONITOR", "SLAVE MONITOR"],
      why: "to see the log's state and open transactions",
    },
  ];
  if (role === "source") {
    needed.push(
      { database, rights: ["SELECT", "TRIGGER"], why: "to read rows and to set up the gate" },
      { database: undefined, rights: ["REPLICATION SLAVE"], why: "to follow the log" },
    );
    if (isMysql) {
      needed.push(
        { database: undefined, rights: ["XA_RECOVER_ADMIN"], why: "to see prepared XA transactions" },
        { database: "performance_schema", rights: ["SELECT"], why: "to name who blocks the gate" },
      );
    }
  } else {
    needed.push({
      database,
      rights: [
        "SELECT",
        "INSERT",
        "DELETE",
        "CREATE",
        "DROP",
        "ALTER",
        "INDEX",
        "TRIGGER",
        "CREATE TEMPORARY TABLES",
      ],
      why: "to create, fill and guard the tables",
    });
  }
  return needed;
}

/** An underscore is a wildcard in a grant. */
function levelSql(database: string | undefined): string {
  return database === undefined
    ? "*.*"
    : `${quoteIdentifier(database.replaceAll(/[_%]/g, String.raw`\$&`))}.*`;
}

/** `user@host` as CURRENT_USER() shows it; the host has no @. */
function accountSql(account: string): string {
  const at = account.lastIndexOf("@");
  const quoted = [account.slice(0, at), account.slice(at + 1)].map(
    (part) => `'${part.replaceAll("'", "''")}'`,
  );
  return quoted.join("@");
}
