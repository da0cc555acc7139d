import fc from "fast-check";
import { expect, test } from "vitest";
import { blockBytes, type FieldKind, LoadText } from "../../src/engines/mysql/load-text.ts";

type Value = Buffer | null;

/** A row packet of the text protocol: each value behind its length (manual, Protocol::LengthEncodedString). */
function packetOf(values: readonly Value[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      if (value === null) return Buffer.from([0xfb]);
      const { length } = value;
      const head = Buffer.alloc(9);
      if (length < 251) return Buffer.concat([Buffer.from([length]), value]);
      if (length < 1 << 16) {
        head.writeUInt8(0xfc, 0);
        head.writeUInt16LE(length, 1);
        return Buffer.concat([head.subarray(0, 3), value]);
      }
      if (length < 1 << 24) {
        head.writeUInt8(0xfd, 0);
        head.writeUIntLE(length, 1, 3);
        return Buffer.concat([head.subarray(0, 4), value]);
      }
      head.writeUInt8(0xfe, 0);
      head.writeBigUInt64LE(BigInt(length), 1);
      return Buffer.concat([head, value]);
    }),
  );
}

/** Reads the text as LOAD DATA does with its default ESCAPED BY; written from the manual, not from our code. */
function readText(text: Buffer): Value[][] {
  const rows: Value[][] = [];
  let row: Value[] = [];
  let field: number[] = [];
  let isNull = false;
  const meanings: Readonly<Record<string, number>> = { "0": 0, b: 8, n: 10, r: 13, t: 9, Z: 26 };
  const endField = (): void => {
    row.push(isNull ? null : Buffer.from(field));
    field = [];
    isNull = false;
  };
  for (let at = 0; at < text.length; at += 1) {
    const byte = text[at] ?? 0;
    if (byte === 0x5c) {
      at += 1;
      const next = text[at] ?? 0;
      // Only an escape that is the whole field stands for NULL.
      if (next === 0x4e && field.length === 0 && [0x09, 0x0a].includes(text[at + 1] ?? 0)) isNull = true;
      else field.push(meanings[String.fromCharCode(next)] ?? next);
    } else if (byte === 0x09) {
      endField();
    } else if (byte === 0x0a) {
      endField();
      rows.push(row);
      row = [];
    } else {
      field.push(byte);
    }
  }
  expect([row, field]).toEqual([[], []]);
  return rows;
}

function transcode(
  rows: readonly (readonly Value[])[],
  kinds: readonly FieldKind[],
): { text: LoadText; blocks: Buffer[]; keys: string[] } {
  const blocks: Buffer[] = [];
  const keys: string[] = [];
  const text = new LoadText({
    fields: kinds.length,
    kinds,
    block: (block) => blocks.push(block),
    key: (parts) => keys.push(parts.join(",")),
  });
  for (const values of rows) {
    const packet = packetOf(values);
    // The packet lies somewhere in a socket's chunk.
    const chunk = Buffer.concat([Buffer.from("head"), packet, Buffer.from("tail")]);
    text.row(chunk, 4, 4 + packet.length);
  }
  text.flush();
  return { text, blocks, keys };
}

const special = fc
  .constantFrom("\0", "\t", "\n", "\r", "\\", "N", "0", "n", "t", "\u001A", "", "\\N", "NULL")
  .map((text) => Buffer.from(text));
const bytes = fc.uint8Array({ maxLength: 80 }).map((array) => Buffer.from(array));
const long = fc.uint8Array({ minLength: 240, maxLength: 300 }).map((array) => Buffer.from(array));
const value = fc.option(
  fc.oneof(
    special,
    bytes,
    fc.array(special).map((all) => Buffer.concat(all)),
    long,
  ),
);

test("whatever bytes the values hold, LOAD DATA reads the same values back", () => {
  fc.assert(
    fc.property(
      fc
        .integer({ min: 1, max: 6 })
        .chain((fields) =>
          fc.array(fc.array(value, { minLength: fields, maxLength: fields }), { maxLength: 20 }),
        ),
      (rows) => {
        const kinds = (rows[0] ?? [null]).map((): FieldKind => "text");
        const { text, blocks } = transcode(rows, kinds);
        const all = Buffer.concat(blocks);
        expect(readText(all)).toEqual(rows);
        expect([text.rows, text.bytes]).toEqual([rows.length, all.length]);
      },
    ),
  );
});

test("numbers and times pass without a look at their bytes", () => {
  const row = ["-12.50", "2024-01-01 10:00:00.123", "1".repeat(70)].map((text) => Buffer.from(text));
  const { blocks } = transcode([row, [null, null, null]], ["plain", "plain", "plain"]);
  expect(Buffer.concat(blocks).toString()).toBe(`${row.join("\t")}\n\\N\t\\N\t\\N\n`);
});

test("what follows the fields is the key and not part of the text", () => {
  const rows = [
    ["a", "7", "0x00ff"],
    ["b", "8", ""],
  ].map((row) => row.map((text) => Buffer.from(text)));
  const { blocks, keys } = transcode(rows, ["text"]);
  expect(Buffer.concat(blocks).toString()).toBe("a\nb\n");
  expect(keys).toEqual(["7,0x00ff", "8,"]);
});

test("ENUM values of index 0 are counted, padded or not", () => {
  const rows = ["0", "1", "00000", "10", "00010"].map((text) => [Buffer.from(text)]);
  const { text, blocks } = transcode([...rows, [null]], ["enum"]);
  expect(text.zeroEnums).toBe(2);
  expect(Buffer.concat(blocks).toString()).toBe("0\n1\n00000\n10\n00010\n\\N\n");
});

test("blocks hold whole rows and stay below 1 MiB, unless one row is longer", () => {
  const sizes = [10, 400_000, 1, 700_000, 1_500_000, 5, 20, 20];
  const rows = sizes.map((size, index) => [
    Buffer.from(String(index)),
    Buffer.alloc(size, index % 2 === 0 ? "\n" : "x"),
  ]);
  const { blocks } = transcode(rows, ["plain", "text"]);
  const counts = blocks.map((block) => readText(block).length);
  expect(counts.reduce((sum, count) => sum + count)).toBe(sizes.length);
  for (const [index, block] of blocks.entries()) {
    if (counts[index] !== 1) expect(block.length).toBeLessThanOrEqual(blockBytes);
  }
  expect(readText(Buffer.concat(blocks))).toEqual(rows);
});

test("a value of 16 MiB and more has a length of eight bytes", () => {
  const large = Buffer.alloc(17_000_000, "x");
  const { blocks } = transcode([[large, Buffer.from("7")]], ["text", "plain"]);
  expect(Buffer.concat(blocks).equals(Buffer.concat([large, Buffer.from("\t7\n")]))).toBe(true);
});
