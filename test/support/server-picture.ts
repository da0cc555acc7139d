import type { Connection, RowDataPacket } from "mysql2/promise";

/**
 * Everything at a server that a job could change: objects, structures, contents, accounts, settings, and the log's
 * position, which moves with every write that is logged.
 */
export async function serverPicture(connection: Connection): Promise<Record<string, unknown>> {
  const rows = async (sql: string): Promise<unknown> => {
    const [result] = await connection.query<RowDataPacket[]>(sql);
    return result.map((row) => ({ ...row }));
  };
  const [version] = await connection.query<RowDataPacket[]>("SELECT VERSION() AS v");
  const mariadb = /mariadb/i.test(String(version[0]?.["v"]));
  return {
    databases: await rows("SHOW DATABASES"),
    tables: await rows(
      "SELECT table_schema AS s, table_name AS t, create_time AS c FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys', 'mysql') ORDER BY 1, 2",
    ),
    triggers: await rows(
      "SELECT trigger_schema AS s, trigger_name AS t FROM information_schema.triggers WHERE trigger_schema <> 'sys'",
    ),
    accounts: await rows("SELECT user, host FROM mysql.user ORDER BY 1, 2"),
    position: await rows(mariadb ? "SELECT @@gtid_binlog_pos AS p" : "SELECT @@global.gtid_executed AS p"),
    settings: await rows(
      "SHOW GLOBAL VARIABLES WHERE Variable_name NOT LIKE '%time%' AND Variable_name NOT LIKE 'gtid%' AND Variable_name NOT LIKE 'innodb_buffer_pool%'",
    ),
  };
}
