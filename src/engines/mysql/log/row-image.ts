import type { ColumnLayout } from "./column-layout.ts";

/**
 * Steps over the row images of one table and says where the wanted columns lie, without decoding anything: this is
 * the hot loop of the log reader. One instance stands for one set of present columns, since an image holds only those
 * (binlog_row_image=MINIMAL, which any session may set: facts/hard-cases, 0.1).
 */
export class RowImage {
  /** Bit i: the image holds wanted column i. A column that it does not hold is not NULL: it is unknown. */
  readonly holds: readonly boolean[];
  readonly #nullBytes: number;
  /** Bits of the last null byte that stand for columns; the server leaves the others set. */
  readonly #lastNullMask: number;
  readonly #widths: Int32Array;
  readonly #wanted: Int32Array;
  readonly #stepWidths: Int32Array;
  readonly #stepWanted: Int32Array;

  /** `wanted`: column numbers; column `wanted[i]` is reported in places `2i` and `2i + 1`. */
  constructor(columns: readonly ColumnLayout[], present: readonly boolean[], wanted: readonly number[]) {
    const widths: number[] = [];
    const targets: number[] = [];
    for (const [index, column] of columns.entries()) {
      if (present[index] !== true) continue;
      widths.push(column.width);
      targets.push(wanted.indexOf(index));
    }
    this.holds = wanted.map((index) => present[index] === true);
    this.#nullBytes = (widths.length + 7) >> 3;
    this.#lastNullMask = widths.length % 8 === 0 ? 0xff : (1 << (widths.length % 8)) - 1;
    this.#widths = Int32Array.from(widths);
    this.#wanted = Int32Array.from(targets);
    const steps = joinSteps(widths, targets);
    this.#stepWidths = Int32Array.from(steps.map((step) => step.width));
    this.#stepWanted = Int32Array.from(steps.map((step) => step.target));
  }

  /**
   * Reads the image at `at` and returns where the next one begins. `places[2i]` becomes the offset of wanted column i,
   * or -1 when it is NULL or absent, and `places[2i + 1]` its length. A broken event gives an offset beyond its end,
   * or NaN: the caller compares the last one with the end of the event.
   */
  read(buffer: Buffer, at: number, places: Int32Array): number {
    const nulls = this.#nullBytes;
    if (this.#hasNull(buffer, at)) return this.#readWithNulls(buffer, at, places);
    const widths = this.#stepWidths;
    const wanted = this.#stepWanted;
    let offset = at + nulls;
    for (let step = 0; step < widths.length; step++) {
      const width = widths[step] as number;
      const target = wanted[step] as number;
      if (width >= 0) {
        if (target >= 0) {
          places[target * 2] = offset;
          places[target * 2 + 1] = width;
        }
        offset += width;
      } else {
        const length = lengthAt(buffer, offset, width);
        offset -= width;
        if (target >= 0) {
          places[target * 2] = offset;
          places[target * 2 + 1] = length;
        }
        offset += length;
      }
    }
    return offset;
  }

  #hasNull(buffer: Buffer, at: number): boolean {
    const last = this.#nullBytes - 1;
    for (let index = 0; index < last; index++) if (buffer[at + index] !== 0) return true;
    return last >= 0 && ((buffer[at + last] as number) & this.#lastNullMask) !== 0;
  }

  #readWithNulls(buffer: Buffer, at: number, places: Int32Array): number {
    const widths = this.#widths;
    const wanted = this.#wanted;
    let offset = at + this.#nullBytes;
    for (let column = 0; column < widths.length; column++) {
      const target = wanted[column] as number;
      if (((buffer[at + (column >> 3)] as number) & (1 << (column & 7))) !== 0) {
        if (target >= 0) places[target * 2] = -1;
        continue;
      }
      const width = widths[column] as number;
      const length = width >= 0 ? width : lengthAt(buffer, offset, width);
      if (width < 0) offset -= width;
      if (target >= 0) {
        places[target * 2] = offset;
        places[target * 2 + 1] = length;
      }
      offset += length;
    }
    return offset;
  }
}

/** `width` is minus the number of length bytes. */
function lengthAt(buffer: Buffer, at: number, width: number): number {
  if (width === -1) return buffer[at] as number;
  if (width === -2) return (buffer[at] as number) | ((buffer[at + 1] as number) << 8);
  return buffer.readUIntLE(at, -width);
}

/** In a row without NULL, fixed columns in a row that nobody wants are one step. */
function joinSteps(
  widths: readonly number[],
  targets: readonly number[],
): { readonly width: number; readonly target: number }[] {
  const steps: { width: number; target: number }[] = [];
  for (const [index, width] of widths.entries()) {
    const target = targets[index] ?? -1;
    const last = steps.at(-1);
    if (target < 0 && width >= 0 && last !== undefined && last.target < 0 && last.width >= 0)
      last.width += width;
    else steps.push({ width, target });
  }
  return steps;
}
