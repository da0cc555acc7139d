import { invariant } from "../../errors/error.ts";
import { keyToLiterals } from "./key-codec.ts";
import { fromByKey, whereKeyList } from "./key-index.ts";
import { execute, type MysqlConnection } from "./query.ts";
import { quoteIdentifier } from "./quote.ts";
import type { JsonPatch } from "./row-stream.ts";
import { copiedColumns, type MysqlTable } from "./table.ts";
import { rowsRefused, serverWarnings } from "./writer-answer.ts";
import type { RowWrite } from "./writer-delete.ts";

/**
 * Puts right the numbers of MySQL's JSON that LOAD DATA has made DOUBLEs of (json-decimals.ts), in the transaction that
 * has loaded them: a numeric literal is a DECIMAL of exactly its digits, and JSON_SET keeps it as one.
 */
export async function patchJson(connection: MysqlConnection, write: RowWrite): Promise<void> {
  const alike = Map.groupBy(write.rows.jsonPatches, shapeOfPatch);
  for (const patches of alike.values()) {
    for (let from = 0; from < patches.length; from += batchRows) {
      await patchRows(connection, write, patches.slice(from, from + batchRows));
    }
  }
}

/** The CASE over the keys of a batch is searched for each of its rows: small, or it costs more than it saves. */
const batchRows = 100;

/** Documents with the same paths and scales share a statement: a CASE has one type, and so one scale. */
function shapeOfPatch({ field, decimals }: JsonPatch): string {
  return JSON.stringify([
    field,
    ...decimals.map(({ path, text }) => [path, text.split(".")[1]?.length ?? 0]),
  ]);
}

async function patchRows(
  connection: MysqlConnection,
  write: RowWrite,
  patches: readonly JsonPatch[],
): Promise<void> {
  // An UPDATE that finds the old value equal to the new one writes nothing, and 2.5 equals 2.50: so the value is
  // changed first, by as little as a CHECK will hardly notice, and then back to what it is to be.
  await setNumbers(connection, write, patches, (text) => `${text}${text.includes(".") ? "" : "."}00000001`);
  await setNumbers(connection, write, patches, (text) => text);
}

async function setNumbers(
  connection: MysqlConnection,
  write: RowWrite,
  patches: readonly JsonPatch[],
  number: (text: string) => string,
): Promise<void> {
  const { table } = write;
  const [first] = patches;
  const column = copiedColumns(table)[first?.field ?? -1];
  if (first === undefined || column === undefined) return;
  const name = quoteIdentifier(column.name);
  const values = first.decimals.map(
    ({ path }, index) =>
      `${utf8(path)}, ${valueByKey(table, patches, (patch) => number(decimalText(patch, index)))}`,
  );
  const set = [`${name}=JSON_SET(${name}, ${values.join(", ")})`, ...untouchedTimes(table)].join(", ");
  const keys = patches.map(({ key }) => key);
  const sql = `UPDATE ${fromByKey(table, "t")} SET ${set} WHERE ${whereKeyList(table, keys)}`;
  const { info, warningStatus } = await execute(connection, sql);
  // `Rows matched: 2  Changed: 2  Warnings: 0`, in the language of lc_messages: the driver reads the English one only.
  const [found, changed] = info.match(/\d+/g)?.map(Number) ?? [];
  if (found === patches.length && changed === patches.length && warningStatus === 0) return;
  const what = `${patches.length} JSON values to put right, ${found} found, ${changed} changed, ${warningStatus} warnings`;
  throw rowsRefused(write, what, await serverWarnings(connection));
}

function valueByKey(
  table: MysqlTable,
  patches: readonly JsonPatch[],
  value: (patch: JsonPatch) => string,
): string {
  const whens = patches.map((patch) => {
    const equal = keyToLiterals(table, patch.key).map(
      (literal, part) => `${quoteIdentifier(table.primaryKey[part] ?? "")}=${literal}`,
    );
    return `WHEN ${equal.join(" AND ")} THEN ${value(patch)}`;
  });
  return `CASE ${whens.join(" ")} END`;
}

function decimalText({ decimals }: JsonPatch, index: number): string {
  const text = decimals[index]?.text ?? "";
  // Nothing but digits may pass unquoted.
  invariant(/^-?\d+(\.\d+)?$/.test(text), `"${text}" is not a decimal`);
  return text;
}

/** The session's text is bytes, and JSON paths want characters. */
function utf8(text: string): string {
  return `_utf8mb4 X'${Buffer.from(text, "utf8").toString("hex")}'`;
}

/** An UPDATE would set times with ON UPDATE CURRENT_TIMESTAMP; one that is assigned keeps its value (hard-cases, D17). */
function untouchedTimes(table: MysqlTable): string[] {
  return copiedColumns(table)
    .filter(({ dataType }) => dataType === "timestamp" || dataType === "datetime")
    .map(({ name }) => `${quoteIdentifier(name)}=${quoteIdentifier(name)}`);
}
