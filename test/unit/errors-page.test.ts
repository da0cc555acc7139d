import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { codes } from "../../src/errors/codes.ts";
import { renderErrorsPage } from "../../src/errors/render.ts";

const root = join(import.meta.dirname, "../..");

describe("error codes", () => {
  test("docs/errors.md is what the table of codes gives", async () => {
    await expect(renderErrorsPage()).toMatchFileSnapshot(join(root, "docs/errors.md"));
  });

  test("every code is used somewhere in src/", async () => {
    const files = (await readdir(join(root, "src"), { recursive: true })).filter(
      (file) => file.endsWith(".ts") && file !== join("errors", "codes.ts"),
    );
    const texts = await Promise.all(files.map((file) => readFile(join(root, "src", file), "utf8")));
    const source = texts.join("\n");
    const unused = Object.keys(codes).filter((code) => !source.includes(`"${code}"`));
    expect(unused).toEqual([]);
  });

  test("every exit code is described in docs/exit-codes.md", async () => {
    const page = await readFile(join(root, "docs/exit-codes.md"), "utf8");
    const missing = Object.entries(codes).filter(
      ([, { exit }]) => !new RegExp(`^\\| *${exit} *\\|`, "m").test(page),
    );
    expect(missing).toEqual([]);
  });
});
