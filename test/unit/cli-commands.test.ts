import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { errorEnvelope, resultEnvelope } from "../../src/cli/envelope.ts";
import { ConfigSchema } from "../../src/commands/config/schema.ts";
import { ConfigValidate } from "../../src/commands/config/validate.ts";

const root = join(import.meta.dirname, "../..");
const canary = "c4nary-Pa55";
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "shardlift-cli-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
  await rm(directory, { recursive: true });
});

/** Runs a command as oclif does, and gives what it printed and its exit code. */
async function run(command: typeof ConfigValidate | typeof ConfigSchema, argv: readonly string[]) {
  const printed = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    vi.spyOn(process[name], "write").mockImplementation((chunk) => {
      printed[name] += chunk.toString();
      return true;
    });
  }
  // oclif's loader sets the id from the file's place.
  command.id = command === ConfigValidate ? "config:validate" : "config:schema";
  await command.run([...argv], { root });
  const exit = process.exitCode ?? 0;
  process.exitCode = undefined;
  vi.restoreAllMocks();
  return { ...printed, exit };
}

async function file(password: string, more = ""): Promise<string> {
  const path = join(directory, "shardlift.yaml");
  await writeFile(
    path,
    `version: 1
shards: {s0: {engine: mysql, hosts: ["db0:3306"], user: u, password: "${password}", database: shop}}
keyspaces: {shop: {function: range, key: id, tables: {orders: {}}, map: [{from: MIN, to: MAX, shard: s0}]}}
${more}`,
  );
  return path;
}

describe("config validate", () => {
  test("says what is in a valid file, and what to type next", async () => {
    vi.stubEnv("S0_PASSWORD", canary);
    const path = await file("${ENV:S0_PASSWORD}");
    const { stdout, stderr, exit } = await run(ConfigValidate, ["-c", path]);
    expect(stdout).toBe(`${path} is valid: 1 shard (s0)\n  keyspace shop: 1 table, 1 range on s0\n`);
    expect(stderr).toBe(`next: shardlift check --config ${path}\n`);
    expect(exit).toBe(0);
  });

  test("prints one envelope with --json, and one line of it in a stream of ndjson", async () => {
    vi.stubEnv("S0_PASSWORD", canary);
    const path = await file("${ENV:S0_PASSWORD}");
    const json = await run(ConfigValidate, ["-c", path, "--json"]);
    const envelope = resultEnvelope.parse(JSON.parse(json.stdout));
    expect(envelope).toMatchObject({
      schema: "shardlift.config-validate/v1",
      data: { path, shards: ["s0"], keyspaces: [{ name: "shop", tables: ["orders"], ranges: 1 }] },
      warnings: [],
      nextSteps: [`shardlift check --config ${path}`],
    });
    expect(json.stderr).toBe("");
    const lines = await run(ConfigValidate, ["-c", path, "--output", "ndjson"]);
    expect(lines.stdout.trim().split("\n")).toHaveLength(1);
    expect(resultEnvelope.parse(JSON.parse(lines.stdout)).data).toEqual(envelope.data);
  });

  test("exits with 2 and lists the problems on stderr, with nothing on stdout", async () => {
    const path = await file(canary, "copi: {}");
    const { stdout, stderr, exit } = await run(ConfigValidate, ["-c", path]);
    expect(exit).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain("Error: 2 problems in the configuration");
    expect(stderr).toContain(`${path}:4:1`);
    expect(stderr).toContain("E_CONFIG (exit 2)");
    expect(stderr).not.toContain(canary);
  });

  test("gives the same problems as data with --json, without the password", async () => {
    const path = await file(canary, "copi: {}");
    const { stdout, exit } = await run(ConfigValidate, ["-c", path, "--json"]);
    const { error } = errorEnvelope.parse(JSON.parse(stdout));
    expect(exit).toBe(2);
    expect(error).toMatchObject({ code: "E_CONFIG", exit: 2, retryable: false, cause: null });
    expect(error.problems).toMatchObject([
      { where: `${path}:2:70` },
      { where: `${path}:4:1`, found: 'unknown key "copi"', closest: "copy" },
    ]);
    expect(stdout).not.toContain(canary);
  });

  test("is refused with an unknown flag, in our own envelope, without argv", async () => {
    const { stdout, stderr, exit } = await run(ConfigValidate, ["--json", "--passwrd", canary]);
    expect([exit, stderr]).toEqual([2, ""]);
    expect(errorEnvelope.parse(JSON.parse(stdout)).error).toMatchObject({
      code: "E_USAGE",
      fix: "Run `shardlift config validate --help`.",
      problems: [{ where: "--passwrd", found: "unknown flag" }],
    });
    expect(stdout).not.toContain(canary);
  });

  test("takes the file from SHARDLIFT_CONFIG", async () => {
    vi.stubEnv("SHARDLIFT_CONFIG", join(directory, "other.yaml"));
    const { stderr } = await run(ConfigValidate, []);
    expect(stderr).toContain(join(directory, "other.yaml"));
    expect(stderr).toContain("there is no such file");
  });
});

describe("config schema", () => {
  test("prints the plain schema, ready for a file, or in the envelope", async () => {
    const plain = await run(ConfigSchema, []);
    expect(JSON.parse(plain.stdout)).toMatchObject({
      $schema: "https://json-schema.org/draft/2020-12/schema",
      title: "shardlift.yaml",
    });
    expect(plain.stderr).toBe("");
    const json = await run(ConfigSchema, ["--json"]);
    expect(resultEnvelope.parse(JSON.parse(json.stdout)).data).toEqual(JSON.parse(plain.stdout));
  });

  test.each(["result", "error", "event"])("describes the %s documents that commands print", async (of) => {
    const { stdout } = await run(ConfigSchema, ["--of", of]);
    expect(JSON.parse(stdout)).toMatchObject({
      type: "object",
      required: expect.arrayContaining([of === "event" ? "seq" : "schema"]),
    });
  });
});
