import type { Slice } from "../../../model/slice.ts";
import { keyColumns } from "../key-codec.ts";
import { columnNamed, type MysqlTable } from "../table.ts";
import { columnType } from "./column-layout.ts";
import type { LogEvent, RowsLayout } from "./event.ts";
import { keyDecoder, type Decode } from "./key-decoding.ts";
import { RowsWalker } from "./rows-walker.ts";
import { sliceFilter, type SliceFilter } from "./slice-filter.ts";
import { trueLayouts, type TableMap } from "./table-map.ts";

/** Takes the keys that a rows event touches. */
export interface KeySink {
  add(table: string, key: string): void;
}

/**
 * Reads the keys of one moved table from its rows events, as the table stands in one TABLE_MAP. Every change gives the
 * keys of its before and after image; a change whose shard key lies outside the slice in both is left out where that
 * is exact. A key that the event does not show throws: it may not be guessed.
 */
export class MovedTable {
  readonly name: string;
  readonly #walker: RowsWalker;
  readonly #decoders: readonly Decode[];
  readonly #filter: SliceFilter | undefined;
  /** Which wanted column is the shard key. */
  readonly #shardKey: number;

  constructor(table: MysqlTable, map: TableMap, slice: Slice) {
    this.name = table.name;
    const layouts = trueLayouts(table, map);
    const numberOf = (name: string): number => table.detail.columns.indexOf(columnNamed(table, name));
    const wanted = table.primaryKey.map(numberOf);
    this.#decoders = keyColumns(table).map((column, index) => {
      const layout = layouts[wanted[index] ?? -1];
      const decode = layout === undefined ? undefined : keyDecoder(column, layout);
      if (decode === undefined) {
        throw new RangeError(
          `key column ${column.name} (${column.columnType}) has a storage format that is not known`,
        );
      }
      return decode;
    });
    const shardColumn = columnNamed(table, table.shardKey);
    const shardNumber = numberOf(table.shardKey);
    const shardLayout = layouts[shardNumber];
    this.#filter =
      shardLayout === undefined ? undefined : sliceFilter(table, shardColumn, shardLayout, slice);
    if (this.#filter !== undefined && !wanted.includes(shardNumber)) wanted.push(shardNumber);
    this.#shardKey = wanted.indexOf(shardNumber);
    const jsonColumns = layouts.filter((layout) => layout.type === columnType.json).length;
    this.#walker = new RowsWalker(layouts, wanted, jsonColumns);
  }

  /** Returns the number of changed rows in the event. */
  read(event: LogEvent, end: number, layout: RowsLayout, sink: KeySink): number {
    const walker = this.#walker;
    walker.open(event, end, layout);
    let rows = 0;
    while (walker.next()) {
      rows += 1;
      const { before, after } = walker;
      if (!walker.isUpdate) {
        if (!this.#isOutside(before)) sink.add(this.name, this.#key(before));
        continue;
      }
      if (this.#isOutside(before) && this.#isOutside(after)) continue;
      sink.add(this.name, this.#key(before));
      if (!this.#sameKey()) sink.add(this.name, this.#key(after));
    }
    return rows;
  }

  #isOutside(places: Int32Array): boolean {
    if (this.#filter === undefined) return false;
    const at = places[this.#shardKey * 2] as number;
    // NULL or not in the image: not known to be outside.
    return at >= 0 && !this.#filter(this.#walker.buffer, at, places[this.#shardKey * 2 + 1] as number);
  }

  #key(places: Int32Array): string {
    const decoders = this.#decoders;
    let key = this.#part(places, 0);
    for (let index = 1; index < decoders.length; index++) key += `,${this.#part(places, index)}`;
    return key;
  }

  #part(places: Int32Array, index: number): string {
    const at = places[index * 2] as number;
    if (at < 0) throw new RangeError(`a change of table ${this.name} does not show its whole primary key`);
    return (this.#decoders[index] as Decode)(this.#walker.buffer, at, places[index * 2 + 1] as number);
  }

  /** Equal bytes are equal keys; unequal ones may still be the same key, which does no harm. */
  #sameKey(): boolean {
    const { buffer, before, after } = this.#walker;
    for (let index = 0; index < this.#decoders.length; index++) {
      const left = before[index * 2] as number;
      const right = after[index * 2] as number;
      const length = before[index * 2 + 1] as number;
      if (left < 0 || right < 0 || length !== after[index * 2 + 1]) return false;
      for (let byte = 0; byte < length; byte++)
        if (buffer[left + byte] !== buffer[right + byte]) return false;
    }
    return true;
  }
}
