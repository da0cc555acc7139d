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

export type Flavor = "mysql" | "mariadb";

/** Something may have been lost on the way: `?` is what servers put for it, U+FFFD what our decoder puts. */
export function isLossy(shown: string): boolean {
  return shown.includes("?") || shown.includes("\uFFFD");
}

/** The literals of all members; undefined when the truth of one could not be had. */
export async function readMembers(
  connection: MysqlConnection,
  flavor: Flavor,
  table: { readonly database: string; readonly name: string },
  column: MysqlColumn,
  shown: readonly string[],
): Promise<readonly string[] | undefined> {
  const literals = [...shown];
  const doubtful = shown.flatMap((literal, index) => (isLossy(literal) ? [index] : []));
  for (let from = 0; from < doubtful.length; from += batch) {
    const indexes = doubtful.slice(from, from + batch);
    const members = indexes.map((index) => ({
      index,
      value: column.dataType === "set" ? 1n << BigInt(index) : BigInt(index + 1),
    }));
    const truths = await askMembers(connection, flavor, { table, column, members });
    for (const index of indexes) {
      const truth = truths.get(index);
      const likeness = textOfLiteral(shown[index] ?? "");
      // The likeness proves that this is the member that is meant, and that the way below works on this server.
      if (truth === undefined || likeness === undefined || !truth.likenesses.includes(likeness))
        return undefined;
      literals[index] = truth.text === undefined ? `x'${truth.hex}'` : printedLiteral(truth.text);
    }
  }
  return literals;
}

/** Numbers in one statement; a list may have 65,535 members. */
const batch = 500;

interface AskedMembers {
  readonly table: { readonly database: string; readonly name: string };
  readonly column: MysqlColumn;
  readonly members: readonly { readonly index: number; readonly value: bigint }[];
}

/**
 * An ENUM or SET column takes a number for the member at that place; what is needed is such a column without writing
 * one anywhere. A member that did not keep its number is left out.
 */
async function askMembers(
  connection: MysqlConnection,
  flavor: Flavor,
  asked: AskedMembers,
): Promise<Map<number, TrueText>> {
  const rows =
    flavor === "mysql" ? await askRecursively(connection, asked) : await askInBlock(connection, asked);
  const truths = new Map<number, TrueText>();
  for (const { index, value } of asked.members) {
    const row = rows.find(({ n }) => Number(n) === index);
    if (row?.raw !== null && row?.number === String(value)) truths.set(index, trueText(row));
  }
  return truths;
}

type MemberRow = { readonly n: string; readonly number: string | null } & ShownForms;

/**
 * The columns of a recursive query have the types of its first part alone (manual, WITH): here the column itself,
 * without a row of the table. The second part stores the numbers. Not on MariaDB, which gives the column one byte
 * (measured on 10.11: the ninth member of a SET and the 257th of an ENUM come out wrong).
 */
async function askRecursively(
  connection: MysqlConnection,
  { table, column, members }: AskedMembers,
): Promise<MemberRow[]> {
  const numbers = members.map(({ index, value }) => `SELECT ${index} AS n, ${value} AS v`);
  return await query<MemberRow>(
    connection,
    `WITH RECURSIVE m AS (
       SELECT t.${quoteIdentifier(column.name)} AS c, -1 AS n
         FROM (SELECT 1 AS one) AS o LEFT JOIN ${quoteTable(table.database, table.name)} AS t ON FALSE
       UNION ALL SELECT CAST(k.v AS UNSIGNED), k.n FROM m JOIN (${numbers.join(" UNION ALL ")}) AS k WHERE m.n = -1)
     SELECT CAST(n AS CHAR) AS n, CAST(CAST(c AS UNSIGNED) AS CHAR) AS number, ${formsOf("c", column.charset ?? "binary")}
       FROM m WHERE n >= 0`,
  );
}

/**
 * MariaDB's variables can have the type of a column, and a block of statements needs no procedure (10.3 and later).
 * Such a variable is cast by its text, not by its number, hence the `| 0` (measured).
 */
async function askInBlock(
  connection: MysqlConnection,
  { table, column, members }: AskedMembers,
): Promise<MemberRow[]> {
  const forms = Object.values(formsBy("c", column.charset ?? "binary")).map(
    (form) => `COALESCE(${form}, '-')`,
  );
  const steps = members.map(
    ({ index, value }) =>
      `SET c = ${value}; SET told = CONCAT_WS(' ', told, ${index}, c | 0, ${forms.join(", ")});`,
  );
  // The rows of the block come before the answer to the block itself.
  const answer: unknown = await query(
    connection,
    `BEGIN NOT ATOMIC
       DECLARE c TYPE OF ${quoteTable(table.database, table.name)}.${quoteIdentifier(column.name)};
       DECLARE told LONGTEXT CHARACTER SET ascii DEFAULT NULL;
       ${steps.join("\n")}
       SELECT told AS told;
     END`,
  );
  const [[row]] = answer as [[{ told: string | null }]];
  const words = (row.told ?? "").split(" ");
  const rows: MemberRow[] = [];
  for (let at = 0; at + 5 < words.length; at += 6) {
    const [n = "", number, raw, utf8mb4, back, utf8mb3] = words
      .slice(at, at + 6)
      .map((word) => (word === "-" ? null : word));
    rows.push({
      n: n ?? "",
      number: number ?? null,
      raw: raw ?? null,
      utf8mb4: utf8mb4 ?? null,
      back: back ?? null,
      utf8mb3: utf8mb3 ?? null,
    });
  }
  return rows;
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
  return Object.entries(formsBy(expression, charset))
    .map(([name, form]) => `${form} AS ${name}`)
    .join(", ");
}

/** In hexadecimal digits, so that nothing is converted on the way. */
function formsBy(expression: string, charset: string): Readonly<Record<keyof ShownForms, string>> {
  const inUtf8mb4 = `CONVERT(${expression} USING utf8mb4)`;
  return {
    raw: `HEX(${expression})`,
    utf8mb4: `HEX(${inUtf8mb4})`,
    back: `HEX(CONVERT(${inUtf8mb4} USING ${nameOf(charset)}))`,
    utf8mb3: `HEX(CONVERT(${expression} USING utf8mb3))`,
  };
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
