import { isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";
import type { Document, ErrorCode, Node, YAMLError } from "yaml";
import type { Problem } from "../errors/error.ts";

/**
 * The YAML text as plain data plus the place of every part of it. Invariant: nothing that stands in the file is
 * quoted in a problem of the YAML itself, since the broken line may hold a password.
 */
export interface ConfigDocument {
  /** Plain data, with two kindnesses: see `normalized`. */
  readonly data: unknown;
  /** False when the text is no YAML: then there is no data to check further. */
  readonly readable: boolean;
  readonly problems: readonly Problem[];
  /** `file:line:column` of a value, or of the nearest part around it that exists. */
  placeOf(path: ConfigPath): string;
  /** `file:line:column` of a key inside the mapping at `path`. */
  placeOfKey(path: ConfigPath, key: string): string;
}

export type ConfigPath = readonly PropertyKey[];

export function parseConfigDocument(text: string, file: string): ConfigDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    merge: true,
  });
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const broken = document.errors.filter((error) => error.code !== "DUPLICATE_KEY");
  const problems: Problem[] = document.errors.map((error) => ({
    where: place(error.pos[0]),
    ...yamlProblem(error, text),
  }));
  // An alias without its anchor makes toJS throw, with the name in the message.
  for (const offset of unresolvedAliases(document)) {
    problems.push({
      where: place(offset),
      found: "an alias (`*name`) without its anchor",
      accepted: "text in quotes",
    });
  }
  const readable = broken.length === 0 && problems.length === document.errors.length;
  return {
    data: readable ? normalized(document) : undefined,
    readable,
    problems,
    placeOf: (path) => place(offsetOf(document, path)),
    placeOfKey: (path, key) => place(keyOffset(document.getIn(path, true), key) ?? offsetOf(document, path)),
  };
}

const yamlWords: Readonly<Partial<Record<ErrorCode, Pick<Problem, "found" | "accepted">>>> = {
  TAB_AS_INDENT: { found: "a tab as indentation", accepted: "spaces" },
  MULTIPLE_DOCS: { found: "a second YAML document", accepted: "one document" },
  MISSING_CHAR: { found: "a quote, bracket or comma is missing here or above", accepted: "valid YAML" },
};

function yamlProblem(error: YAMLError, text: string): Pick<Problem, "found" | "accepted"> {
  if (error.code === "DUPLICATE_KEY") {
    const key = /^[\w.-]+/.exec(text.slice(error.pos[0]))?.[0] ?? "";
    return { found: `the key "${key}" stands twice in the same mapping`, accepted: "each key once" };
  }
  if (["BLOCK_AS_IMPLICIT_KEY", "MULTILINE_IMPLICIT_KEY", "BAD_INDENT"].includes(error.code)) {
    const found = "a line that does not fit what is around it (indentation, or a colon)";
    return { found, accepted: "valid YAML" };
  }
  // The library quotes source text after a colon or in quotes; it may be a secret.
  const reason = error.message.replace(/(:\s|["'`]).*$/s, "").trim();
  return yamlWords[error.code] ?? { found: `broken YAML: ${reason}`, accepted: "valid YAML" };
}

function unresolvedAliases(document: Document): number[] {
  const offsets: number[] = [];
  visit(document, {
    Alias: (_, alias) => {
      if (alias.resolve(document) === undefined) offsets.push(alias.range?.[0] ?? 0);
    },
  });
  return offsets;
}

/**
 * Map bounds keep the text that stands in the file: `from: 90071992547409931` or `0x00ff` must not become a number.
 * A table of which only the name stands there (`orders:`) has no settings; that is not wrong.
 */
function normalized(document: Document): unknown {
  keepFirstOfDuplicates(document);
  const root = document.contents;
  if (!isMap(root)) return document.toJS() as unknown;
  for (const keyspace of values(child(root, "keyspaces"))) {
    for (const range of values(child(keyspace, "map"))) {
      for (const end of ["from", "to"]) {
        const bound = child(range, end);
        if (isScalar(bound) && typeof bound.value === "number" && bound.source !== undefined)
          bound.value = bound.source;
      }
    }
  }
  const data = document.toJS() as Record<string, unknown>;
  for (const keyspace of Object.values(objectOf(data["keyspaces"]))) {
    const tables = objectOf(objectOf(keyspace)["tables"]);
    for (const [table, value] of Object.entries(tables)) if (value === null) tables[table] = {};
  }
  return data;
}

/** A duplicate is a problem already; data and places must then mean the same one of the two. */
function keepFirstOfDuplicates(document: Document): void {
  visit(document, {
    Map: (_, map) => {
      const seen = new Set<string>();
      map.items = map.items.filter(({ key }) => {
        const name = String(isScalar(key) ? key.value : key);
        // Several merge keys (`<<`) are no duplicates.
        return name === "<<" || seen.size < seen.add(name).size;
      });
    },
  });
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function child(node: unknown, key: string): unknown {
  return isMap(node) ? node.get(key, true) : undefined;
}

function values(node: unknown): unknown[] {
  if (isMap(node)) return node.items.map((pair) => pair.value);
  return isSeq(node) ? node.items : [];
}

function offsetOf(document: Document, path: ConfigPath): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as Node | null | undefined;
    // A missing part is reported at the key of the part that it is missing from: that is what one looks for.
    const key =
      length < path.length
        ? keyOffset(document.getIn(path.slice(0, length - 1), true), String(path[length - 1]))
        : undefined;
    const offset = key ?? node?.range?.[0];
    if (offset !== undefined) return offset;
  }
  return document.contents?.range?.[0] ?? 0;
}

function keyOffset(node: unknown, key: string): number | undefined {
  if (!isMap<Node>(node)) return undefined;
  const pair = node.items.find((item) => String(isScalar(item.key) ? item.key.value : item.key) === key);
  return pair?.key.range?.[0];
}
