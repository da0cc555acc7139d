/**
 * Random tables and changes for the log reader's property test: column types with literals for them, and how zongji's
 * decoded value of a key column reads in canonical text.
 */
import fc from "fast-check";

export interface ColumnKind {
  readonly sql: string;
  readonly literal: fc.Arbitrary<string>;
  /** For key columns: zongji's value as a part of a KeyId. */
  readonly canonical?: (value: unknown) => string;
  /** zongji is known to decode some of the values wrongly; only the server can be asked. */
  readonly unknownToZongji?: true;
}

export interface RandomTable {
  readonly columns: readonly ColumnKind[];
  /** Column numbers of the primary key, in key order. */
  readonly primaryKey: readonly number[];
  readonly image: "FULL" | "MINIMAL" | "NOBLOB";
  readonly changes: readonly RandomChange[];
}

export type RandomChange =
  | { readonly kind: "insert"; readonly rows: readonly (readonly string[])[] }
  | { readonly kind: "update"; readonly column: number; readonly literal: string; readonly limit: number }
  | { readonly kind: "delete"; readonly limit: number };

export function randomTable(): fc.Arbitrary<RandomTable> {
  return fc
    .tuple(
      fc.array(fc.constantFrom(...keyKinds()), { minLength: 1, maxLength: 3 }),
      fc.array(fc.constantFrom(...keyKinds(), ...otherKinds()), { minLength: 0, maxLength: 9 }),
      fc.nat(),
    )
    .chain(([keys, others, turn]) => {
      // Keys stand anywhere between the other columns.
      const columns = [...others.slice(0, turn % 5), ...keys, ...others.slice(turn % 5)];
      const first = Math.min(turn % 5, others.length);
      const numbers = keys.map((_, index) => first + index);
      const primaryKey = turn % 2 === 0 ? numbers : numbers.toReversed();
      return fc.record({
        columns: fc.constant(columns),
        primaryKey: fc.constant(primaryKey),
        image: fc.constantFrom("FULL" as const, "FULL" as const, "MINIMAL" as const, "NOBLOB" as const),
        changes: fc.array(randomChange(columns, primaryKey), { minLength: 2, maxLength: 12 }),
      });
    });
}

function randomChange(
  columns: readonly ColumnKind[],
  primaryKey: readonly number[],
): fc.Arbitrary<RandomChange> {
  const literals = columns.map((column, index) =>
    primaryKey.includes(index)
      ? column.literal
      : fc.option(column.literal, { freq: 4 }).map((text) => text ?? "NULL"),
  );
  const limit = fc.integer({ min: 1, max: 4 });
  const insert = fc
    .array(fc.tuple(...literals), { minLength: 1, maxLength: 8 })
    .map((rows) => ({ kind: "insert" as const, rows }));
  const update = fc
    .nat({ max: columns.length - 1 })
    .chain((column) => fc.tuple(fc.constant(column), literals[column] ?? fc.constant("NULL"), limit))
    .map(([column, literal, rows]) => ({ kind: "update" as const, column, literal, limit: rows }));
  const remove = limit.map((rows) => ({ kind: "delete" as const, limit: rows }));
  return fc.oneof(
    { arbitrary: insert, weight: 3 },
    { arbitrary: update, weight: 4 },
    { arbitrary: remove, weight: 1 },
  );
}

// ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────

function keyKinds(): ColumnKind[] {
  return [
    ...integers(),
    ...[
      [5, 0],
      [9, 2],
      [18, 9],
      [20, 19],
      [7, 7],
      [65, 30],
    ].map(([p = 0, s = 0]) => decimal(p, s)),
    ...[0, 1, 3, 6].flatMap((digits) => [
      datetime(digits),
      timestamp(digits),
      time(digits, false),
      time(digits, true),
    ]),
    { sql: "DATE", literal: day.map((text) => `'${text}'`), canonical: String },
    { sql: "YEAR", literal: fc.integer({ min: 1901, max: 2155 }).map(String), canonical: String },
    { sql: "YEAR DEFAULT 0", literal: fc.constantFrom("0", "1901", "2155"), unknownToZongji: true },
    ...[1, 7, 8, 13, 64].map(bit),
    enumeration(),
    { sql: "ENUM('', 'x')", literal: fc.integer({ min: 0, max: 2 }).map(String), unknownToZongji: true },
    set(5),
    set(12),
    ...[1, 5, 30].flatMap((size) => ["latin1", "utf8mb4", "ucs2"].flatMap((charset) => text(size, charset))),
    ...[1, 4, 20].flatMap((size) => [binary(size, "BINARY"), binary(size, "VARBINARY")]),
    binary(300, "VARBINARY"),
  ];
}

