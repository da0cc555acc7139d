import type { ColumnLayout } from "./column-layout.ts";
import { Cursor, headerLength, type LogEvent, type RowsLayout } from "./event.ts";
import { inflateMariadb } from "./payload.ts";
import { RowImage } from "./row-image.ts";

/** In `before` and `after`: the event does not say what the column is. -1 stands for NULL (row-image.ts). */
const isUnknown = -2;

/**
 * Walks the changes of the rows events of one table: `open` an event, then `next` until it is false. After each
 * `next`, `before[2i]`, `before[2i + 1]` are offset and length of wanted column i in `buffer`; `after` likewise for an
 * update, where a column that the after image leaves out has its value of the before image (it did not change;
 * facts/pitfalls, 13a). An insert or delete has only `before`.
 */
export class RowsWalker {
  readonly before: Int32Array;
  readonly after: Int32Array;
  buffer: Buffer;
  isUpdate: boolean;
  readonly #columns: readonly ColumnLayout[];
  readonly #wanted: readonly number[];
  readonly #jsonColumns: number;
  readonly #images: Map<string, RowImage>;
  readonly #full: RowImage;
  #first: RowImage;
  #second: RowImage;
  #partial: boolean;
  #at: number;
  #end: number;

  constructor(columns: readonly ColumnLayout[], wanted: readonly number[], jsonColumns: number) {
    this.#columns = columns;
    this.#wanted = wanted;
    this.#jsonColumns = jsonColumns;
    this.#images = new Map();
    this.#full = new RowImage(
      columns,
      columns.map(() => true),
      wanted,
    );
    this.#first = this.#full;
    this.#second = this.#full;
    this.before = new Int32Array(wanted.length * 2);
    this.after = new Int32Array(wanted.length * 2);
    this.buffer = Buffer.alloc(0);
    this.isUpdate = false;
    this.#partial = false;
    this.#at = 0;
    this.#end = 0;
  }

  open(event: LogEvent, end: number, layout: RowsLayout): void {
    const cursor = new Cursor(event.buffer, event.start + headerLength + 8, end);
    // The extra block's length counts its own two bytes.
    if (layout.version === 2) cursor.skip(cursor.uint(2) - 2);
    const count = cursor.lengthEncoded();
    if (count !== this.#columns.length) {
      throw new RangeError(`the rows have ${count} columns and their table ${this.#columns.length}`);
    }
    this.isUpdate = layout.update;
    this.#partial = layout.partial;
    this.#first = this.#image(cursor);
    this.#second = layout.update ? this.#image(cursor) : this.#full;
    this.buffer = event.buffer;
    this.#at = cursor.at;
    this.#end = end;
    if (layout.compressed) {
      this.buffer = inflateMariadb(event.buffer.subarray(cursor.at, end));
      this.#at = 0;
      this.#end = this.buffer.length;
    }
    this.before.fill(isUnknown);
    this.after.fill(isUnknown);
  }

  /** Moves to the next change; false behind the last one. Throws when the rows do not end where the event does. */
  next(): boolean {
    const start = this.#at;
    if (start === this.#end) return false;
    let at = this.#first.read(this.buffer, start, this.before);
    if (this.isUpdate) {
      if (this.#partial) at = this.#skipPartialHeader(at);
      const { holds } = this.#second;
      for (let index = 0; index < holds.length; index++) {
        if (holds[index] === true) continue;
        this.after[index * 2] = this.before[index * 2] as number;
        this.after[index * 2 + 1] = this.before[index * 2 + 1] as number;
      }
      at = this.#second.read(this.buffer, at, this.after);
    }
    // Also false for NaN, which a read beyond the buffer gives.
    if (!(at > start && at <= this.#end)) throw new RangeError("a row does not end where its event ends");
    this.#at = at;
    return true;
  }

  /** Each bit set: all columns; the usual case, recognised without making a text of the bitmap. */
  #image(cursor: Cursor): RowImage {
    const count = this.#columns.length;
    const bytes = cursor.bytes((count + 7) >> 3);
    if (isFull(bytes, count)) return this.#full;
    const name = bytes.toString("hex");
    let image = this.#images.get(name);
    if (image === undefined) {
      const present = this.#columns.map((_, index) => ((bytes[index >> 3] ?? 0) & (1 << (index & 7))) !== 0);
      image = new RowImage(this.#columns, present, this.#wanted);
      this.#images.set(name, image);
    }
    return image;
  }

  /**
   * A partial update has option bits before each after image and, if JSON differences are in use, one bit per JSON
   * column of the table. A difference has a four-byte length like a whole JSON value, so the columns keep their
   * widths (MySQL sql/log_event.cc, Rows_log_event::unpack_current_row; Field_json::unpack_diff).
   */
  #skipPartialHeader(at: number): number {
    const cursor = new Cursor(this.buffer, at, this.#end);
    const options = cursor.lengthEncoded();
    if (options > 1) throw new RangeError(`value options ${options} are unknown`);
    if (options === 1) cursor.skip((this.#jsonColumns + 7) >> 3);
    return cursor.at;
  }
}

function isFull(bitmap: Buffer, count: number): boolean {
  const last = bitmap.length - 1;
  for (let index = 0; index < last; index++) if (bitmap[index] !== 0xff) return false;
  const mask = count % 8 === 0 ? 0xff : (1 << (count % 8)) - 1;
  return ((bitmap[last] ?? 0) & mask) === mask;
}
