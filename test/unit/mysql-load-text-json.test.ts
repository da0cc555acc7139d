import fc from "fast-check";
import { expect, test } from "vitest";
import { isLostDecimal, lostDecimals, mayHoldDecimals } from "../../src/engines/mysql/json-decimals.ts";
import { LoadText } from "../../src/engines/mysql/load-text.ts";

function quick(json: string): boolean {
  const bytes = Buffer.from(`{"2.50"${json}"2.50"`);
  const start = '{"2.50"'.length;
  return mayHoldDecimals(bytes, start, start + Buffer.byteLength(json));
}

test.each([
  ["2.50", true],
  ["2.5", false],
  ["2.0", false],
  ["-7.00", true],
  ["-0.0", false],
  ["0.10", true],
  ["100", false],
  ["18446744073709551615", false],
  ["18446744073709551616", true],
  ["-9223372036854775808", false],
  ["-9223372036854775809", true],
  ["0.30000000000000004", false],
  ["12345678901234567890.12", true],
  ["1234567890123456.0", true],
  ["0.00000000000000012", true],
  ["1e21", false],
  ["1.7976931348623157e308", false],
])("the number %s: DECIMAL only? %s", (number, expected) => {
  expect(isLostDecimal(number)).toBe(expected);
  expect(quick(number)).toBe(expected);
  expect(quick(`{"a": [1, ${number}]}`)).toBe(expected);
});

test("the paths lead to the numbers through any keys", () => {
  const json = '{"": [1.50, {"a\\"b.c[0]": 2.00}], "é😀": {"x": "7.70", "y": 0.10, "z": []}, "w": {}}';
  expect(lostDecimals(json)).toEqual([
    { path: '$.""[0]', text: "1.50" },
    { path: '$.""[1]."a\\"b.c[0]"', text: "2.00" },
    { path: '$."é😀"."y"', text: "0.10" },
  ]);
  expect(quick(json)).toBe(true);
  expect(lostDecimals("9.90")).toEqual([{ path: "$", text: "9.90" }]);
});

/** MySQL prints a blank after each comma and colon. */
function asMysql(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(asMysql).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, inner]) => `${JSON.stringify(key)}: ${asMysql(inner)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

test("numbers that a DOUBLE prints, and digits inside strings, are never taken for a DECIMAL", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const json = asMysql(value).replaceAll(/(?<=[\d])e\+/g, "e");
      expect(lostDecimals(json).every(({ text }) => isLostDecimal(text))).toBe(true);
      expect(quick(json)).toBe(lostDecimals(json).length > 0);
    }),
  );
});

test("the key of a document that needs putting right is handed over with its numbers", () => {
  const found: unknown[] = [];
  const text = new LoadText({
    fields: 2,
    kinds: ["plain", "json"],
    block: () => {},
    decimals: (parts, field, decimals) => found.push([parts, field, decimals]),
  });
  for (const [id, json] of [
    ["1", '{"p": 1.5}'],
    ["2", '{"p": 1.50}'],
    ["3", "[]"],
  ] as const) {
    const packet = Buffer.concat(
      [id, json, id].map((value) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)])),
    );
    text.row(packet, 0, packet.length);
  }
  expect(found).toEqual([[["2"], 1, [{ path: '$."p"', text: "1.50" }]]]);
});
