import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  columnType,
  readColumnLayout,
  type ColumnLayout,
} from "../../src/engines/mysql/log/column-layout.ts";
import {
  Cursor,
  eventType,
  headerLength,
  rowsLayouts,
  type LogEvent,
} from "../../src/engines/mysql/log/event.ts";
import { MovedTable } from "../../src/engines/mysql/log/moved-table.ts";
import { inflateMariadb } from "../../src/engines/mysql/log/payload.ts";
import { RowsWalker } from "../../src/engines/mysql/log/rows-walker.ts";
import { whyDifferent, type TableMap } from "../../src/engines/mysql/log/table-map.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { Slice } from "../../src/model/slice.ts";
import { column, tableOf } from "../support/mysql-shapes.ts";

const int: ColumnLayout = { type: columnType.long, width: 4, size: 4, scale: 0 };
const varchar: ColumnLayout = { type: columnType.varchar, width: -1, size: 40, scale: 0 };

function int32(value: number): number[] {
  return [...Buffer.from(Int32Array.of(value).buffer)];
}

function rowsEvent(type: number, columns: number, body: readonly number[]): LogEvent {
  const buffer = Buffer.from([...Array<number>(headerLength + 8).fill(0), 2, 0, columns, ...body]);
  buffer[4] = type;
  return { buffer, start: 0, end: buffer.length };
}

function layoutOf(type: number): NonNullable<(typeof rowsLayouts)[number]> {
  const layout = rowsLayouts[type];
  if (layout === undefined) throw new Error(`${type} is no rows event`);
  return layout;
}

describe("rows", () => {
  test("are walked whatever is NULL, with the unused bits of the null bytes set or not", () => {
    const walker = new RowsWalker([varchar, int, int], [1, 2], 0);
    const type = eventType.writeRowsV2;
    const row1 = [0b1111_1000, 2, 97, 98, ...int32(7), ...int32(8)];
    const row2 = [0b1111_1101, ...int32(9)];
    const event = rowsEvent(type, 3, [0xff, ...row1, ...row2]);
    walker.open(event, event.end, layoutOf(type));
    expect(walker.next()).toBe(true);
    expect(
      [...walker.before].map((place, index) => (index % 2 === 0 ? event.buffer.readInt32LE(place) : place)),
    ).toEqual([7, 4, 8, 4]);
    expect(walker.next()).toBe(true);
    expect(event.buffer.readInt32LE(walker.before[0])).toBe(9);
    expect(walker.before[2]).toBe(-1);
    expect(walker.next()).toBe(false);
  });

  test("that end elsewhere than their event are an error, never fewer rows", () => {
    const type = eventType.writeRowsV2;
    const full = [0xff, 0, 2, 97, 98, ...int32(7)];
    for (let length = 1; length < full.length; length++) {
      const walker = new RowsWalker([varchar, int], [1], 0);
      const event = rowsEvent(type, 2, full.slice(0, length));
      walker.open(event, event.end, layoutOf(type));
      // A bitmap without rows is an empty event; anything else must be noticed.
      if (length === 1) expect(walker.next()).toBe(false);
      else expect(() => walker.next(), `${length} bytes`).toThrow(RangeError);
    }
    const walker = new RowsWalker([varchar, int], [1], 0);
    const foreign = rowsEvent(type, 3, full);
    expect(() => walker.open(foreign, foreign.end, layoutOf(type))).toThrow("3 columns");
  });

  test("without any present column are an error, not an endless loop", () => {
    const walker = new RowsWalker([varchar, int], [1], 0);
    const event = rowsEvent(eventType.writeRowsV2, 2, [0, 0]);
    walker.open(event, event.end, layoutOf(eventType.writeRowsV2));
    expect(() => walker.next()).toThrow(RangeError);
  });
});

