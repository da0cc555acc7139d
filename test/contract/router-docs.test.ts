import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Lab, mapOf, openLab } from "../support/router-lab.ts";
import { describeServers, passwords, useServer } from "../support/servers.ts";

const root = new URL("../../", import.meta.url);

describeServers("the documentation of the router", (flavor) => {
  const server = useServer(flavor, { databases: ["s0", "s1"] });
  let lab: Lab;
  let directory: string;

  beforeEach(async () => {
    lab = await openLab(server(), mapOf(1, "s1"));
    directory = await mkdtemp(join(tmpdir(), "shardlift-example-"));
  });
  afterEach(async () => {
    await lab[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  test("shows an example that runs as it stands, but for its addresses", async () => {
    const page = await readFile(fileURLToPath(new URL("docs/router.md", root)), "utf8");
    const example = /```js\n(.*?)```/s.exec(page)?.[1] ?? "";
    const places: Readonly<Record<string, string>> = {
      '"shardlift/router"': JSON.stringify(
        pathToFileURL(fileURLToPath(new URL("src/router/router.ts", root))),
      ),
      '".shardlift/control.db"': JSON.stringify(lab.storePath),
      'port: 3306, database: "shop"': `port: ${server().port}, database: "s0"`,
      'port: 3307, database: "shop"': `port: ${server().port}, database: "s1"`,
    };
    let runnable = example;
    for (const [written, here] of Object.entries(places)) {
      expect(runnable).toContain(written);
      runnable = runnable.replace(written, here);
    }
    const file = join(directory, "example.mjs");
    await writeFile(file, runnable);
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      env: { ...process.env, DB_PASSWORD: passwords.app },
    });
    expect(stdout.trim()).toBe("1 moved [ { id: '1' } ]");
    expect(await lab.rows("s1", "SELECT id, user_id, v FROM orders")).toEqual([
      { id: 1, user_id: 6000, v: 1 },
    ]);
    expect(example.trim().split("\n").length).toBeLessThanOrEqual(22);
  });
});
