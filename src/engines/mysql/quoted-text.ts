import { ShardliftError } from "../../errors/error.ts";

/**
 * Quotes and parentheses in what a server prints of its own definitions; no SQL is understood beyond that. Pure.
 * Servers print with the sql_mode of our sessions (`session-settings.ts`): a backslash escapes, and `"` is a string.
 */
export interface Span {
  readonly start: number;
  /** Just after the last character. */
  readonly end: number;
}

/** MariaDB prints a foreign key whose name holds a backtick without doubling it; nothing can tell where that ends. */
export function unreadable(how: string): never {
  throw new ShardliftError("E_PREFLIGHT", `what SHOW CREATE TABLE prints ${how}`, {
    next: "Look at SHOW CREATE TABLE; rename what has quotes in its name (a foreign key, usually).",
  });
}

/** Index just after the quoted text that starts at `from`. A doubled quote stands for itself, a backslash escapes. */
export function endOfQuoted(sql: string, from: number): number {
  const quote = sql[from];
  for (let at = from + 1; at < sql.length; at += 1) {
    if (sql[at] === "\\" && quote !== "`") at += 1;
    else if (sql[at] === quote) {
      if (sql[at + 1] !== quote) return at + 1;
      at += 1;
    }
  }
  return unreadable("has an open quote");
}

export function isQuote(character: string | undefined): boolean {
  return character === "`" || character === "'" || character === '"';
}

/** Index just after the parenthesis that closes the one at `open`. */
export function endOfGroup(sql: string, open: number): number {
  let depth = 0;
  for (let at = open; at < sql.length; at += 1) {
    if (isQuote(sql[at])) at = endOfQuoted(sql, at) - 1;
    else if (sql[at] === "(") depth += 1;
    else if (sql[at] === ")") {
      depth -= 1;
      if (depth === 0) return at + 1;
    }
  }
  return unreadable("has an open parenthesis");
}

/** Words between white space; quoted texts and parentheses belong to the word that they stand in. */
export function wordsOf(sql: string, from = 0): Span[] {
  const words: Span[] = [];
  for (let at = from; at < sql.length;) {
    if (/\s/.test(sql[at] ?? "")) {
      at += 1;
      continue;
    }
    const start = at;
    while (at < sql.length && !/\s/.test(sql[at] ?? "")) {
      if (isQuote(sql[at])) at = endOfQuoted(sql, at);
      else at = sql[at] === "(" ? endOfGroup(sql, at) : at + 1;
    }
    words.push({ start, end: at });
  }
  return words;
}

/** The parts between commas of what stands in the parentheses that open at `open`. */
export function listIn(sql: string, open: number): Span[] {
  const close = endOfGroup(sql, open) - 1;
  const parts: Span[] = [];
  let start = open + 1;
  for (let at = start; at < close;) {
    if (isQuote(sql[at])) at = endOfQuoted(sql, at);
    else if (sql[at] === "(") at = endOfGroup(sql, at);
    else {
      if (sql[at] === ",") {
        parts.push({ start, end: at });
        start = at + 1;
      }
      at += 1;
    }
  }
  parts.push({ start, end: close });
  return parts;
}

/** Puts other texts in the place of spans, which must not overlap. */
export function replaceSpans(
  sql: string,
  edits: readonly { readonly at: Span; readonly by: string }[],
): string {
  let text = sql;
  for (const { at, by } of edits.toSorted((a, b) => b.at.start - a.at.start))
    text = text.slice(0, at.start) + by + text.slice(at.end);
  return text;
}

/** The text that a literal `'…'` stands for; undefined for everything else (`x'ff'`, `NULL`, `_utf8mb4'…'`). */
export function textOfLiteral(literal: string): string | undefined {
  if (!literal.startsWith("'") || endOfQuoted(literal, 0) !== literal.length) return undefined;
  return literal
    .slice(1, -1)
    .replaceAll(/''|\\(.)/gs, (both, escaped?: string) =>
      escaped === undefined ? (both === "''" ? "'" : both) : (escapes[escaped] ?? escaped),
    );
}

const escapes: Readonly<Record<string, string>> = {
  "0": "\0",
  n: "\n",
  r: "\r",
  t: "\t",
  b: "\b",
  Z: "\x1a",
};

/** A literal as both servers print it: on one line, whatever it holds. */
export function printedLiteral(text: string): string {
  const escaped = text
    .replaceAll("\\", String.raw`\\`)
    .replaceAll("\0", String.raw`\0`)
    .replaceAll("\n", String.raw`\n`)
    .replaceAll("\r", String.raw`\r`)
    .replaceAll("'", "''");
  return `'${escaped}'`;
}
