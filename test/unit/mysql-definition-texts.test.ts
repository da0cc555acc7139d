import { describe, expect, test } from "vitest";
import { readColumnDefinition } from "../../src/engines/mysql/column-definition.ts";
import { checkConstraint, keyDefinition } from "../../src/engines/mysql/create-table.ts";
import {
  printedLiteral,
  replaceSpans,
  textOfLiteral,
  type Span,
} from "../../src/engines/mysql/quoted-text.ts";
import { trueExpression } from "../../src/engines/mysql/true-expressions.ts";

function clausesOf(definition: string): Record<string, string> {
  const column = readColumnDefinition(definition);
  const spans = Object.entries(column ?? {}).filter(
    (entry): entry is [string, Span] => typeof entry[1] === "object",
  );
  return Object.fromEntries(spans.map(([name, { start, end }]) => [name, definition.slice(start, end)]));
}

describe("a column definition", () => {
  test("is taken apart into its clauses", () => {
    expect(
      clausesOf(
        "`a` enum('x',' DEFAULT ''y','(') CHARACTER SET latin1 NOT NULL DEFAULT 'it''s, \\'x' COMMENT 'DEFAULT ''no'' CHECK (1)'",
      ),
    ).toEqual({ type: "enum('x',' DEFAULT ''y','(')", default: "'it''s, \\'x'" });
    expect(
      clausesOf(
        "`DEFAULT 'n'` timestamp(3) NULL DEFAULT current_timestamp(3) ON UPDATE current_timestamp(3) COMMENT 'c'",
      ),
    ).toEqual({ type: "timestamp(3)", default: "current_timestamp(3)", onUpdate: "current_timestamp(3)" });
    expect(
      clausesOf("`g` varchar(9) GENERATED ALWAYS AS (concat(`a`,')')) STORED NOT NULL /*!80023 INVISIBLE */"),
    ).toEqual({
      type: "varchar(9)",
      generatedAs: "(concat(`a`,')'))",
    });
    expect(clausesOf("`v` text DEFAULT _gbk x'fefe' CHECK (json_valid(`v`))")).toEqual({
      type: "text",
      default: "_gbk x'fefe'",
      check: "(json_valid(`v`))",
    });
    expect(clausesOf("`h` int NOT NULL DEFAULT '7' /*!80023 INVISIBLE */")).toEqual({
      type: "int",
      default: "'7'",
    });
    expect(readColumnDefinition("KEY `k` (`a`)")).toBeUndefined();
  });

  test("keeps everything around a place that is replaced", () => {
    const definition = "`a` enum('?','b') DEFAULT '?'";
    const column = readColumnDefinition(definition);
    if (column?.default === undefined) throw new Error("no default");
    expect(
      replaceSpans(definition, [
        { at: column.type, by: "enum('🐍','b')" },
        { at: column.default, by: "'🐍'" },
      ]),
    ).toBe("`a` enum('🐍','b') DEFAULT '🐍'");
  });
});

test("literals are read and printed as servers do it", () => {
  for (const text of ["", "it's", "a\\b", "x\n\r\0y", "🐍 ?", "''", String.raw`\n`]) {
    expect(textOfLiteral(printedLiteral(text))).toBe(text);
  }
  expect(printedLiteral("a\nb'c\\")).toBe(String.raw`'a\nb''c\\'`);
  expect(textOfLiteral("x'ff'")).toBeUndefined();
  expect(textOfLiteral("'a' 'b'")).toBeUndefined();
});

test("keys and checks are told by their names and parts", () => {
  const key = "UNIQUE KEY `u``q` (`a`,`b`(3),(lower(`c`)))";
  const read = keyDefinition(key);
  expect(read).toMatchObject({ name: "u`q", unique: true });
  expect(read?.parts.map(({ start, end }) => key.slice(start, end))).toEqual([
    "`a`",
    "`b`(3)",
    "(lower(`c`))",
  ]);
  expect(keyDefinition("PRIMARY KEY (`id`)")).toMatchObject({ name: "PRIMARY", unique: true });
  expect(keyDefinition("FULLTEXT KEY `f` (`a`)")).toMatchObject({ name: "f", unique: false });
  expect(keyDefinition("CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `t` (`a`)")).toBeUndefined();
  const check = "CONSTRAINT `c (` CHECK ((`a` <> ')')) /*!80016 NOT ENFORCED */";
  const { name, expression } = checkConstraint(check) ?? {};
  expect(name).toBe("c (");
  expect(check.slice(expression?.start, expression?.end)).toBe("((`a` <> ')'))");
});

describe("an expression that MySQL shows with question marks", () => {
  const kept = (text: string): string =>
    Buffer.from(text.replaceAll(/['\\]/g, String.raw`\$&`), "utf8").toString("latin1");

  test("is the one that it keeps, when that has the same shape", () => {
    expect(trueExpression("(f(_utf8mb4'é????'))", kept("f(_utf8mb4'é🐍')"))).toBe("(f(_utf8mb4'é🐍'))");
    expect(trueExpression("(f(_utf8mb4'a?'))", kept("f(_utf8mb4'a?')"))).toBe("(f(_utf8mb4'a?'))");
    // Nothing was lost here, however the kept form looks.
    expect(trueExpression("(f(_binary'a?'))", kept("f(_utf8mb4'a?')"))).toBe("(f(_binary'a?'))");
  });

  test("is not known when that has another, is missing, or may have lost the same", () => {
    expect(trueExpression("(f(_utf8mb4'????'))", kept("g(_utf8mb4'🐍')"))).toMatchObject({
      witness: expect.any(String),
    });
    expect(trueExpression("(f(_utf8mb4'????'))", undefined)).toEqual({ witness: undefined });
    expect(trueExpression("(f(_utf8mb4'????'))", kept("f(_utf8mb4'????')"))).toEqual({ witness: undefined });
    expect(trueExpression("(f(_utf8mb4'????'))", "f(_utf16\\'\u00D8=\\')")).toMatchObject({
      witness: expect.any(String),
    });
  });
});
