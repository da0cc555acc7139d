import { invariant } from "../../errors/error.ts";
import { query, type MysqlConnection } from "./query.ts";
import { printedLiteral, textOfLiteral } from "./quoted-text.ts";
import { quoteIdentifier, quoteTable } from "./quote.ts";
import type { MysqlColumn } from "./table.ts";

/**
 * Members and defaults as bytes, and as literals that give exactly these bytes again. A text that has no form in
 * utf8mb4 becomes a literal of hexadecimal digits, which takes its bytes as they are in the column's character set.
 */
export interface TrueText {
  /** In the column's character set, in lower-case hexadecimal digits. */
  readonly hex: string;
  /** Undefined when utf8mb4 can not say it. */
  readonly text: string | undefined;
  /** What the server shows in its place. */
  readonly likenesses: readonly string[];
}

/** Something may have been lost on the way: `?` is what servers put for it, U+FFFD what our decoder puts. */
export function isLossy(shown: string): boolean {
  return shown.includes("?") || shown.includes("\uFFFD");
}

/** The literals of all members; undefined when the truth of one could not be had. */
export async function readMembers(
  connection: MysqlConnection,
  table: { readonly database: string; readonly name: string },
  column: MysqlColumn,
  shown: readonly string[],
): Promise<readonly string[] | undefined> {
  const literals = [...shown];
  const doubtful = shown.flatMap((literal, index) => (isLossy(literal) ? [index] : []));
  for (let from = 0; from < doubtful.length; from += batch) {
    const indexes = doubtful.slice(from, from + batch);
    const truths = await askMembers(connection, table, column, indexes);
    for (const index of indexes) {
      const truth = truths.get(index);
      const likeness = textOfLiteral(shown[index] ?? "");
      // The likeness proves that this is the member that is meant, and that the way below works on this server.
      if (truth === undefined || likeness === undefined || !truth.likenesses.includes(likeness)) return undefined;
      literals[index] = truth.text === undefined ? `x'${truth.hex}'` : printedLiteral(truth.text);
    }
  }
  return literals;
}

/** Numbers in one statement; a list may have 65,535 members. */
const batch = 500;

/**
 * An ENUM or SET column takes a number for the member at that place. A recursive query makes such a column without
 * writing anything: its columns have the types of the first part alone (manual, WITH; MariaDB and MySQL), here the
 * column itself, without a row of the table; its second part stores the numbers.
 */
async function askMembers(
  connection: MysqlConnection,
  { database, name }: { readonly database: string; readonly name: string },
  column: MysqlColumn,
  indexes: readonly number[],
): Promise<Map<number, TrueText>> {
  const numbers = indexes.map((index) => {
    const value = column.dataType === "set" ? 1n << BigInt(index) : BigInt(index + 1);
    return `SELECT ${index + 1} AS n, ${value} AS v`;
  });
  const rows = await query<{ n: string } & ShownForms>(
    connection,
    `WITH RECURSIVE m AS (
       SELECT t.${quoteIdentifier(column.name)} AS c, 0 AS n
         FROM (SELECT 1 AS one) AS o LEFT JOIN ${quoteTable(database, name)} AS t ON FALSE
       UNION ALL SELECT CAST(k.v AS UNSIGNED), k.n FROM m JOIN (${numbers.join(" UNION ALL ")}) AS k WHERE m.n = 0)
     SELECT CAST(n AS CHAR) AS n, ${formsOf("c", column.charset ?? "binary")} FROM m WHERE n > 0`,
  );
  return new Map(rows.flatMap((row) => (row.raw === null ? [] : [[Number(row.n) - 1, trueText(row)] as const])));
}

/** A text that is known in bytes. */
export async function withoutLoss(
  connection: MysqlConnection,
  bytes: Buffer,
  charset: string,
): Promise<TrueText | undefined> {
  const literal = bytes.length === 0 ? "''" : `0x${bytes.toString("hex")}`;
  const [row] = await query<ShownForms>(
    connection,
    `SELECT ${formsOf("c", charset)} FROM (SELECT CONVERT(${literal} USING ${nameOf(charset)}) AS c) AS d`,
  );
  // The server's conversion from bytes must have been none.
  return row?.raw?.toLowerCase() === bytes.toString("hex") ? trueText(row) : undefined;
}

interface ShownForms {
  readonly raw: string | null;
  readonly utf8mb4: string | null;
  readonly back: string | null;
  readonly utf8mb3: string | null;
}

function formsOf(expression: string, charset: string): string {
  const inUtf8mb4 = `CONVERT(${expression} USING utf8mb4)`;
  return `HEX(${expression}) AS raw, HEX(${inUtf8mb4}) AS utf8mb4,
          HEX(CONVERT(${inUtf8mb4} USING ${nameOf(charset)})) AS back, HEX(CONVERT(${expression} USING utf8mb3)) AS utf8mb3`;
}

function trueText({ raw, utf8mb4, back, utf8mb3 }: ShownForms): TrueText {
  const decoded = (hex: string | null): string => Buffer.from(hex ?? "", "hex").toString("utf8");
  const text = utf8mb4 !== null && back === raw ? decoded(utf8mb4) : undefined;
  return {
    hex: (raw ?? "").toLowerCase(),
    // Binary bytes that are no text come through the conversion untouched.
    text: text?.includes("\uFFFD") === true ? undefined : text,
    // MariaDB shows a binary default as it is, everything else in utf8mb3.
    likenesses: [decoded(utf8mb3), decoded(raw)],
  };
}

/** Names of character sets are plain words; they come from the server. */
function nameOf(charset: string): string {
  invariant(/^[a-z0-9_]+$/i.test(charset), `a character set called ${charset}`);
  return charset;
}
