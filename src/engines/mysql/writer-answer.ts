import { ShardliftError } from "../../errors/error.ts";
import { query, queryArrays, type MysqlConnection } from "./query.ts";
import type { RowWrite } from "./writer-delete.ts";
import type { LoadAnswer } from "./writer-load.ts";

/**
 * Judges what LOAD DATA answered. LOCAL turns errors into warnings and skips rows (facts/copy-and-log, 4), so only an
 * answer without any warning, with every row that was sent, counts as success; everything else rolls back.
 */
export class DuplicateRows extends Error {
  override readonly name = "DuplicateRows";
}

export async function mustBeWhole(
  connection: MysqlConnection,
  write: RowWrite,
  answer: LoadAnswer,
): Promise<void> {
  const sent = write.rows.rowCount();
  const { affectedRows, records, deleted, skipped } = answer;
  const expected = write.form.warnsOfZeroEnums ? write.rows.zeroEnums() : 0;
  const warnings = answer.warnings === 0 ? 0 : await warningCount(connection);
  if (warnings === expected && skipped === 0 && records === sent && affectedRows === records + deleted)
    return;
  const messages = warnings === 0 ? [] : await serverWarnings(connection);
  // The straight path may meet a duplicate (1062, 1586). Whatever else the server has to say then comes up again at
  // the temporary table, which has no rows to collide with.
  if (skipped > 0 && messages.some(({ code }) => code === 1062 || code === 1586)) {
    throw new DuplicateRows(messages[0]?.message);
  }
  throw rowsRefused(
    write,
    `${sent} rows sent, ${records} read, ${skipped} skipped, ${warnings} warnings`,
    messages,
  );
}

/** The answer itself counts to 65,535 only. A SELECT of @@warning_count would clear the list on MySQL. */
async function warningCount(connection: MysqlConnection): Promise<number> {
  const [row] = await queryArrays(connection, "SHOW COUNT(*) WARNINGS");
  return Number(String(row?.[0]));
}

export interface ServerWarning {
  readonly code: number;
  readonly message: string;
}

export async function serverWarnings(connection: MysqlConnection): Promise<ServerWarning[]> {
  const rows = await query<{ Code: number; Message: string | Buffer }>(connection, "SHOW WARNINGS LIMIT 20");
  return rows.map(({ Code, Message }) => ({ code: Code, message: String(Message) }));
}

export function rowsRefused(
  write: RowWrite,
  what: string,
  warnings: readonly ServerWarning[],
): ShardliftError {
  const said = warnings.slice(0, 3).map(({ code, message }) => `${message} (${code})`);
  const reasons = said.length === 0 ? "" : `: ${said.join("; ")}`;
  return new ShardliftError(
    "E_ROWS_REFUSED",
    `table ${write.table.name} at shard ${write.shard}: ${what}${reasons}`,
  );
}
