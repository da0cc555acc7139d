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

/** The mark of an executable comment: `/*!`, `/*!50003`, `/*M!100100`. */
interface Mark {
  readonly version: number;
  readonly mariadbOnly: boolean;
}

/**
 * Every way in which some server may have read the text: whether an executable comment is executed depends on the
 * server's version, and MariaDB leaves out those of MySQL 5.7 to 9 (manuals, Comments). Readings without any token are
 * left out, nobody logs an empty statement. Undefined when a reading does not end properly, or when there are too many.
 */
export function tokenReadings(sql: string, options: TokenOptions): readonly (readonly Token[])[] | undefined {
  const marks: Mark[] = [];
  const whole = tokenize(sql, options, (mark) => marks.push(mark) > 0);
  if (whole === undefined || marks.length === 0) return whole === undefined ? undefined : [whole];
  const asked = marks.map(({ version }) => Math.max(version, oldestServer));
  const versions = [...new Set([...asked, oldestServer])].toSorted((a, b) => b - a);
  if (versions.length > maxVersions) return undefined;
  const readings: (readonly Token[])[] = [];
  for (const server of versions) {
    for (const flavor of ["mysql", "mariadb"]) {
      const reading = tokenize(sql, options, ({ version, mariadbOnly }) => {
        if (version > server) return false;
        return flavor === "mysql" ? !mariadbOnly : mariadbOnly || version < 50_700 || version > 99_999;
      });
      if (reading === undefined) return undefined;
      if (reading.length > 0) readings.push(reading);
    }
  }
  return readings;
}

/**
 * Both servers have long executed what stands below it: `DROP /*!40005 TEMPORARY *\/ TABLE` is what they log themselves
 * when a session leaves a temporary table behind.
 */
const oldestServer = 50_699;

/** A table of many partitions has one mark; more different ones than this are nobody's plain statement. */
const maxVersions = 8;

function tokenize(
  sql: string,
  options: TokenOptions,
  executes: (mark: Mark) => boolean,
): readonly Token[] | undefined {
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
      const executable = /^\/\*(M?)!(\d{5,6})?/.exec(sql.slice(at, at + 12));
      const mark = { version: Number(executable?.[2] ?? 0), mariadbOnly: executable?.[1] === "M" };
      if (executable !== null && executes(mark)) {
        // Only its marks are left out.
        at += executable[0].length;
      } else {
        const end = commentEnd(sql, at + 2, executable !== null);
        if (end === undefined) return undefined;
        at = end;
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

/** Behind the comment. In one that would be executable others may be nested. */
function commentEnd(sql: string, from: number, mayNest: boolean): number | undefined {
  const end = sql.indexOf("*/", from);
  if (end < 0) return undefined;
  const nested = mayNest ? sql.indexOf("/*", from) : -1;
  if (nested < 0 || nested > end) return end + 2;
  const behind = commentEnd(sql, nested + 2, false);
  return behind === undefined ? undefined : commentEnd(sql, behind, true);
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