function otherKinds(): ColumnKind[] {
  const word = fc.string({ maxLength: 40 }).map((value) => hex(Buffer.from(value)));
  return [
    { sql: "FLOAT", literal: fc.float({ noNaN: true, noDefaultInfinity: true }).map(String) },
    { sql: "DOUBLE", literal: fc.double({ noNaN: true, noDefaultInfinity: true }).map(String) },
    { sql: "TINYTEXT", literal: word },
    { sql: "TEXT CHARACTER SET utf8mb4", literal: word },
    { sql: "MEDIUMBLOB", literal: word },
    { sql: "LONGBLOB", literal: fc.nat({ max: 70_000 }).map((n) => `REPEAT('x', ${n})`) },
    {
      sql: "VARCHAR(1000) CHARACTER SET latin1",
      literal: fc.nat({ max: 1000 }).map((n) => `REPEAT('y', ${n})`),
    },
    { sql: "CHAR(200) CHARACTER SET utf8mb4", literal: fc.nat({ max: 200 }).map((n) => `REPEAT('é', ${n})`) },
    { sql: "POINT", literal: fc.nat({ max: 9 }).map((n) => `POINT(${n}, 1)`) },
    {
      sql: "JSON",
      literal: fc.json({ maxDepth: 1 }).map((value) => `'${JSON.stringify({ value: value.length })}'`),
    },
  ];
}

function integers(): ColumnKind[] {
  return (
    [
      ["TINYINT", 8n],
      ["SMALLINT", 16n],
      ["MEDIUMINT", 24n],
      ["INT", 32n],
      ["BIGINT", 64n],
    ] as const
  ).flatMap(([name, bits]) => {
    const half = 1n << (bits - 1n);
    return [
      { sql: name, literal: anyInteger(-half, half - 1n), canonical: String },
      { sql: `${name} UNSIGNED`, literal: anyInteger(0n, 2n * half - 1n), canonical: String },
      { sql: `${name}(5) ZEROFILL`, literal: anyInteger(0n, half), canonical: String },
    ];
  });
}

/** Small ones too, so that rows meet. */
function anyInteger(min: bigint, max: bigint): fc.Arbitrary<string> {
  return fc
    .oneof(
      fc.bigInt({ min, max }),
      fc.bigInt({ min: min < 0n ? -5n : 0n, max: 5n }),
      fc.constantFrom(min, max),
    )
    .map(String);
}

function decimal(precision: number, scale: number): ColumnKind {
  const digits = (count: number): fc.Arbitrary<string> =>
    count === 0
      ? fc.constant("")
      : fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: count }).map((list) => list.join(""));
  return {
    sql: `DECIMAL(${precision},${scale})`,
    literal: fc
      .tuple(fc.boolean(), digits(precision - scale), digits(scale))
      .map(
        ([negative, whole, fraction]) => `${negative ? "-" : ""}${whole === "" ? "0" : whole}.${fraction}`,
      ),
    canonical: String,
  };
}

const number = (max: number, width = 2): fc.Arbitrary<string> =>
  fc.nat({ max }).map((value) => String(value).padStart(width, "0"));
const day = fc.oneof(
  fc.constant("0000-00-00"),
  fc.tuple(number(9999, 4), number(12), number(28)).map((parts) => parts.join("-")),
);
const clock = fc.tuple(number(23), number(59), number(59), number(999_999, 6));
const fractionOf = (digits: number): string => (digits === 0 ? "" : `(${digits})`);

function datetime(digits: number): ColumnKind {
  return {
    sql: `DATETIME${fractionOf(digits)}`,
    literal: fc.tuple(day, clock).map(([date, [h, m, s, f]]) => `'${date} ${h}:${m}:${s}.${f}'`),
    canonical: String,
  };
}

function timestamp(digits: number): ColumnKind {
  const date = fc.tuple(
    fc.integer({ min: 1971, max: 2037 }),
    fc.integer({ min: 1, max: 12 }),
    fc.integer({ min: 1, max: 28 }),
  );
  const value = fc
    .tuple(date, clock)
    .map(
      ([parts, [h, m, s, f]]) =>
        `'${parts.map((part) => String(part).padStart(2, "0")).join("-")} ${h}:${m}:${s}.${f}'`,
    );
  return {
    sql: `TIMESTAMP${fractionOf(digits)} DEFAULT '2000-01-01'`,
    literal: fc.oneof(
      { arbitrary: value, weight: 9 },
      { arbitrary: fc.constant("'0000-00-00 00:00:00'"), weight: 1 },
    ),
    canonical: String,
  };
}

