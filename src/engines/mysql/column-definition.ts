import { endOfQuoted, wordsOf, type Span } from "./quoted-text.ts";

/**
 * The clauses of a column as SHOW CREATE TABLE prints it: `` `c` enum('a') NOT NULL DEFAULT 'a' COMMENT '…' ``. Pure.
 * What is not looked for (character set, NULL, comment …) is passed over. Both servers print in a fixed order.
 */
export interface ColumnDefinition {
  readonly name: string;
  /** First word of the type, with its members or length. */
  readonly type: Span;
  readonly default: Span | undefined;
  readonly onUpdate: Span | undefined;
  /** The expression of a generated column, with its parentheses. */
  readonly generatedAs: Span | undefined;
  /** MariaDB prints the check of a single column with the column. */
  readonly check: Span | undefined;
}

/** Undefined for keys and constraints. */
export function readColumnDefinition(definition: string): ColumnDefinition | undefined {
  if (!definition.startsWith("`")) return undefined;
  const nameEnd = endOfQuoted(definition, 0);
  const [type, ...words] = wordsOf(definition, nameEnd);
  if (type === undefined) return undefined;
  const texts = words.map(({ start, end }) => definition.slice(start, end));
  let byDefault: Span | undefined;
  let onUpdate: Span | undefined;
  let generatedAs: Span | undefined;
  let check: Span | undefined;
  for (let at = 0; at < words.length; at += 1) {
    if (texts[at] === "COMMENT") {
      at += 1;
    } else if (texts[at] === "DEFAULT") {
      byDefault = valueAt(words, texts, at + 1);
    } else if (texts[at] === "UPDATE" && texts[at - 1] === "ON") {
      onUpdate = valueAt(words, texts, at + 1);
    } else if (texts[at] === "AS" && texts[at - 1] === "ALWAYS") {
      generatedAs = words[at + 1];
    } else if (texts[at] === "CHECK") {
      check = words[at + 1];
    }
  }
  return {
    name: definition.slice(1, nameEnd - 1).replaceAll("``", "`"),
    type,
    default: byDefault,
    onUpdate,
    generatedAs,
    check,
  };
}

/** A value is at least one word and ends where the next clause begins. */
function valueAt(words: readonly Span[], texts: readonly string[], from: number): Span | undefined {
  const first = words[from];
  if (first === undefined) return undefined;
  let last = first;
  for (let at = from + 1; at < words.length && !startsClause(texts[at] ?? ""); at += 1)
    last = words[at] ?? last;
  return { start: first.start, end: last.end };
}

function startsClause(word: string): boolean {
  return word.startsWith("/*") || clauses.has(word);
}

const clauses: ReadonlySet<string> = new Set([
  "COMMENT",
  "ON",
  "CHECK",
  "AUTO_INCREMENT",
  "COLUMN_FORMAT",
  "STORAGE",
  "INVISIBLE",
  "ENGINE_ATTRIBUTE",
  "SECONDARY_ENGINE_ATTRIBUTE",
]);
