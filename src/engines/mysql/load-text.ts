import { lostDecimals, mayHoldDecimals, type JsonDecimal } from "./json-decimals.ts";
import { lengthAt, lengthSize } from "./row-packets.ts";

/**
 * Turns row packets into the text that LOAD DATA reads back: fields separated by tabs, rows by newlines, NULL as `\N`,
 * and a backslash before each of NUL, tab, newline, carriage return and backslash (manual, LOAD DATA Statement).
 *
 * Invariant: the bytes of every value pass unchanged, whatever they mean; with `CHARACTER SET binary` the server
 * takes them as they are. No value is decoded: this is the inner loop of the copy, 1 µs a row is 1 s a million rows.
 */
export interface LoadTextOptions {
  /** Fields that become text. More fields in a packet are parts of the row's key and are handed to `key`. */
  readonly fields: number;
  readonly kinds: readonly FieldKind[];
  /** A block of whole rows; the receiver owns it. */
  readonly block: (block: Buffer) => void;
  /** Called for every row whose packet holds a key. */
  readonly key?: (parts: readonly string[]) => void;
  /** Called for a `json` field that its text alone does not bring over; needs the key in the packet. */
  readonly decimals?: (parts: readonly string[], field: number, decimals: readonly JsonDecimal[]) => void;
}

/**
 * `text`: any bytes. `plain`: a type that can not hold a byte to escape (numbers, times). `enum`: the index of an
 * ENUM, plain too; zeros are counted, since MariaDB warns of each one that it loads. `json`: text of MySQL's JSON,
 * looked through for numbers that its text does not keep.
 */
export type FieldKind = "text" | "plain" | "enum" | "json";

/** Size of a block; a row that is longer has a block of its own. */
export const blockBytes = 1 << 20;
/** A batch of a few keys must not pay for a whole block. */
const firstBytes = 1 << 14;

export class LoadText {
  readonly #options: LoadTextOptions;
  readonly #kinds: Uint8Array;
  /** Of the row at hand. */
  readonly #decimals: { readonly field: number; readonly decimals: readonly JsonDecimal[] }[] = [];
  #buffer: Buffer = noBytes;
  /** Size of the next buffer: small at first, a whole block once one was filled. */
  #nextBytes = firstBytes;
  #length = 0;
  rows = 0;
  bytes = 0;
  /** ENUM values of index 0 so far. */
  zeroEnums = 0;

  constructor(options: LoadTextOptions) {
    this.#options = options;
    this.#kinds = Uint8Array.from(options.kinds, (kind) => kindCodes[kind]);
  }

  /** Appends the row whose packet lies in `[start, end)`. */
  row(packet: Buffer, start: number, end: number): void {
    const { fields } = this.#options;
    // Worst case: every byte escaped, and a separator after every field (a NULL is one byte longer than its packet).
    const out = this.#room((end - start) * 2 + fields * 2);
    let at = this.#length;
    let from = start;
    for (let field = 0; field < fields; field += 1) {
      if (field > 0) out[at++] = tab;
      let length = packet[from++] ?? 0;
      if (length === nullMark) {
        out[at++] = backslash;
        out[at++] = capitalN;
        continue;
      }
      if (length > nullMark) {
        length = lengthAt(packet, from - 1);
        from += lengthSize(packet, from - 1) - 1;
      }
      const to = from + length;
      const kind = this.#kinds[field];
      if (kind === kindCodes.plain) at = copyPlain(packet, from, to, out, at);
      else if (kind === kindCodes.text) at = copyEscaped(packet, from, to, out, at);
      else at = this.#copySpecial(packet, from, to, out, at, field);
      from = to;
    }
    out[at++] = newline;
    this.#length = at;
    this.rows += 1;
    if (from < end) this.#endWithKey(packet, from, end);
  }

  #copySpecial(packet: Buffer, from: number, to: number, out: Buffer, at: number, field: number): number {
    if (this.#kinds[field] === kindCodes.enum) {
      if (isZero(packet, from, to)) this.zeroEnums += 1;
      return copyPlain(packet, from, to, out, at);
    }
    if (mayHoldDecimals(packet, from, to)) {
      this.#decimals.push({ field, decimals: lostDecimals(packet.toString("utf8", from, to)) });
    }
    return copyEscaped(packet, from, to, out, at);
  }

  /** Hands out what is left. */
  flush(): void {
    if (this.#length === 0) return;
    const block = this.#buffer.subarray(0, this.#length);
    this.bytes += block.length;
    // The next row brings its own; the last block is followed by none.
    this.#buffer = noBytes;
    this.#nextBytes = blockBytes;
    this.#length = 0;
    this.#options.block(block);
  }

  /** A buffer with room for `size` more bytes: grown while small, handed out and replaced when full. */
  #room(size: number): Buffer {
    const needed = this.#length + size;
    if (needed <= this.#buffer.length) return this.#buffer;
    if (needed <= blockBytes || this.#length === 0) {
      const size = Math.max(needed, this.#nextBytes);
      this.#nextBytes = Math.min(size * 4, blockBytes);
      const grown = Buffer.allocUnsafeSlow(size);
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
      return grown;
    }
    this.flush();
    return this.#room(size);
  }

  /** The packet goes on with the parts of the row's key. */
  #endWithKey(packet: Buffer, start: number, end: number): void {
    const { key, decimals } = this.#options;
    if (key === undefined && this.#decimals.length === 0) return;
    const parts: string[] = [];
    for (let from = start; from < end;) {
      const value = from + lengthSize(packet, from);
      const to = value + lengthAt(packet, from);
      parts.push(packet.toString("latin1", value, to));
      from = to;
    }
    key?.(parts);
    for (const found of this.#decimals) decimals?.(parts, found.field, found.decimals);
    this.#decimals.length = 0;
  }
}

const noBytes = Buffer.alloc(0);

const kindCodes = { text: 0, plain: 1, enum: 2, json: 3 } as const satisfies Record<FieldKind, number>;

/** `0` or `00000`. */
function isZero(packet: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) if (packet[at] !== 0x30) return false;
  return true;
}

const nullMark = 0xfb;
const tab = 0x09;
const newline = 0x0a;
const backslash = 0x5c;
const capitalN = 0x4e;

/** Byte → what follows the backslash; 0 where none is needed. */
const escapes = new Uint8Array(256);
escapes[0x00] = 0x30;
escapes[tab] = 0x74;
escapes[newline] = 0x6e;
escapes[0x0d] = 0x72;
escapes[backslash] = backslash;

/** From here on a native copy is quicker than a loop. */
const longRun = 64;

function copyPlain(packet: Buffer, start: number, to: number, out: Buffer, at: number): number {
  if (to - start >= longRun) return at + packet.copy(out, at, start, to);
  let from = start;
  let write = at;
  while (from < to) out[write++] = packet[from++] ?? 0;
  return write;
}

function copyEscaped(packet: Buffer, start: number, to: number, out: Buffer, at: number): number {
  let write = at;
  for (let from = start; from < to; from += 1) {
    const byte = packet[from] ?? 0;
    const escape = escapes[byte] ?? 0;
    if (escape !== 0) {
      out[write++] = backslash;
      out[write++] = escape;
    } else {
      out[write++] = byte;
    }
  }
  return write;
}
