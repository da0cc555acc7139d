import { readColumnDefinition, type ColumnDefinition } from "./column-definition.ts";
import { checkConstraint, formatCreateTable, keyDefinition, parseCreateTable } from "./create-table.ts";
import { readFieldDefaults } from "./field-list.ts";
import { query, type MysqlConnection } from "./query.ts";
import { endOfGroup, listIn, printedLiteral, replaceSpans, textOfLiteral, type Span } from "./quoted-text.ts";
import { isLossy, readMembers, withoutLoss, type Flavor, type TrueText } from "./true-literals.ts";
import { readExpressions, trueExpression, type KeptExpressions } from "./true-expressions.ts";
import type { MysqlColumn } from "./table.ts";

/**
 * Puts right what a server has lost in telling of a table. SHOW CREATE TABLE and information_schema print in utf8mb3:
 * a character of four bytes, or one without a place in Unicode, comes out as `?`, and a table that is created from
 * that text has another ENUM member, default or generated value, which no comparison of rows would ever show.
 * Nothing is written for it anywhere. What is only asked where a text could have been lost:
 * - ENUM and SET members: the column's own bytes (`true-literals.ts`);
 * - literal defaults: on MariaDB the protocol's list of fields (`field-list.ts`). MySQL prints such a default in
 *   hexadecimal digits by itself;
 * - expressions (generated columns, checks, defaults, keys): on MySQL the form in which it keeps them
 *   (`true-expressions.ts`). MariaDB prints them as they are;
 * - comments and names are kept in utf8mb3, so what is shown is what they are; partition bounds come in digits.
 * (All measured on MySQL 9.7 and MariaDB 10.11.)
 * Invariant: a text that was not proven true is in `unreadable`; nothing is guessed.
 */
export interface ToldTable {
  readonly database: string;
  readonly name: string;
  readonly columns: readonly MysqlColumn[];
  /** SHOW CREATE TABLE; empty for a view. */
  readonly createSql: string;
}

/** A text of which only a likeness is known. */
export interface UnreadableText {
  readonly what: string;
  /** Differs whenever the text differs; undefined when there is no such thing either. */
  readonly witness: string | undefined;
}

export interface TrueTable {
  readonly columns: readonly MysqlColumn[];
  readonly createSql: string;
  readonly unreadable: readonly UnreadableText[];
}

export async function readTrueTexts(connection: MysqlConnection, told: ToldTable): Promise<TrueTable> {
  if (!isLossy(told.createSql)) return { columns: told.columns, createSql: told.createSql, unreadable: [] };
  const [row] = await query<{ version: string }>(connection, "SELECT CAST(VERSION() AS CHAR) AS version");
  const flavor: Flavor = row?.version.includes("MariaDB") === true ? "mariadb" : "mysql";
  const reading = new Reading(connection, told, flavor);
  const table = parseCreateTable(told.createSql);
  const definitions: string[] = [];
  for (const definition of table.definitions) definitions.push(await reading.truthOf(definition));
  return {
    columns: told.columns.map((column) => reading.columns.get(column) ?? column),
    createSql: formatCreateTable({ ...table, definitions }),
    unreadable: reading.unreadable,
  };
}

class Reading {
  readonly columns = new Map<MysqlColumn, MysqlColumn>();
  readonly unreadable: UnreadableText[] = [];
  readonly #connection: MysqlConnection;
  readonly #told: ToldTable;
  readonly #flavor: Flavor;
  #defaults: Promise<Map<string, Buffer>> | undefined;
  #expressions: Promise<KeptExpressions> | undefined;

  constructor(connection: MysqlConnection, told: ToldTable, flavor: Flavor) {
    this.#connection = connection;
    this.#told = told;
    this.#flavor = flavor;
  }

