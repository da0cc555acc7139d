import { createHash } from "node:crypto";
import { invariant } from "../../errors/error.ts";
import { endOfGroup, endOfQuoted, isQuote, listIn, unreadable, type Span } from "./quoted-text.ts";

/**
 * Takes the server's own SHOW CREATE TABLE apart into its definitions and puts it together again without some of
 * them. No SQL is understood beyond quoting and parentheses, so nothing that a server may print is lost: names with
 * backticks or line breaks, comments, generated columns, partitions and versioned comments pass through as they are.
 * Invariant: joining all parts again gives the same statement.
 */
export interface CreateTable {
  /** "CREATE TABLE `t` (" */
  readonly head: string;
  /** Columns, keys and constraints, in order, without the commas between them. */
  readonly definitions: readonly string[];
  /** `) ENGINE=InnoDB …`, partitions included. */
  readonly tail: string;
}

export function parseCreateTable(sql: string): CreateTable {
  const open = sql.indexOf("(", endOfQuoted(sql, sql.indexOf("`")));
  invariant(sql.startsWith("CREATE TABLE `") && open > 0, "SHOW CREATE TABLE has an unknown form");
  const definitions: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let at = open + 1; at < sql.length; at += 1) {
    const character = sql[at];
    if (isQuote(character)) {
      at = endOfQuoted(sql, at) - 1;
    } else if (character === "(") {
      depth += 1;
    } else if (depth > 0) {
      if (character === ")") depth -= 1;
    } else if (character === "," || character === ")") {
      definitions.push(sql.slice(start, at).trim());
      start = at + 1;
      if (character === ")") return { head: sql.slice(0, open + 1), definitions, tail: sql.slice(at) };
    }
  }
  return unreadable("has no end");
}

export function formatCreateTable({ head, definitions, tail }: CreateTable): string {
  return `${head}\n  ${definitions.join(",\n  ")}\n${tail}`;
}

/** The name of a plain, non-unique index (`KEY`); undefined for every other definition. */
export function plainIndexName(definition: string): string | undefined {
  if (!definition.startsWith("KEY `")) return undefined;
  const open = "KEY ".length;
  return definition.slice(open + 1, endOfQuoted(definition, open) - 1).replaceAll("``", "`");
}

/** A foreign key, in the form in which servers print it (always named). */
export function isForeignKey(definition: string): boolean {
  if (!definition.startsWith("CONSTRAINT `")) return false;
  return definition.slice(endOfQuoted(definition, "CONSTRAINT ".length)).startsWith(" FOREIGN KEY ");
}

export interface CheckConstraint {
  readonly name: string;
  /** With its parentheses. */
  readonly expression: Span;
}

/** A check of the table, in the form in which servers print it (always named). */
export function checkConstraint(definition: string): CheckConstraint | undefined {
  if (!definition.startsWith("CONSTRAINT `")) return undefined;
  const nameStart = "CONSTRAINT ".length;
  const nameEnd = endOfQuoted(definition, nameStart);
  if (!definition.startsWith(" CHECK (", nameEnd)) return undefined;
  const start = nameEnd + " CHECK ".length;
  return {
    name: nameOf(definition, nameStart, nameEnd),
    expression: { start, end: endOfGroup(definition, start) },
  };
}

export interface KeyDefinition {
  readonly name: string;
  readonly unique: boolean;
  readonly parts: readonly Span[];
}

/** A key of any kind; undefined for columns, constraints and periods. */
export function keyDefinition(definition: string): KeyDefinition | undefined {
  if (definition.startsWith("PRIMARY KEY (")) {
    return { name: "PRIMARY", unique: true, parts: listIn(definition, definition.indexOf("(")) };
  }
  const kind = /^(?:(UNIQUE|FULLTEXT|SPATIAL|VECTOR) )?KEY (?=`)/.exec(definition);
  if (kind === null) return undefined;
  const nameEnd = endOfQuoted(definition, kind[0].length);
  return {
    name: nameOf(definition, kind[0].length, nameEnd),
    unique: kind[1] === "UNIQUE",
    parts: listIn(definition, definition.indexOf("(", nameEnd)),
  };
}

function nameOf(definition: string, start: number, end: number): string {
  return definition.slice(start + 1, end - 1).replaceAll("``", "`");
}

/** The statement without foreign keys, without the table's counter, and without the named indexes. */
export function withoutKeys(sql: string, indexes: ReadonlySet<string>): string {
  const table = parseCreateTable(sql);
  return formatCreateTable({
    head: table.head,
    definitions: table.definitions.filter((definition) => {
      const index = plainIndexName(definition);
      return !isForeignKey(definition) && (index === undefined || !indexes.has(index));
    }),
    tail: withoutCounter(table.tail),
  });
}

/**
 * Changes with every change of the structure and with nothing else: AUTO_INCREMENT=n moves with every insert. What the
 * statement does not tell truly is given beside it.
 */
export function fingerprintOf(sql: string, beside: readonly string[] = []): string {
  const table = parseCreateTable(sql);
  const hash = createHash("sha256").update(formatCreateTable({ ...table, tail: withoutCounter(table.tail) }));
  for (const text of beside) hash.update("\0").update(text);
  return hash.digest("hex");
}

/** Drops ` AUTO_INCREMENT=n` from the table options, but not from a comment that happens to say so. */
function withoutCounter(tail: string): string {
  let kept = "";
  for (let at = 0; at < tail.length;) {
    const character = tail[at];
    if (isQuote(character)) {
      const end = endOfQuoted(tail, at);
      kept += tail.slice(at, end);
      at = end;
      continue;
    }
    const counter = /^ AUTO_INCREMENT=\d+/.exec(tail.slice(at, at + 40))?.[0];
    if (counter !== undefined) return kept + tail.slice(at + counter.length);
    kept += character;
    at += 1;
  }
  return kept;
}
