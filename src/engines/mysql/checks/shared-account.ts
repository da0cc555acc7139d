import { rule } from "./rule.ts";

/**
 * MySQL's information_schema.PROCESSLIST turns statement texts into utf8mb3 and fails with error 3854 while any session
 * runs one with a 4-byte character, whatever is selected (measured on 9.7).
 */
const processlists = {
  mariadb: "information_schema.PROCESSLIST",
  mysql: "performance_schema.processlist",
} as const;

/** The gate lets the tool pass by its account: an application that uses the same one writes through a closed gate. */
export const sharedAccount = rule("shared-account", ["source", "target"], async (scope) => {
  const { user } = scope.session.connector.endpoint;
  const own = new Set(scope.session.connector.threadIds().map(String));
  const rows = await scope.query<{ id: string; host: string }>(
    `SELECT CAST(ID AS CHAR) AS id, HOST AS host FROM ${processlists[scope.session.server.flavor]}
      WHERE USER = ? AND COMMAND NOT LIKE 'Binlog Dump%'`,
    [user],
  );
  const others = rows.filter((row) => !own.has(row.id));
  if (others.length === 0) return;
  const hosts = [...new Set(others.map((row) => row.host.replace(/:\d+$/, "")))].join(", ");
  scope.warning(
    `${others.length} other connections (from ${hosts}) use the account ${user}; the gate holds nobody of that account back`,
    "give shardlift an account of its own (other shardlift jobs may share it)",
  );
});
