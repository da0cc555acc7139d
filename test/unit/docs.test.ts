/**
 * What the documentation names exists: commands, flags, codes, exit codes, settings, files, words in files, links. And
 * what it shows as an example is accepted by the code that reads it. Docs drift silently otherwise.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { BaseCommand } from "../../src/cli/base-command.ts";
import { loadConfig } from "../../src/config/load.ts";
import { configJsonSchema } from "../../src/config/schema.ts";
import { codes } from "../../src/errors/codes.ts";
import * as router from "../../src/router/router.ts";
import { mapDocumentSchema } from "../../src/routing/map-codec.ts";
import { parseRefusal } from "../../src/routing/refusal.ts";

const root = join(import.meta.dirname, "../..");
const pages = [
  "README.md",
  "CHANGELOG.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join("docs", name))
    .toSorted(),
].map((path) => pageOf(path, readFileSync(join(root, path), "utf8")));

interface Page {
  readonly path: string;
  readonly text: string;
  /** Text between single backticks, outside of blocks. */
  readonly spans: readonly string[];
  readonly blocks: readonly { readonly language: string; readonly text: string }[];
  /** The text without code. */
  readonly prose: string;
}

function pageOf(path: string, text: string): Page {
  const fence = /^```([\w-]*)\n(.*?)^```$/gms;
  const blocks = [...text.matchAll(fence)].map(([, language = "", body = ""]) => ({ language, text: body }));
  const outside = text.replaceAll(fence, "");
  const spans = [...outside.matchAll(/`([^`\n]+)`/g)].map(([, span = ""]) => span);
  return { path, text, spans, blocks, prose: outside.replaceAll(/`[^`\n]+`/g, "``") };
}

/** Every problem with its page, so that one run shows all of them. */
function problemsOf(look: (page: Page) => readonly string[]): string[] {
  return pages.flatMap((page) => look(page).map((problem) => `${page.path}: ${problem}`));
}

// ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

type CommandClass = typeof BaseCommand;
const commands = await commandClasses();

/** By name as it is typed: `plan split`. */
async function commandClasses(): Promise<ReadonlyMap<string, CommandClass>> {
  const folder = join(root, "src/commands");
  const found = new Map<string, CommandClass>();
  for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts")) continue;
    const module = (await import(join(folder, file))) as Readonly<Record<string, unknown>>;
    const command = Object.values(module).find(isCommand);
    if (command !== undefined) found.set(file.replace(/\.ts$/, "").replaceAll("/", " "), command);
  }
  return found;
}

function isCommand(value: unknown): value is CommandClass {
  return typeof value === "function" && value.prototype instanceof BaseCommand;
}

