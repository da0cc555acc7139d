import { Readable } from "node:stream";
import { createZstdDecompress, inflateSync, zstdDecompressSync } from "node:zlib";
import { Cursor, headerLength, type LogEvent } from "./event.ts";

/**
 * The compressed forms of the log. A session can switch either on at any time (MySQL binlog_transaction_compression)
 * or the server has (MariaDB log_bin_compress), so both are read, never skipped.
 */

/** Largest transaction that is unpacked in one piece; a larger one is unpacked as a stream, so that memory stays flat. */
const wholeBytes = 8 << 20;

/**
 * The events inside a TRANSACTION_PAYLOAD, a group at a time. They have no checksum of their own. A group is valid
 * until the next one is asked for. Fields: MySQL libs/mysql/binlog/event/codecs/binary.cpp.
 */
export async function* payloadEvents(event: LogEvent, end: number): AsyncGenerator<readonly LogEvent[]> {
  const cursor = new Cursor(event.buffer, event.start + headerLength, end);
  let compression = -1;
  let size = Number.POSITIVE_INFINITY;
  for (;;) {
    const field = cursor.lengthEncoded();
    if (field === 0) break;
    const length = cursor.lengthEncoded();
    const value = new Cursor(cursor.buffer, cursor.skip(length), cursor.at);
    if (field === 2) compression = value.lengthEncoded();
    if (field === 3) size = value.lengthEncoded();
  }
  const payload = cursor.bytes(cursor.left);
  if (compression === 255) {
    yield wholeEvents(payload);
  } else if (compression !== 0) {
    throw new RangeError(`compression type ${compression} is unknown`);
  } else if (size <= wholeBytes) {
    yield wholeEvents(zstdDecompressSync(payload, { maxOutputLength: wholeBytes }));
  } else {
    yield* streamedEvents(payload);
  }
}

function wholeEvents(bytes: Buffer): readonly LogEvent[] {
  const { events, rest } = splitEvents(bytes);
  if (rest.length !== 0) throw new RangeError(`a compressed transaction ends inside an event`);
  return events;
}

/** A row may be larger than many chunks, so chunks are joined only when they hold a whole event. */
async function* streamedEvents(payload: Buffer): AsyncGenerator<readonly LogEvent[]> {
  let parts: Buffer[] = [];
  let have = 0;
  let need = headerLength;
  const unpacked = Readable.from([payload]).pipe(createZstdDecompress({ chunkSize: 256 << 10 }));
  for await (const chunk of unpacked as AsyncIterable<Buffer>) {
    parts.push(chunk);
    have += chunk.length;
    if (have < need) continue;
    const { events, rest } = splitEvents(Buffer.concat(parts, have));
    parts = [rest];
    have = rest.length;
    need = have < headerLength ? headerLength : rest.readUInt32LE(9);
    if (events.length > 0) yield events;
  }
  if (have !== 0) throw new RangeError(`a compressed transaction ends inside an event`);
}

function splitEvents(bytes: Buffer): { readonly events: readonly LogEvent[]; readonly rest: Buffer } {
  const events: LogEvent[] = [];
  let start = 0;
  while (bytes.length - start >= headerLength) {
    const size = bytes.readUInt32LE(start + 9);
    if (size < headerLength) throw new RangeError(`an event of ${size} bytes in a compressed transaction`);
    if (start + size > bytes.length) break;
    events.push({ buffer: bytes, start, end: start + size });
    start += size;
  }
  return { events, rest: bytes.subarray(start) };
}

/**
 * MariaDB's compressed rows and statements: one byte (0x80, algorithm in bits 4-6, bytes of the length in bits 0-2),
 * the original length in big-endian, a zlib stream (MariaDB sql/log_event.cc, binlog_buf_uncompress).
 */
export function inflateMariadb(bytes: Buffer): Buffer {
  const head = bytes[0] ?? 0;
  const lengthBytes = head & 0x07;
  if ((head & 0xf8) !== 0x80 || lengthBytes < 1 || lengthBytes > 4) {
    throw new RangeError(`compression header ${head} is unknown`);
  }
  const length = bytes.readUIntBE(1, lengthBytes);
  const inflated = inflateSync(bytes.subarray(1 + lengthBytes), { maxOutputLength: Math.max(length, 1) });
  if (inflated.length !== length)
    throw new RangeError(`${inflated.length} bytes inflated instead of ${length}`);
  return inflated;
}