  async truthOf(definition: string): Promise<string> {
    if (!isLossy(definition)) return definition;
    const parts = readColumnDefinition(definition);
    if (parts === undefined) return await this.#keyOrCheck(definition);
    const column = this.#told.columns.find(({ name }) => name === parts.name);
    if (column === undefined) {
      this.#give(`column ${parts.name}`);
      return definition;
    }
    const edits = [
      await this.#members(definition, parts, column),
      await this.#default(definition, parts, column),
      await this.#expression(
        definition,
        parts.generatedAs,
        `the expression of column ${column.name}`,
        (kept) => kept.columns.get(column.name),
      ),
      await this.#expression(definition, parts.check, `the check of column ${column.name}`, () => undefined),
    ];
    return replaceSpans(
      definition,
      edits.filter((edit) => edit !== undefined),
    );
  }

  async #members(
    definition: string,
    { type }: ColumnDefinition,
    column: MysqlColumn,
  ): Promise<Edit | undefined> {
    const shown = textAt(definition, type);
    if ((column.dataType !== "enum" && column.dataType !== "set") || !isLossy(shown)) return undefined;
    const what = `the members of column ${column.name}`;
    // Both texts come from the same server function; else we would not know which place of the statement is meant.
    if (shown !== column.columnType) return this.#give(what);
    const members = listIn(shown, shown.indexOf("(")).map((span) => textAt(shown, span));
    const truth = await readMembers(this.#connection, this.#flavor, this.#told, column, members);
    if (truth === undefined) return this.#give(what);
    const columnType = `${column.dataType}(${truth.join(",")})`;
    this.columns.set(column, { ...column, columnType });
    return { at: type, by: columnType };
  }

  async #default(
    definition: string,
    { default: span }: ColumnDefinition,
    column: MysqlColumn,
  ): Promise<Edit | undefined> {
    if (span === undefined) return undefined;
    const what = `the default of column ${column.name}`;
    const shown = textOfLiteral(textAt(definition, span));
    // MariaDB keeps the default of a TEXT or BLOB as an expression, also where it prints a literal.
    if (shown === undefined || /(text|blob)$/.test(column.dataType)) {
      return await this.#expression(definition, span, what, (kept) => kept.defaults.get(column.name));
    }
    if (this.#flavor === "mysql" || !isLossy(shown)) return undefined;
    this.#defaults ??= readFieldDefaults(this.#connection, this.#told.database, this.#told.name);
    const bytes = (await this.#defaults).get(column.name);
    if (bytes === undefined) return this.#give(what);
    const truth = await withoutLoss(this.#connection, bytes, column.charset ?? "binary");
    if (truth === undefined || !truth.likenesses.includes(shown)) return this.#give(what);
    return { at: span, by: defaultOf(truth, column) };
  }

  async #expression(
    definition: string,
    span: Span | undefined,
    what: string,
    keptOf: (kept: KeptExpressions) => string | undefined,
  ): Promise<Edit | undefined> {
    if (span === undefined) return undefined;
    const shown = textAt(definition, span);
    if (!isLossy(shown)) return undefined;
    if (this.#flavor === "mariadb") {
      // It prints what it keeps. Only bytes that are no text at all can not come through.
      return shown.includes("\uFFFD") ? this.#give(what) : undefined;
    }
    this.#expressions ??= readExpressions(this.#connection, this.#told.database, this.#told.name);
    const truth = trueExpression(shown, keptOf(await this.#expressions));
    if (typeof truth !== "string") return this.#give(what, truth.witness);
    return { at: span, by: truth };
  }

  /** `CONSTRAINT x CHECK (…)` and, on MySQL, keys with expressions among their parts. */
  async #keyOrCheck(definition: string): Promise<string> {
    const check = checkConstraint(definition);
    if (check !== undefined) {
      const edit = await this.#expression(definition, check.expression, `the check ${check.name}`, (kept) =>
        kept.checks.get(check.name),
      );
      return edit === undefined ? definition : replaceSpans(definition, [edit]);
    }
    const key = keyDefinition(definition);
    if (key === undefined) return definition;
    const edits = [];
    for (const [index, part] of key.parts.entries()) {
      const start = part.start + (/^\s*/.exec(textAt(definition, part))?.[0].length ?? 0);
      // A part that is a column begins with its quoted name.
      if (definition[start] !== "(") continue;
      const span = { start, end: endOfGroup(definition, start) };
      edits.push(
        await this.#expression(
          definition,
          span,
          `part ${index + 1} of key ${key.name}`,
          (kept) => kept.keys.get(key.name)?.[index],
        ),
      );
    }
    return replaceSpans(
      definition,
      edits.filter((edit) => edit !== undefined),
    );
  }

  #give(what: string, witness?: string): undefined {
    this.unreadable.push({ what, witness });
  }
}

interface Edit {
  readonly at: Span;
  readonly by: string;
}

function textAt(definition: string, { start, end }: Span): string {
  return definition.slice(start, end);
}

function defaultOf({ text, hex }: TrueText, column: MysqlColumn): string {
  if (text !== undefined) return printedLiteral(text);
  return column.charset === undefined || column.charset === "binary"
    ? `x'${hex}'`
    : `_${column.charset} x'${hex}'`;
}