/** Command lines in spans and in blocks; a prompt, a comment and what follows a pipe are left out. */
function commandLines({ spans, blocks }: Page): string[] {
  const lines = blocks.flatMap(({ text }) => text.split("\n"));
  return [...spans, ...lines.map((line) => line.replace(/^\$ /, ""))]
    .map((line) =>
      line.replace(/^(?:node )?bin\/(?:run\.js|demo)\b/, (word) =>
        word.endsWith("demo") ? "shardlift demo" : "shardlift",
      ),
    )
    .filter((line) => /^shardlift [a-z]/.test(line))
    .map((line) => line.replace(/\s+#.*$/, "").replace(/\s*[|>].*$/, ""));
}

function commandProblems(line: string): string[] {
  const words = line.split(/\s+/).slice(1);
  const length = [2, 1].find((count) => commands.has(words.slice(0, count).join(" ")));
  const command = length === undefined ? undefined : commands.get(words.slice(0, length).join(" "));
  if (command === undefined || length === undefined) return [`no such command: ${line}`];
  const flags = { ...command.baseFlags, ...command.flags };
  const given = words.slice(length);
  return given.flatMap((word, index) => {
    if (!word.startsWith("-")) return [];
    const [name = "", attached] = word.split("=");
    const [, flag] =
      Object.entries(flags).find(([long, { char }]) => name === `--${long}` || name === `-${char}`) ?? [];
    if (flag === undefined) return name === "--help" ? [] : [`no flag ${name}: ${line}`];
    const options = "options" in flag ? flag.options : undefined;
    const value = attached ?? given[index + 1] ?? "";
    return options === undefined || options.includes(value)
      ? []
      : [`${name} does not take ${value}: ${line}`];
  });
}

describe("documentation", () => {
  test("finds the commands that it is compared with", () => {
    expect([...commands.keys()]).toEqual(expect.arrayContaining(["split", "plan split", "route publish"]));
  });

  test("names only commands and flags that exist", () => {
    expect(problemsOf((page) => commandLines(page).flatMap(commandProblems))).toEqual([]);
  });

  test("names only flags that some command has, also alone", () => {
    const known = new Set(
      [...commands.values()].flatMap(({ baseFlags, flags }) => Object.keys({ ...baseFlags, ...flags })),
    );
    const alone = ({ spans }: Page): string[] =>
      spans.flatMap((span) => /^--([a-z-]+)/.exec(span)?.[1] ?? []);
    expect(problemsOf((page) => alone(page).filter((flag) => !known.has(flag) && flag !== "help"))).toEqual(
      [],
    );
  });

  test("shows every command in the list of what was added", () => {
    const changelog = pages.find(({ path }) => path === "CHANGELOG.md");
    const missing = [...commands.keys()].filter((name) => !changelog?.text.includes(`\`shardlift ${name}\``));
    // The demo is listed as its script.
    expect(missing.filter((name) => name !== "demo")).toEqual([]);
  });
});

// ── codes, settings, files, links ────────────────────────────────────────────────────────────────────────────────

describe("documentation", () => {
  test("names only codes that exist", () => {
    const wrong = ({ text }: Page): string[] =>
      (text.match(/\bE_[A-Z_]+[A-Z]\b/g) ?? []).filter((code) => !(code in codes));
    expect(problemsOf(wrong)).toEqual([]);
  });

  test("names only exit codes that some end has", () => {
    const known = new Set(["0", "143", ...Object.values(codes).map(({ exit }) => String(exit))]);
    const wrong = ({ text }: Page): string[] =>
      [...text.matchAll(/\b[Ee]xit (\d+)/g)].flatMap(([, exit = ""]) => (known.has(exit) ? [] : [exit]));
    expect(problemsOf(wrong)).toEqual([]);
  });

  test("says what to do for every exit code", () => {
    const runbook = pages.find(({ path }) => path === join("docs", "runbook.md"));
    const headings = [...(runbook?.text ?? "").matchAll(/^### ([\d, ]+): /gm)].flatMap(([, list = ""]) =>
      list.split(", "),
    );
    const exits = new Set(Object.values(codes).map(({ exit }) => String(exit)));
    expect([...exits].filter((exit) => !headings.includes(exit))).toEqual([]);
  });

  test("names only settings that exist", () => {
    const sections = Object.keys(configJsonSchema()["properties"] as object);
    const settings = ({ spans }: Page): string[] =>
      spans.filter(
        (span) => sections.includes(span.split(".")[0] ?? "") && /^[a-z]+\.[\w.[\]]+$/i.test(span),
      );
    // `copy.db` and the like are files.
    const wrong = (page: Page): string[] =>
      settings(page).filter((path) => !/\.(?:db|ts|json|yaml)$/.test(path) && !isSetting(path));
    expect(problemsOf(wrong)).toEqual([]);
  });

  test("names only files that exist, and words that stand in them", () => {
    const wrong = ({ spans }: Page): string[] =>
      spans.flatMap((span) => {
        const [path = "", word] = span.split("#");
        if (!/^(?:src|test|bin|docs|fixtures)\/[\w./-]+$/.test(path)) return [];
        const full = join(root, path);
        if (!existsSync(full)) return [`no file ${path}`];
        if (word === undefined || statSync(full).isDirectory()) return [];
        return new RegExp(`\\b${word}\\b`).test(readFileSync(full, "utf8")) ? [] : [`no ${word} in ${path}`];
      });
    expect(problemsOf(wrong)).toEqual([]);
  });

  test("has only links that lead somewhere", () => {
    const wrong = ({ path, prose }: Page): string[] =>
      [...prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = ""]) => {
        if (/^https?:/.test(link)) return [];
        const [file = "", anchor] = link.split("#");
        const target = file === "" ? path : relative(root, join(root, dirname(path), file));
        if (!existsSync(join(root, target))) return [`no file ${link}`];
        const heading = pages.find((page) => page.path === target)?.text ?? "";
        return anchor === undefined || slugs(heading).includes(anchor) ? [] : [`no heading ${link}`];
      });
    expect(problemsOf(wrong)).toEqual([]);
  });

  test("holds no path of the machine that it was written on", () => {
    const wrong = ({ text }: Page): string[] =>
      text.match(/(?:^|[\s("'`])\/(?:tmp|work|root|home)\/\S*/gm) ?? [];
    expect(problemsOf(wrong)).toEqual([]);
  });
});

function isSetting(path: string): boolean {
  let schema = configJsonSchema() as SchemaNode | undefined;
  for (const part of path.split(".")) {
    const isList = part.endsWith("[]");
    const name = isList ? part.slice(0, -2) : part;
    const properties = schema?.properties;
    // NAME stands for a name of the operator's own.
    const next = name === "NAME" ? schema?.additionalProperties : properties?.[name];
    schema = isList && typeof next === "object" ? next.items : typeof next === "object" ? next : undefined;
  }
  return schema !== undefined;
}

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly items?: SchemaNode;
}

/** Anchors as GitHub makes them of headings. */
function slugs(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, "")
      .replaceAll(" ", "-"),
  );
}

// ── examples ─────────────────────────────────────────────────────────────────────────────────────────────────────

const examples = (language: string): { path: string; text: string }[] =>
  pages.flatMap(({ path, blocks }) =>
    blocks.filter((block) => block.language === language).map(({ text }) => ({ path, text })),
  );

describe("documentation", () => {
  test("shows configurations that are valid", async () => {
    const directory = await mkdtemp(join(tmpdir(), "shardlift-docs-"));
    try {
      const found = examples("yaml").filter(({ text }) => text.startsWith("version: 1"));
      expect(found.length).toBeGreaterThan(1);
      await mkdir(join(directory, "secrets"));
      for (const name of ["s0", "s1"])
        await writeFile(join(directory, "secrets", name), "x", { mode: 0o600 });
      for (const { text } of found) {
        const file = join(directory, "shardlift.yaml");
        await writeFile(file, text);
        await expect(loadConfig(file, { S1_PASSWORD: "x" }, {})).resolves.toMatchObject({
          config: { path: file },
        });
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("shows a routing file as it is published", () => {
    const found = examples("json").filter(({ text }) => text.includes("shardlift.map/v1"));
    expect(found).toHaveLength(1);
    for (const { text } of found) expect(mapDocumentSchema.safeParse(JSON.parse(text)).error).toBeUndefined();
  });

  test("quotes refusals as the gate says them", () => {
    const quoted = pages.flatMap(({ text }) => text.match(/shardlift: (?:slice|not)[^`\n]*/g) ?? []);
    expect(quoted.length).toBeGreaterThan(3);
    expect(quoted.filter((text) => parseRefusal(text) === undefined)).toEqual([]);
  });

  test("imports from the router only what it exports", () => {
    const types = readFileSync(join(root, "src/router/router.ts"), "utf8");
    const names = ["ts", "js"]
      .flatMap(examples)
      .flatMap(({ text }) =>
        [...text.matchAll(/import (?:type )?\{([^}]*)\} from "shardlift\/router"/g)].flatMap(
          ([, list = ""]) => list.split(",").map((name) => name.trim().replace(/^type /, "")),
        ),
      );
    expect(names).toContain("openRouter");
    expect(
      names.filter(
        (name) =>
          name !== "" && !(name in router) && !new RegExp(`export type \\{[^}]*\\b${name}\\b`).test(types),
      ),
    ).toEqual([]);
  });
});

// ── the changelog ────────────────────────────────────────────────────────────────────────────────────────────────

describe("the changelog", () => {
  const { text } = pages.find(({ path }) => path === "CHANGELOG.md") ?? { text: "" };

  test("begins with what is not released yet", () => {
    expect([...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)[0]).toBe("[Unreleased]");
  });

  test("has only the sections that Keep a Changelog knows", () => {
    const known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    const sections = [...text.matchAll(/^### (.*)$/gm)].map(([, section = ""]) => section);
    expect(sections.filter((section) => !known.includes(section))).toEqual([]);
  });

  test("starts every entry with the command or the file that it is about", () => {
    const entries = [...text.matchAll(/^- (.*)$/gm)].map(([, entry = ""]) => entry);
    expect(entries.length).toBeGreaterThan(0);
    expect(entries.filter((entry) => !entry.startsWith("`"))).toEqual([]);
  });
});
