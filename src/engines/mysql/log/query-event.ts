import { isUtf8 } from "node:buffer";
import { Cursor, eventType, headerLength, type LogEvent } from "./event.ts";
import { inflateMariadb } from "./payload.ts";
import type { LoggedStatement } from "./statement.ts";

const begin: LoggedStatement = { sql: "BEGIN", isUtf8: true, database: "", noBackslashEscapes: false };

/** The statement in a QUERY event, with what is needed to read its text. */
export function readQuery(event: LogEvent, end: number): LoggedStatement {
  const cursor = new Cursor(event.buffer, event.start + headerLength, end);
  // Thread and duration; then the error code, which says nothing about what the statement did change.
  cursor.skip(8);
  const databaseLength = cursor.uint(1);
  cursor.skip(2);
  const variables = cursor.bytes(cursor.uint(2));
  const databaseAt = cursor.skip(databaseLength + 1);
  const compressed = event.buffer[event.start + 4] === eventType.mariadbQueryCompressed;
  if (!compressed && cursor.left === 5 && cursor.buffer.toString("latin1", cursor.at, end) === begin.sql)
    return begin;
  const text = compressed ? inflateMariadb(cursor.bytes(cursor.left)) : cursor.bytes(cursor.left);
  const utf8 = isUtf8(text);
  return {
    sql: text.toString(utf8 ? "utf8" : "latin1"),
    isUtf8: utf8,
    database: event.buffer.toString("utf8", databaseAt, databaseAt + databaseLength),
    noBackslashEscapes: hasNoBackslashEscapes(variables),
  };
}

/** Status variables are a code and a value each; flags (0) come first and sql_mode (1) next, on both servers. */
function hasNoBackslashEscapes(variables: Buffer): boolean {
  const at = variables[0] === 0 ? 5 : 0;
  if (variables.length < at + 9 || variables[at] !== 1) return false;
  return (variables.readUInt32LE(at + 1) & 0x10_0000) !== 0;
}
