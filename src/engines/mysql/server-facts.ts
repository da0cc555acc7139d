import type { Endpoint, ServerIdentity } from "../engine.ts";
import { query, type MysqlConnection } from "./query.ts";

/** What a server says about itself, read once per connection: it decides the dialect and proves who answered. */
export interface ServerFacts extends ServerIdentity {
  readonly flavor: "mysql" | "mariadb";
  /** `9.7.4` → 90704, `10.11.19` → 101119: for comparisons. */
  readonly versionNumber: number;
  readonly serverId: string;
}

export async function readServerFacts(
  connection: MysqlConnection,
  endpoint: Endpoint,
  address: Endpoint["hosts"][number],
): Promise<ServerFacts> {
  const [row] = await query<{ version: string; serverId: string; host: string; port: string }>(
    connection,
    `SELECT CAST(VERSION() AS CHAR) AS version, CAST(@@GLOBAL.server_id AS CHAR) AS serverId,
            CAST(@@GLOBAL.hostname AS CHAR) AS host, CAST(@@GLOBAL.port AS CHAR) AS port`,
  );
  if (row === undefined) throw new Error("the server does not answer a SELECT of its own variables");
  const flavor = row.version.includes("MariaDB") ? "mariadb" : "mysql";
  return {
    shard: endpoint.shard,
    flavor,
    version: row.version,
    versionNumber: versionNumber(row.version),
    serverId: row.serverId,
    id: flavor === "mysql" ? await mysqlUuid(connection) : await mariadbId(connection, row),
    address: `${address.host}:${address.port}`,
  };
}

async function mysqlUuid(connection: MysqlConnection): Promise<string> {
  const [row] = await query<{ uuid: string }>(
    connection,
    "SELECT CAST(@@GLOBAL.server_uuid AS CHAR) AS uuid",
  );
  return row?.uuid ?? "";
}

/**
 * MariaDB has no server_uuid. Server id and domain name it inside one replication set, host and port outside: two
 * shards with the default server_id 1 are not one server. After a failover the host changes, which is what we want.
 */
async function mariadbId(
  connection: MysqlConnection,
  row: { readonly serverId: string; readonly host: string; readonly port: string },
): Promise<string> {
  const [domain] = await query<{ id: string }>(
    connection,
    "SELECT CAST(@@GLOBAL.gtid_domain_id AS CHAR) AS id",
  );
  return `${domain?.id ?? ""}-${row.serverId}@${row.host}:${row.port}`;
}

function versionNumber(version: string): number {
  const [major = 0, minor = 0, patch = 0] = (/\d+\.\d+\.\d+/.exec(version)?.[0] ?? "").split(".").map(Number);
  return major * 10_000 + minor * 100 + patch;
}
