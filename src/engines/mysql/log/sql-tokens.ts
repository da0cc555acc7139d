/**
 * Cuts a logged statement into tokens, so that a name inside a string or a comment is not taken for one outside. Not a
 * parser: an unfinished string or comment is an error, and whoever asks must then treat the statement as harmful.
 */
export interface Token {
  readonly kind: "word" | "name" | "string" | "number" | "symbol";
  /** Words in upper case; names and strings without their quotes. */
  readonly text: string;
  /** As written, for comparing names. */
  readonly raw: string;
}

export interface TokenOptions {
  /** sql_mode NO_BACKSLASH_ESCAPES: a backslash in a string is a character like any other. */
  readonly noBackslashEscapes: boolean;
}

/** Undefined when the text does not end properly. */
export function tokenize(sql: string, options: TokenOptions): readonly Token[] | undefined {
  const tokens: Token[] = [];
  let at = 0;
  while (at < sql.length) {
    const char = sql[at] as string;
    if (/\s/.test(char)) {
      at += 1;
    } else if (char === "#" || /^--(\s|$)/.test(sql.slice(at, at + 3))) {
      const line = sql.indexOf("\n", at);
      at = line < 0 ? sql.length : line + 1;
    } else if (sql.startsWith("/*", at)) {
      // What stands in an executable comment is executed, so only its marks are left out.
      const executable = /^\/\*M?!\d*/.exec(sql.slice(at, at + 12));
      if (executable !== null) {
        at += executable[0].length;
      } else {
        const end = sql.indexOf("*/", at + 2);
        if (end < 0) return undefined;
        at = end + 2;
      }
    } else if (sql.startsWith("*/", at)) {
      at += 2;
    } else if (char === "'" || char === '"' || char === "`") {
      const end = quotedEnd(sql, at, char !== "`" && !options.noBackslashEscapes);
      if (end === undefined) return undefined;
      const text = sql.slice(at + 1, end).replaceAll(char + char, char);
      // A double-quoted text may be a name (ANSI_QUOTES); taking it for one can only stop more.
      tokens.push({ kind: char === "'" ? "string" : "name", text, raw: text });
      at = end + 1;
    } else {
      const raw = /^(?:[\p{L}\p{N}_$\u0080-\uFFFF]+|.)/su.exec(sql.slice(at, at + 256))?.[0] ?? char;
      const kind = /^\d+$/.test(raw)
        ? "number"
        : /^[\p{L}\p{N}_$\u0080-\uFFFF]/u.test(raw)
          ? "word"
          : "symbol";
      tokens.push({ kind, text: raw.toUpperCase(), raw });
      at += raw.length;
    }
  }
  return tokens;
}

/** The place of the closing quote; a doubled quote stands for one. */
function quotedEnd(sql: string, from: number, backslash: boolean): number | undefined {
  const quote = sql[from];
  for (let at = from + 1; at < sql.length; at++) {
    if (backslash && sql[at] === "\\") at += 1;
    else if (sql[at] === quote) {
      if (sql[at + 1] !== quote) return at;
      at += 1;
    }
  }
  return undefined;
}