describe("keys of a moved table", () => {
  const table = tableOf([column("id", "int"), column("owner", "int")], ["id"], {
    key: "owner",
    type: "integer",
  });
  const map: TableMap = { database: "shop", table: "t", columns: [int, int], names: undefined };

  function keys(slice: Slice, type: number, body: readonly number[]): string[] {
    const found: string[] = [];
    const event = rowsEvent(type, 2, body);
    const reader = new MovedTable(table, map, slice);
    reader.read(event, event.end, layoutOf(type), { add: (_, key) => found.push(key) });
    return found;
  }

  const row = (id: number, owner: number): number[] => [0, ...int32(id), ...int32(owner)];

  test("are those before and after an update, once when they are the same", () => {
    const body = [3, 3, ...row(1, 5), ...row(1, 6), ...row(2, 5), ...row(3, 5)];
    expect(keys([{ from: MIN, to: MAX }], eventType.updateRowsV2, body)).toEqual(["1", "2", "3"]);
  });

  test("come with every change that enters, leaves or stays in the slice", () => {
    const slice: Slice = [{ from: boundAt("10"), to: boundAt("20") }];
    const changes = [
      [9, 9],
      [9, 10],
      [10, 19],
      [19, 20],
      [20, 21],
      [-1, -5],
    ] as const;
    const body = [3, 3, ...changes.flatMap(([from, to], id) => [...row(id, from), ...row(id, to)])];
    expect(keys(slice, eventType.updateRowsV2, body)).toEqual(["1", "2", "3"]);
    const deleted = [3, ...[9, 10, 19, 20].flatMap((owner) => row(owner, owner))];
    expect(keys(slice, eventType.deleteRowsV2, deleted)).toEqual(["10", "19"]);
  });

  test("take what a minimal after image leaves out from the image before", () => {
    const body = [0b01, 0b10, 0, ...int32(4), 0, ...int32(99)];
    expect(keys([{ from: MIN, to: MAX }], eventType.updateRowsV2, body)).toEqual(["4"]);
  });

  test("are not guessed when no image shows them", () => {
    expect(() => keys([{ from: MIN, to: MAX }], eventType.writeRowsV2, [0b10, 0, ...int32(4)])).toThrow(
      "primary key",
    );
    expect(() => keys([{ from: MIN, to: MAX }], eventType.writeRowsV2, [0b11, 0b01, ...int32(4)])).toThrow(
      "primary key",
    );
  });
});

describe("columns in the log", () => {
  test("have lengths above 255 folded into the type byte", () => {
    const layout = (a: number, b: number): ColumnLayout =>
      readColumnLayout(columnType.string, new Cursor(Buffer.from([a, b]), 0, 2));
    expect(layout(254, 40)).toMatchObject({ width: -1, size: 40 });
    expect(layout(254 ^ 0x30, 32)).toMatchObject({ width: -2, size: 800 });
    expect(layout(columnType.enum, 2)).toMatchObject({ type: columnType.enum, width: 2 });
  });

  test("of an unknown type stop the reading: their width would be a guess", () => {
    expect(() => readColumnLayout(99, new Cursor(Buffer.alloc(4), 0, 4))).toThrow("unknown");
  });

  test("are held against the described ones: number, type, size, sign of precision, and names where they are shown", () => {
    const table = tableOf([column("id", "int"), column("s", "varchar(10)", { octetLength: 40 })], ["id"]);
    const map = { database: "shop", table: "t", columns: [int, varchar], names: undefined };
    expect(whyDifferent(table, map)).toBeUndefined();
    expect(whyDifferent(table, { ...map, columns: [int] })).toContain("1 columns");
    expect(whyDifferent(table, { ...map, columns: [int, { ...varchar, size: 80 }] })).toContain("column 2");
    expect(whyDifferent(table, { ...map, columns: [varchar, int] })).toContain("column 1");
    expect(whyDifferent(table, { ...map, names: ["id", "t"] })).toContain("is called t");
  });
});

test("MariaDB's compressed bytes must have exactly the length that they promise", () => {
  const packed = (length: number): Buffer =>
    Buffer.concat([Buffer.from([0x82, length >> 8, length & 255]), deflateSync(Buffer.alloc(500, 1))]);
  expect(inflateMariadb(packed(500))).toEqual(Buffer.alloc(500, 1));
  expect(() => inflateMariadb(packed(501))).toThrow("instead of 501");
  expect(() => inflateMariadb(packed(499))).toThrow("larger than");
  expect(() => inflateMariadb(Buffer.from([0x92, 0, 0]))).toThrow("unknown");
});
