import type { ServerPressure } from "../engine.ts";
import { query, type MysqlConnection } from "./query.ts";

/**
 * Threads_running counts this very question too, so it is at least 1. The history list length is an InnoDB metric that
 * is enabled by default on both servers (MySQL manual, INNODB_METRICS; MariaDB has the same table).
 */
export async function readPressure(connection: MysqlConnection): Promise<ServerPressure> {
  const [threads] = await query<{ Value: string }>(connection, "SHOW GLOBAL STATUS LIKE 'Threads_running'");
  const [history] = await query<{ count: string }>(
    connection,
    "SELECT CAST(COUNT AS CHAR) AS count FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'",
  );
  return { threadsRunning: Number(threads?.Value ?? 0), historyList: Number(history?.count ?? 0) };
}
