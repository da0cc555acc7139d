import { query, type MysqlConnection } from "./query.ts";

/**
 * Expressions of generated columns, checks, defaults and keys as MySQL keeps them. SHOW CREATE TABLE prints a
 * character of four bytes in them as `????`; information_schema shows the kept text with each of its bytes as one
 * character and its quotes and backslashes escaped (`_utf8mb4\'ð…\'`, measured on 9.7). It is this text that the
 * server reads again when it opens the table.
 */
export interface KeptExpressions {
  readonly columns: ReadonlyMap<string, string>;
  readonly defaults: ReadonlyMap<string, string>;
  readonly checks: ReadonlyMap<string, string>;
  /** By key, in the order of its parts; undefined for a part that is a column. */
  readonly keys: ReadonlyMap<string, readonly (string | undefined)[]>;
}

export async function readExpressions(
  connection: MysqlConnection,
  database: string,
  table: string,
): Promise<KeptExpressions> {
  const columns = await query<{ name: string; generated: string | null; byDefault: string | null }>(
    connection,
    `SELECT COLUMN_NAME AS name, GENERATION_EXPRESSION AS \`generated\`, COLUMN_DEFAULT AS byDefault
       FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [database, table],
  );
  const checks = await query<{ name: string; clause: string }>(
    connection,
    `SELECT c.CONSTRAINT_NAME AS name, c.CHECK_CLAUSE AS clause
       FROM information_schema.TABLE_CONSTRAINTS t
       JOIN information_schema.CHECK_CONSTRAINTS c ON c.CONSTRAINT_SCHEMA = t.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = t.CONSTRAINT_NAME
      WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ? AND t.CONSTRAINT_TYPE = 'CHECK'`,
    [database, table],
  );
  const parts = await query<{ name: string; expression: string | null }>(
    connection,
    `SELECT INDEX_NAME AS name, EXPRESSION AS expression FROM information_schema.STATISTICS
      WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
    [database, table],
  );
  const keys = new Map<string, (string | undefined)[]>();
  for (const { name, expression } of parts)
    keys.set(name, [...(keys.get(name) ?? []), expression ?? undefined]);
  const some = (entries: [string, string | null][]): Map<string, string> =>
    new Map(entries.filter((entry): entry is [string, string] => entry[1] !== null));
  return {
    columns: some(columns.map(({ name, generated }) => [name, generated])),
    defaults: some(columns.map(({ name, byDefault }) => [name, byDefault])),
    checks: some(checks.map(({ name, clause }) => [name, clause])),
    keys,
  };
}

/**
 * The expression as it really is, in place of the one that is shown; a witness where it can not be told. `shown` has
 * its parentheses, `kept` has not.
 */
export function trueExpression(
  shown: string,
  kept: string | undefined,
): string | { readonly witness: string | undefined } {
  // Only a lost character is printed as four; a single `?` is one.
  const maybeLost = shown.includes(lost) || shown.includes("\uFFFD");
  const text = kept === undefined ? undefined : textOf(kept);
  if (text !== undefined && !text.includes(lost)) {
    const truth = `(${text})`;
    if (truth.replaceAll(/[\u{10000}-\u{10FFFF}]/gu, lost) === shown) return truth;
  }
  if (!maybeLost) return shown;
  // Where the kept text has a `????` too, nothing tells whether it was written so.
  return { witness: kept?.includes(lost) === true ? undefined : kept };
}

const lost = "????";

/** Undefined when the kept text is not in the form that we know. */
function textOf(kept: string): string | undefined {
  if (/[\u0100-\uFFFF]/.test(kept)) return undefined;
  const text = Buffer.from(kept.replaceAll(/\\(['\\])/g, "$1"), "latin1").toString("utf8");
  return text.includes("\uFFFD") ? undefined : text;
}
