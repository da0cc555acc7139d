import type { MysqlColumn } from "../table.ts";
import { columnType, decimalBytes, restBytes, type ColumnLayout } from "./column-layout.ts";

/**
 * Turns a key column's bytes in the log into the canonical text of `key-codec.ts`. Must give exactly the text that
 * `keySelectList` makes the server print; `test/contract/mysql-log-property.test.ts` holds the two together.
 */
export type Decode = (buffer: Buffer, at: number, length: number) => string;

/** The decoder for a key column; undefined when the pair of type and bytes is none that a key can have. */
export function keyDecoder(column: MysqlColumn, layout: ColumnLayout): Decode | undefined {
  const t = columnType;
  switch (layout.type) {
    case t.tiny:
    case t.short:
    case t.int24:
    case t.long:
    case t.longlong:
      return integerDecoder(layout.width, column.unsigned);
    case t.decimal:
      return decimalDecoder(layout.size, layout.scale);
    case t.year:
      return (buffer, at) => (buffer[at] === 0 ? "0" : String(1900 + (buffer[at] ?? 0)));
    case t.date:
    case t.newdate:
      return decodeDate;
    case t.datetime:
      return (buffer, at) => decodeDatetime(buffer, at, layout.scale);
    case t.timestamp:
      return (buffer, at) => decodeTimestamp(buffer, at, layout.scale);
    case t.time:
      return (buffer, at) => decodeTime(buffer, at, layout.scale);
    case t.enum:
      return (buffer, at, length) => String(buffer.readUIntLE(at, length));
    case t.set:
      return (buffer, at, length) => littleEndian(buffer, at, length).toString();
    case t.bit:
      return (buffer, at, length) => BigInt(`0x${buffer.toString("hex", at, at + length)}`).toString();
    case t.string:
      return column.charset === undefined ? binaryDecoder(layout.size) : charDecoder(column.charset);
    case t.varchar:
    case t.varString:
    case t.blob:
      return (buffer, at, length) => `0x${buffer.toString("hex", at, at + length)}`;
    default:
      return undefined;
  }
}

function integerDecoder(width: number, unsigned: boolean): Decode {
  switch (width) {
    case 1:
      return unsigned ? (b, at) => String(b[at]) : (b, at) => String(b.readInt8(at));
    case 2:
      return unsigned ? (b, at) => String(b.readUInt16LE(at)) : (b, at) => String(b.readInt16LE(at));
    case 3:
      return unsigned ? (b, at) => String(b.readUIntLE(at, 3)) : (b, at) => String(b.readIntLE(at, 3));
    case 4:
      return unsigned ? (b, at) => String(b.readUInt32LE(at)) : (b, at) => String(b.readInt32LE(at));
    default:
      return unsigned
        ? (b, at) => String(safeInteger(b, at) ?? b.readBigUInt64LE(at))
        : (b, at) => String(safeInteger(b, at) ?? b.readBigInt64LE(at));
  }
}

/**
 * The 64-bit integer as a number if its size allows, signed or not: most keys are small, and a BigInt costs several
 * times as much.
 */
export function safeInteger(buffer: Buffer, at: number): number | undefined {
  const high = buffer.readInt32LE(at + 4);
  return high >= 0 && high < 0x20_0000 ? high * 0x1_0000_0000 + buffer.readUInt32LE(at) : undefined;
}

function littleEndian(buffer: Buffer, at: number, length: number): bigint {
  if (length === 8) return buffer.readBigUInt64LE(at);
  let value = 0n;
  for (let index = length - 1; index >= 0; index--) value = (value << 8n) | BigInt(buffer[at + index] ?? 0);
  return value;
}

// ── decimal ──────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Groups of nine digits in four bytes each, most significant first, the odd digits outside; the sign bit is inverted,
 * and all bits of a negative number are (MySQL strings/decimal.cc, decimal2bin).
 */
function decimalDecoder(precision: number, scale: number): Decode {
  const whole = precision - scale;
  const length = decimalBytes(whole) + decimalBytes(scale);
  const bytes = Buffer.alloc(length);
  return (buffer, at) => {
    buffer.copy(bytes, 0, at, at + length);
    const negative = ((bytes[0] ?? 0) & 0x80) === 0;
    bytes[0] = (bytes[0] ?? 0) ^ 0x80;
    if (negative) for (let index = 0; index < length; index++) bytes[index] = ~(bytes[index] ?? 0) & 0xff;
    const wholeText = digitGroups(bytes, 0, [...odd(whole), ...full(whole)]).replace(/^0+(?=\d)/, "") || "0";
    const fraction = digitGroups(bytes, decimalBytes(whole), [...full(scale), ...odd(scale)]);
    return `${negative ? "-" : ""}${wholeText}${scale > 0 ? `.${fraction}` : ""}`;
  };
}