function time(digits: number, negative: boolean): ColumnKind {
  const sign = negative ? fc.constantFrom("", "-") : fc.constant("");
  return {
    ...(negative ? { unknownToZongji: true } : {}),
    sql: `TIME${fractionOf(digits)}`,
    literal: fc
      .tuple(sign, number(837, 2), number(59), number(59), number(999_999, 6))
      .map(([minus, h, m, s, f]) => `'${minus}${h}:${m}:${s}.${f}'`),
    canonical: String,
  };
}

function bit(size: number): ColumnKind {
  return {
    sql: `BIT(${size})`,
    literal: fc.bigInt({ min: 0n, max: (1n << BigInt(size)) - 1n }).map(String),
    canonical: (value) => BigInt(`0x${(value as Buffer).toString("hex") || "0"}`).toString(),
  };
}

const members = ["a", "b,c", "d''e", "f", "g h", "i", "j", "k", "l", "m", "n", "o"];
const list = (count: number): string =>
  members
    .slice(0, count)
    .map((member) => `'${member}'`)
    .join(",");
const label = (member: string): string => member.replaceAll("''", "'");

function enumeration(): ColumnKind {
  return {
    sql: `ENUM(${list(6)})`,
    literal: fc.integer({ min: 1, max: 6 }).map(String),
    canonical: (value) => String(members.findIndex((member) => label(member) === value) + 1),
  };
}

function set(count: number): ColumnKind {
  // A comma would make zongji's joined text ambiguous.
  const names = members.filter((member) => !member.includes(",")).slice(0, count - 1);
  return {
    sql: `SET(${names.map((name) => `'${name}'`).join(",")})`,
    literal: fc.nat({ max: 2 ** names.length - 1 }).map(String),
    canonical: (value) => {
      const chosen = new Set(Array.isArray(value) ? (value as string[]) : String(value).split(","));
      return String(
        names.reduce((bits, name, index) => bits + (chosen.has(label(name)) ? 2 ** index : 0), 0),
      );
    },
  };
}

function text(size: number, charset: string): ColumnKind[] {
  const letters =
    charset === "latin1"
      ? ["a", "A", "b", "é", " ", "Z", "\u00FF"]
      : ["a", "A", "b", "é", " ", "€", "語", "\u0000"];
  const emoji = charset === "utf8mb4" ? ["😀"] : [];
  const value = fc
    .array(fc.constantFrom(...letters, ...emoji), { maxLength: size })
    .map((list) => `CONVERT(${hex(Buffer.from(list.join("")), "_utf8mb4 ")} USING ${charset})`);
  const encode = (decoded: unknown): Buffer => {
    if (charset === "latin1") return Buffer.from(String(decoded), "latin1");
    if (charset === "utf8mb4") return Buffer.from(String(decoded), "utf8");
    return Buffer.from(String(decoded), "utf16le").swap16();
  };
  const canonical = (decoded: unknown): string => `0x${encode(decoded).toString("hex")}`;
  return [
    { sql: `VARCHAR(${size}) CHARACTER SET ${charset}`, literal: value, canonical },
    {
      sql: `CHAR(${size}) CHARACTER SET ${charset}`,
      literal: value,
      canonical: (decoded) => canonical(String(decoded).replace(/ +$/, "")),
    },
  ];
}

function binary(size: number, type: "BINARY" | "VARBINARY"): ColumnKind {
  return {
    sql: `${type}(${size})`,
    literal: fc
      .array(fc.constantFrom(0, 0, 1, 0x20, 0x5c, 0x7f, 0xff), { maxLength: Math.min(size, 20) })
      .map((bytes) => hex(Buffer.from(bytes))),
    canonical: (value) => {
      const bytes = Buffer.isBuffer(value) ? value : Buffer.from(String(value), "latin1");
      const padded = type === "BINARY" ? Buffer.concat([bytes, Buffer.alloc(size - bytes.length)]) : bytes;
      return `0x${padded.toString("hex")}`;
    },
  };
}

function hex(bytes: Buffer, introducer = ""): string {
  return `${introducer}X'${bytes.toString("hex")}'`;
}
