/**
 * Event codes and the common header of the binary log, as they arrive in a dump stream (MySQL: libs/mysql/binlog/event;
 * MariaDB: sql/log_event.h). All numbers in the log are little-endian unless a comment says otherwise.
 */

/** One event in a received packet; `buffer` is shared with other events and must not be kept or changed. */
export interface LogEvent {
  readonly buffer: Buffer;
  /** Where the event's header begins. */
  readonly start: number;
  /** Behind the last byte of the event, checksum included. */
  readonly end: number;
}

export const headerLength = 19;

export const eventType = {
  query: 2,
  stop: 3,
  rotate: 4,
  intvar: 5,
  rand: 13,
  userVar: 14,
  formatDescription: 15,
  xid: 16,
  beginLoadQuery: 17,
  executeLoadQuery: 18,
  tableMap: 19,
  writeRowsV1: 23,
  updateRowsV1: 24,
  deleteRowsV1: 25,
  incident: 26,
  heartbeat: 27,
  ignorable: 28,
  rowsQuery: 29,
  writeRowsV2: 30,
  updateRowsV2: 31,
  deleteRowsV2: 32,
  gtid: 33,
  anonymousGtid: 34,
  previousGtids: 35,
  transactionContext: 36,
  viewChange: 37,
  xaPrepare: 38,
  partialUpdateRows: 39,
  transactionPayload: 40,
  heartbeatV2: 41,
  gtidTagged: 42,
  mariadbAnnotateRows: 160,
  mariadbBinlogCheckpoint: 161,
  mariadbGtid: 162,
  mariadbGtidList: 163,
  mariadbStartEncryption: 164,
  mariadbQueryCompressed: 165,
  mariadbWriteRowsCompressedV1: 166,
  mariadbUpdateRowsCompressedV1: 167,
  mariadbDeleteRowsCompressedV1: 168,
  mariadbWriteRowsCompressedV2: 169,
  mariadbUpdateRowsCompressedV2: 170,
  mariadbDeleteRowsCompressedV2: 171,
} as const;

/** The server says: whoever does not know this event may skip it. */
export const ignorableFlag = 0x80;

/** Seconds since the epoch; 0 for events that the server makes up for the dump. */
export function eventTime({ buffer, start }: LogEvent): number {
  return buffer.readUInt32LE(start);
}

/** Header and checksum included. */
export function eventSize({ buffer, start }: LogEvent): number {
  return buffer.readUInt32LE(start + 9);
}

export function eventFlags({ buffer, start }: LogEvent): number {
  return buffer.readUInt16LE(start + 17);
}

/** How rows events of a type are laid out; undefined for other types. */
export interface RowsLayout {
  /** 2: an extra-data block follows the flags. */
  readonly version: 1 | 2;
  /** Each change has a before and an after image. */
  readonly update: boolean;
  /** The rows are deflated (MariaDB log_bin_compress). */
  readonly compressed: boolean;
  /** After images may hold JSON differences (MySQL binlog_row_value_options). */
  readonly partial: boolean;
}

/** Indexed by event type, since it is asked for every event. */
export const rowsLayouts: readonly (RowsLayout | undefined)[] = Array.from({ length: 256 }, (_, type) =>
  rowsLayoutOf(type),
);

function rowsLayoutOf(type: number): RowsLayout | undefined {
  const plain = { compressed: false, partial: false };
  if (type >= eventType.writeRowsV1 && type <= eventType.deleteRowsV1) {
    return { version: 1, update: type === eventType.updateRowsV1, ...plain };
  }
  if (type >= eventType.writeRowsV2 && type <= eventType.deleteRowsV2) {
    return { version: 2, update: type === eventType.updateRowsV2, ...plain };
  }
  if (type === eventType.partialUpdateRows)
    return { version: 2, update: true, compressed: false, partial: true };
  if (type >= eventType.mariadbWriteRowsCompressedV1 && type <= eventType.mariadbDeleteRowsCompressedV1) {
    const update = type === eventType.mariadbUpdateRowsCompressedV1;
    return { version: 1, update, compressed: true, partial: false };
  }
  if (type >= eventType.mariadbWriteRowsCompressedV2 && type <= eventType.mariadbDeleteRowsCompressedV2) {
    const update = type === eventType.mariadbUpdateRowsCompressedV2;
    return { version: 2, update, compressed: true, partial: false };
  }
  return undefined;
}

/** Read position in a byte range, for the parts of the log that are not on the hot path. Reads beyond the end throw. */
export class Cursor {
  readonly buffer: Buffer;
  readonly end: number;
  at: number;

  constructor(buffer: Buffer, at: number, end: number) {
    this.buffer = buffer;
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }

  uint(bytes: 1 | 2 | 3 | 4 | 6): number {
    return this.buffer.readUIntLE(this.skip(bytes), bytes);
  }

  uint64(): bigint {
    return this.buffer.readBigUInt64LE(this.skip(8));
  }

  bytes(length: number): Buffer {
    const from = this.skip(length);
    return this.buffer.subarray(from, from + length);
  }

  text(length: number): string {
    return this.bytes(length).toString("utf8");
  }

  /** The protocol's length-encoded integer. */
  lengthEncoded(): number {
    const first = this.uint(1);
    if (first < 251) return first;
    if (first === 252) return this.uint(2);
    if (first === 253) return this.uint(3);
    if (first === 254) return Number(this.uint64());
    throw new RangeError(`${first} does not begin a length-encoded integer`);
  }

  /** Moves on and returns where it was. */
  skip(length: number): number {
    const from = this.at;
    if (length < 0 || from + length > this.end) {
      throw new RangeError(`the event ends ${from + length - this.end} bytes too early`);
    }
    this.at = from + length;
    return from;
  }
}
