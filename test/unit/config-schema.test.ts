import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { configJsonSchema } from "../../src/config/schema.ts";
import { variableOf } from "../../src/config/settings.ts";

interface Node {
  readonly properties?: Record<string, Node>;
  readonly additionalProperties?: Node | false;
  readonly items?: Node;
  readonly description?: string;
  readonly not?: unknown;
}

/** Every setting as `copy.threads`, `shards.NAME.hosts`, `keyspaces.NAME.map[].from`. */
function settings(node: Node, path = ""): { readonly path: string; readonly node: Node }[] {
  const children = [
    ...Object.entries(node.properties ?? {}).map(
      ([key, child]) => [path === "" ? key : `${path}.${key}`, child] as const,
    ),
    ...(node.additionalProperties ? [[`${path}.NAME`, node.additionalProperties] as const] : []),
    ...(node.items ? [[`${path}[]`, node.items] as const] : []),
  ];
  return children.flatMap(([childPath, child]) => [
    { path: childPath, node: child },
    ...settings(child, childPath),
  ]);
}

const schema = configJsonSchema();

describe("the JSON Schema of the configuration", () => {
  test("is draft 2020-12 and closed: an editor refuses unknown keys as the tool does", () => {
    expect(schema["$schema"]).toBe("https://json-schema.org/draft/2020-12/schema");
    const open = [{ path: "", node: schema as Node }, ...settings(schema)].filter(
      ({ node }) => node.properties !== undefined && node.additionalProperties !== false,
    );
    expect(open).toEqual([]);
  });

  test("describes what may be written, with patterns and defaults, not what it becomes", () => {
    expect(schema).toMatchObject({
      properties: {
        copy: {
          properties: {
            chunkTarget: { type: "string", default: "500ms", pattern: expect.stringContaining("ms|s") },
          },
        },
        cutover: { properties: { mode: { enum: ["manual", "auto"], default: "manual" } } },
      },
      required: ["version", "shards", "keyspaces"],
    });
  });

  test("has every setting in docs/configuration.md, with its default and its variable", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/configuration.md"), "utf8");
    const firstCells = new Set(page.split("\n").map((line) => line.split("|")[1]?.trim()));
    const missing = settings(schema)
      .filter(
        ({ node }) =>
          !("properties" in node || "items" in node || "not" in node || node.additionalProperties),
      )
      .filter(({ path }) => !firstCells.has(`\`${path.replace(/\[\]$/, "")}\``))
      .map(({ path }) => path);
    expect(missing).toEqual([]);
    const names = ["rate", "threads", "cutover", "max-pause", "max-lag", "reverse-window"] as const;
    for (const name of names) expect(page).toContain(`\`${variableOf(name)}\``);
  });
});