const odd = (digits: number): number[] => (digits % 9 === 0 ? [] : [digits % 9]);
const full = (digits: number): number[] => Array.from({ length: Math.trunc(digits / 9) }, () => 9);

function digitGroups(bytes: Buffer, from: number, groups: readonly number[]): string {
  let at = from;
  let text = "";
  for (const digits of groups) {
    const width = digits === 9 ? 4 : (restBytes[digits] ?? 0);
    text += String(bytes.readUIntBE(at, width)).padStart(digits, "0");
    at += width;
  }
  return text;
}

// ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const two = (value: number): string => (value < 10 ? `0${value}` : String(value));

function date(year: number, month: number, day: number): string {
  return `${String(year).padStart(4, "0")}-${two(month)}-${two(day)}`;
}

function decodeDate(buffer: Buffer, at: number): string {
  const packed = buffer.readUIntLE(at, 3);
  return date(packed >> 9, (packed >> 5) & 15, packed & 31);
}

/** The digits of a fraction with its dot. It is stored in whole bytes, two digits each, big-endian. */
function fractionText(buffer: Buffer, at: number, digits: number): string {
  if (digits === 0) return "";
  const bytes = (digits + 1) >> 1;
  return `.${String(buffer.readUIntBE(at, bytes))
    .padStart(bytes * 2, "0")
    .slice(0, digits)}`;
}

/** 40 bits big-endian: sign, 17 bits year*13+month, 5 day, 5 hour, 6 minute, 6 second. */
function decodeDatetime(buffer: Buffer, at: number, digits: number): string {
  const days = Math.trunc(buffer.readUIntBE(at, 3) / 2) - 0x40_0000;
  const clock = buffer.readUInt32BE(at + 1) & 0x1_ffff;
  const months = days >> 5;
  const day = date(Math.trunc(months / 13), months % 13, days & 31);
  const time = `${two(clock >> 12)}:${two((clock >> 6) & 63)}:${two(clock & 63)}`;
  return `${day} ${time}${fractionText(buffer, at + 5, digits)}`;
}

/** Seconds since the epoch, big-endian; 0 is the zero date, since the server can not store the epoch itself. */
function decodeTimestamp(buffer: Buffer, at: number, digits: number): string {
  const seconds = buffer.readUInt32BE(at);
  const fraction = fractionText(buffer, at + 4, digits);
  if (seconds === 0) return `0000-00-00 00:00:00${fraction}`;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")}${fraction}`;
}

/**
 * 24 bits big-endian around 0x800000 (1 bit unused, 10 hour, 6 minute, 6 second) and the fraction behind; the two are
 * one number, so a negative time with a fraction has to be read as a whole (MySQL my_time_packed_from_binary).
 */
function decodeTime(buffer: Buffer, at: number, digits: number): string {
  const bytes = (digits + 1) >> 1;
  const unit = 256 ** bytes;
  const packed = buffer.readUIntBE(at, 3 + bytes) - 0x80_0000 * unit;
  const size = Math.abs(packed);
  const clock = Math.trunc(size / unit);
  const fraction =
    digits === 0
      ? ""
      : `.${String(size % unit)
          .padStart(bytes * 2, "0")
          .slice(0, digits)}`;
  const text = `${two((clock >> 12) & 1023)}:${two((clock >> 6) & 63)}:${two(clock & 63)}${fraction}`;
  return packed < 0 ? `-${text}` : text;
}

// ── fixed strings ────────────────────────────────────────────────────────────────────────────────────────────────

/** The log cuts the zero bytes at the end of BINARY(n); a SELECT shows them (facts/hard-cases, K05). */
function binaryDecoder(size: number): Decode {
  return (buffer, at, length) => `0x${buffer.toString("hex", at, at + length)}${"00".repeat(size - length)}`;
}

/** The server strips the spaces at the end of CHAR before it logs it; a SELECT does the same. Once more does no harm. */
function charDecoder(charset: string): Decode {
  const space = spaces[charset] ?? "20";
  return (buffer, at, length) => {
    let hex = buffer.toString("hex", at, at + length);
    while (hex.endsWith(space) && hex.length % space.length === 0) hex = hex.slice(0, -space.length);
    return `0x${hex}`;
  };
}

const spaces: Readonly<Record<string, string>> = {
  ucs2: "0020",
  utf16: "0020",
  utf16le: "2000",
  utf32: "00000020",
};
