import { eventType, headerLength, type LogEvent } from "./event.ts";

/**
 * FORMAT_DESCRIPTION stands at the head of every file (and is sent when a dump begins) and says how the events behind
 * it are laid out. Returns the bytes of the checksum at their ends.
 */
export function readFormat({ buffer, start, end }: LogEvent): number {
  const body = start + headerLength;
  // 2 version, 50 server, 4 time, 1 header length, then the fixed part of each event type.
  const postHeaders = body + 57;
  if (buffer.readUInt16LE(body) !== 4 || buffer[body + 56] !== headerLength) {
    throw new RangeError("the log is not of format 4");
  }
  for (const [type, length] of expectedPostHeaders) {
    const actual = buffer[postHeaders + type - 1];
    // 0: this server does not write the type (MySQL 9 has given up version 1 of the rows events).
    if (actual !== length && actual !== 0)
      throw new RangeError(`events of type ${type} have a fixed part of ${actual} bytes`);
  }
  // The event always ends with the algorithm and room for a checksum, even where checksums are off.
  const algorithm = buffer[end - 5];
  if (algorithm !== 0 && algorithm !== 1) throw new RangeError(`checksum algorithm ${algorithm} is unknown`);
  return algorithm === 1 ? 4 : 0;
}

/** What the rest of the reader relies on. */
const expectedPostHeaders: readonly (readonly [type: number, length: number])[] = [
  [eventType.query, 13],
  [eventType.tableMap, 8],
  [eventType.writeRowsV1, 8],
  [eventType.updateRowsV1, 8],
  [eventType.deleteRowsV1, 8],
  [eventType.writeRowsV2, 10],
  [eventType.updateRowsV2, 10],
  [eventType.deleteRowsV2, 10],
];
