import type { Cursor } from "./event.ts";

/**
 * How wide a column's value is in a row image, from the type codes and metadata of TABLE_MAP alone: no column of a
 * table has to be understood to step over it. An unknown type code throws: its width, and with it every later byte of
 * the event, would be a guess. Codes: MySQL include/field_types.h, MariaDB include/mysql.h.
 */
export interface ColumnLayout {
  /** The code that tells types apart: ENUM and SET have their own here, although TABLE_MAP hides them in STRING. */
  readonly type: number;
  /** Bytes of the value; or, if negative, minus the number of bytes that hold its length. */
  readonly width: number;
  /** What else the metadata says: bytes of a string, digits, fraction digits, bits. */
  readonly size: number;
  readonly scale: number;
}

export const columnType = {
  decimalOld: 0,
  tiny: 1,
  short: 2,
  long: 3,
  float: 4,
  double: 5,
  null: 6,
  timestampOld: 7,
  longlong: 8,
  int24: 9,
  date: 10,
  timeOld: 11,
  datetimeOld: 12,
  year: 13,
  newdate: 14,
  varchar: 15,
  bit: 16,
  timestamp: 17,
  datetime: 18,
  time: 19,
  mariadbBlobCompressed: 140,
  mariadbVarcharCompressed: 141,
  vector: 242,
  json: 245,
  decimal: 246,
  enum: 247,
  set: 248,
  blob: 252,
  varString: 253,
  string: 254,
  geometry: 255,
} as const;

const t = columnType;

/** Reads the metadata of one column and moves `metadata` behind it. */
export function readColumnLayout(code: number, metadata: Cursor): ColumnLayout {
  switch (code) {
    case t.tiny:
    case t.year:
      return fixed(code, 1);
    case t.short:
      return fixed(code, 2);
    case t.int24:
    case t.date:
    case t.newdate:
    case t.timeOld:
      return fixed(code, 3);
    case t.long:
    case t.timestampOld:
      return fixed(code, 4);
    case t.longlong:
    case t.datetimeOld:
      return fixed(code, 8);
    case t.null:
      return fixed(code, 0);
    case t.float:
    case t.double:
      return fixed(code, metadata.uint(1));
    case t.timestamp:
      return temporal(code, 4, metadata.uint(1));
    case t.datetime:
      return temporal(code, 5, metadata.uint(1));
    case t.time:
      return temporal(code, 3, metadata.uint(1));
    case t.decimal: {
      const size = metadata.uint(1);
      const scale = metadata.uint(1);
      return { type: code, width: decimalBytes(size - scale) + decimalBytes(scale), size, scale };
    }
    case t.bit: {
      const odd = metadata.uint(1);
      const size = metadata.uint(1) * 8 + odd;
      return { type: code, width: (size + 7) >> 3, size, scale: 0 };
    }
    case t.varchar:
    case t.varString:
    case t.mariadbVarcharCompressed:
      return counted(code, metadata.uint(2));
    case t.blob:
    case t.json:
    case t.geometry:
    case t.vector:
    case t.mariadbBlobCompressed: {
      const size = metadata.uint(1);
      if (size < 1 || size > 4) throw new RangeError(`a blob with ${size} length bytes`);
      return { type: code, width: -size, size, scale: 0 };
    }
    case t.string:
      return readString(metadata.uint(1), metadata.uint(1));
    default:
      throw new RangeError(`the column type ${code} is unknown`);
  }
}

/**
 * CHAR, BINARY, ENUM and SET share one code. The first byte is the real type, in which two bits of a length above 255
 * are folded, inverted, into bits 4 and 5 (MySQL Field_string::do_save_field_metadata).
 */
function readString(first: number, second: number): ColumnLayout {
  if (first === t.enum || first === t.set) return { type: first, width: second, size: second, scale: 0 };
  return counted(t.string, (((first << 4) & 0x300) ^ 0x300) + second);
}

function fixed(type: number, width: number): ColumnLayout {
  return { type, width, size: width, scale: 0 };
}

function counted(type: number, size: number): ColumnLayout {
  return { type, width: size > 255 ? -2 : -1, size, scale: 0 };
}

function temporal(type: number, whole: number, fraction: number): ColumnLayout {
  if (fraction > 6) throw new RangeError(`a time with ${fraction} fraction digits`);
  return { type, width: whole + ((fraction + 1) >> 1), size: fraction, scale: fraction };
}

/** Bytes of a number of decimal digits: four for each nine, fewer for the rest. */
export function decimalBytes(digits: number): number {
  return Math.trunc(digits / 9) * 4 + (restBytes[digits % 9] ?? 0);
}

export const restBytes = [0, 1, 1, 2, 2, 3, 3, 4, 4] as const;
