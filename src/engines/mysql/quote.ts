/**
 * The one place where names and literals become SQL text. Values travel as bound parameters wherever the protocol
 * allows it; this is for the rest: DDL, trigger bodies, predicates that must stay visible to the range optimizer.
 * Invariant: whatever a server calls its tables and columns, the text names exactly that object (facts/hard-cases X01).
 */

/** Quotes one identifier. Never splits on dots: a table may be called `a.b`. */
export function quoteIdentifier(name: string): string {
  return `\`${name.replaceAll("`", "``")}\``;
}

/** Quotes `database`.`table`. */
export function quoteTable(database: string, table: string): string {
  return `${quoteIdentifier(database)}.${quoteIdentifier(table)}`;
}

/** Quotes a list of column names: `a`, `b`. */
export function quoteList(names: readonly string[]): string {
  return names.map(quoteIdentifier).join(", ");
}

/**
 * Quotes a string literal. Right only under a sql_mode without NO_BACKSLASH_ESCAPES, which `connect.ts` sets and
 * checks on every connection; a trigger keeps the sql_mode of the session that created it. All other bytes, NUL
 * included, may stand in a literal as they are.
 */
export function quoteString(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
