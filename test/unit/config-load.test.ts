import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { initialMap, type Config } from "../../src/config/config.ts";
import { resolveEndpoint } from "../../src/config/endpoint.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { SettingTexts } from "../../src/config/settings.ts";
import { InputError, ShardliftError, type Problem } from "../../src/errors/error.ts";
import { Secrets } from "../../src/lib/redact.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "shardlift-config-"));
  await writeFile(join(directory, "s0.pw"), "pass word\n", { mode: 0o600 });
});
afterEach(async () => rm(directory, { recursive: true }));

const good = `version: 1
control: {type: sqlite, path: state/control.db}
shards:
  s0: {engine: mysql, hosts: [127.0.0.1:3306, "db1r:3307"], user: u0, passwordFile: s0.pw, database: shop}
  s1: {engine: mariadb, hosts: [db2], user: u1, password: "\${ENV:S1_PASSWORD}", database: shop}
keyspaces:
  shop:
    function: range
    key: user_id
    tables: {orders: , order_items: {key: buyer_id}}
    map:
      - {from: MIN, to: 5000, shard: s0}
      - {from: 5000, to: MAX, shard: s1}
proxies: [{type: file, path: routing.json}]
copy: {threads: 2, chunkTarget: 250ms, rate: 20MB/s}
throttle:
cutover: {mode: auto, maxPause: 1s}
`;
const env = { S1_PASSWORD: "s1-secret" };

async function load(text: string, flags: SettingTexts = {}, variables: NodeJS.ProcessEnv = env) {
  const path = join(directory, "shardlift.yaml");
  await writeFile(path, text);
  return loadConfig(path, variables, flags);
}

async function problemsOf(
  text: string,
  flags: SettingTexts = {},
  variables: NodeJS.ProcessEnv = env,
): Promise<readonly Problem[]> {
  const error: unknown = await load(text, flags, variables).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as InputError).code).toBe("E_CONFIG");
  return (error as InputError).problems.map((problem) => ({
    ...problem,
    where: problem.where.replace(`${directory}/`, ""),
  }));
}

describe("a good configuration", () => {
  test("is read with units in milliseconds and bytes, absolute paths and defaults", async () => {
    const { config, warnings } = await load(good);
    expect(warnings).toEqual([]);
    expect(config).toEqual({
      path: join(directory, "shardlift.yaml"),
      control: { type: "sqlite", path: join(directory, "state/control.db") },
      shards: {
        s0: {
          engine: "mysql",
          hosts: [
            { host: "127.0.0.1", port: 3306 },
            { host: "db1r", port: 3307 },
          ],
          user: "u0",
          password: { from: "file", path: join(directory, "s0.pw") },
          database: "shop",
        },
        s1: {
          engine: "mysql",
          hosts: [{ host: "db2", port: 3306 }],
          user: "u1",
          password: { from: "env", name: "S1_PASSWORD" },
          database: "shop",
        },
      },
      keyspaces: {
        shop: {
          function: "range",
          keyType: "integer",
          tables: { orders: { key: "user_id" }, order_items: { key: "buyer_id" } },
          ranges: [
            { from: { at: "MIN" }, to: { at: "KEY", key: "5000" }, shard: "s0" },
            { from: { at: "KEY", key: "5000" }, to: { at: "MAX" }, shard: "s1" },
          ],
        },
      },
      publishers: [{ type: "file", path: join(directory, "routing.json") }],
      copy: { threads: 2, chunkTargetMs: 250, bytesPerSecond: 20_000_000, deferIndexes: true },
      throttle: { maxThreadsRunning: undefined, historyList: undefined },
      cutover: { mode: "auto", maxPauseMs: 1000, maxLagMs: 500, retries: 5, flipDeadlineMs: 2000 },
      rollback: { reverseWindowMs: 86_400_000 },
    } satisfies Config);
  });

  test("gives the first routing map at epoch 1", async () => {
    const { config } = await load(good);
    expect(initialMap(config)).toEqual({ epoch: 1, keyspaces: config.keyspaces });
  });

  test("keeps every digit and every zero of a key in the map", async () => {
    const bounds = async (type: string, key: string): Promise<unknown> => {
      const text = good.replace("key: user_id", `keyType: ${type}\n    key: user_id`).replaceAll("5000", key);
      return (await load(text)).config.keyspaces["shop"]?.ranges[0]?.to;
    };
    expect(await bounds("integer", "90071992547409931")).toEqual({ at: "KEY", key: "90071992547409931" });
    expect(await bounds("decimal", "12.50")).toEqual({ at: "KEY", key: "12.50" });
    expect(await bounds("binary", "0x00ff")).toEqual({ at: "KEY", key: "0x00ff" });
    expect(await bounds("temporal", "2024-05-01")).toEqual({ at: "KEY", key: "2024-05-01" });
  });

  test("may share settings between shards by anchors", async () => {
    const text = good.replace(
      / {2}s0: .*\n {2}s1: .*\n/,
      "  s0: &s {engine: mysql, hosts: [a], user: u, passwordFile: s0.pw, database: d}\n  s1: {<<: *s, hosts: [b]}\n",
    );
    expect((await load(text)).config.shards["s1"]).toMatchObject({
      user: "u",
      hosts: [{ host: "b", port: 3306 }],
    });
  });
});

describe("precedence", () => {
  test("a flag beats a variable, which beats the file, which beats the default", async () => {
    const variables = {
      ...env,
      SHARDLIFT_RATE: "5MB/s",
      SHARDLIFT_THREADS: "7",
      SHARDLIFT_REVERSE_WINDOW: "1h",
    };
    const { config } = await load(good, { rate: "unlimited", "max-pause": "1500ms" }, variables);
    expect(config.copy.bytesPerSecond).toBe(Number.POSITIVE_INFINITY);
    expect(config.copy.threads).toBe(7);
    expect(config.copy.chunkTargetMs).toBe(250);
    expect(config.cutover).toMatchObject({ maxPauseMs: 1500, mode: "auto", maxLagMs: 500 });
    expect(config.rollback.reverseWindowMs).toBe(3_600_000);
  });

  test("a wrong flag or variable is named, not the file", async () => {
    const problems = await problemsOf(good, { cutover: "manuel" }, { ...env, SHARDLIFT_RATE: "5" });
    expect(problems).toEqual([
      { where: "SHARDLIFT_RATE", found: 'copy.rate is "5"', accepted: expect.stringContaining("20MB/s") },
      {
        where: "--cutover",
        found: 'cutover.mode is "manuel"',
        accepted: "manual or auto",
        closest: "manual",
      },
    ]);
  });
});

describe("a broken configuration", () => {
  test("tells all its problems at once, in the order of the file, each with its place", async () => {
    const problems = await problemsOf(
      good
        .replace("version: 1", "version: 3")
        .replace("user: u0", "usr: u0")
        .replace("S1_PASSWORD", "NOT_SET")
        .replace("    key: user_id", "    kye: user_id")
        .replace("to: MAX, shard: s1", "to: MAX, shard: S1")
        .replace("250ms", "250")
        .replace("throttle:", "throtle:"),
    );
    expect(problems.map(({ where, found, closest }) => [where, found, closest])).toEqual([
      ["shardlift.yaml:1:10", "version is 3", undefined],
      ["shardlift.yaml:4:3", '"user" is missing', undefined],
      ["shardlift.yaml:4:61", 'unknown key "usr" in shards.s0', "user"],
      ["shardlift.yaml:5:59", "the environment variable NOT_SET is not set, or empty", undefined],
      ["shardlift.yaml:7:3", '"key" is missing', undefined],
      ["shardlift.yaml:9:5", 'unknown key "kye" in keyspaces.shop', "key"],
      ["shardlift.yaml:13:38", 'no shard is called "S1"', "s1"],
      ["shardlift.yaml:15:33", "copy.chunkTarget is 250", undefined],
      ["shardlift.yaml:16:1", 'unknown key "throtle"', "throttle"],
    ]);
  });

  test("refuses gaps, overlaps and open ends of a map at the range that is wrong", async () => {
    const gap = await problemsOf(good.replace("from: 5000", "from: 6000"));
    expect(gap).toMatchObject([{ where: "shardlift.yaml:13:9", found: "gap between range 1 and range 2" }]);
    const overlap = await problemsOf(good.replace("from: 5000", "from: 4999"));
    expect(overlap).toMatchObject([{ where: "shardlift.yaml:13:9", found: "range 1 overlaps range 2" }]);
    const ends = await problemsOf(good.replace("MIN", "0").replace("MAX", "9000"));
    expect(ends).toMatchObject([
      { where: "shardlift.yaml:12:9", found: "the first range must start at MIN" },
      { where: "shardlift.yaml:13:9", found: "the last range must end at MAX" },
    ]);
  });

  test("refuses a bound that is no key of the type", async () => {
    const problems = await problemsOf(good.replace("to: 5000", "to: 5e3"));
    expect(problems).toMatchObject([
      { where: "shardlift.yaml:12:25", found: '"5e3" is no key value of type integer' },
    ]);
  });

  test("refuses two shards in one database of one server, also under another name of the loopback", async () => {
    const problems = await problemsOf(good.replace("hosts: [db2]", 'hosts: ["LOCALHOST:3306"]'));
    expect(problems).toMatchObject([
      { where: "shardlift.yaml:5:33", accepted: "each server and database in one shard only" },
    ]);
  });

  test("refuses a table that is in two keyspaces", async () => {
    const second =
      "  more: {function: range, key: a, tables: {orders: {}}, map: [{from: MIN, to: MAX, shard: s0}]}\n";
    const problems = await problemsOf(good.replace("proxies:", `${second}proxies:`));
    expect(problems).toMatchObject([
      { where: "shardlift.yaml:14:44", accepted: "each table in one keyspace only" },
    ]);
  });

  test("says of reference tables, TLS and throttling that they come later", async () => {
    const problems = await problemsOf(
      good
        .replace("orders: ,", "orders: {mode: reference},")
        .replace("user: u1", "tls: {}, user: u1")
        .replace("throttle:", "throttle: {maxLag: 1s}"),
    );
    expect(problems.map(({ accepted }) => accepted)).toEqual([
      "nothing here yet (later: TLS to the servers)",
      "no mode; reference tables come later, so leave the table out for now",
      "nothing here yet (later: throttling by replicas and disks; use maxThreadsRunning, historyList or copy.rate)",
    ]);
  });

  test("finds a key that stands twice, and everything else beside it", async () => {
    const problems = await problemsOf(`${good.replace("threads: 2", "threads: 0")}copy: {threads: 2}\n`);
    expect(problems).toMatchObject([
      { where: "shardlift.yaml:15:17", found: "copy.threads is 0" },
      { where: "shardlift.yaml:18:1", found: 'the key "copy" stands twice in the same mapping' },
    ]);
  });

  test.each([
    ["an empty file", "", '"version" is missing'],
    ["a list", "- a\n", "the file is a list"],
    ["a text", "hunter2\n", "the file is plain text"],
    ["a tab", "version: 1\n\tcopy: {}\n", "a tab as indentation"],
    ["an open quote", 'user: "hunter2\n', "a quote, bracket or comma is missing here or above"],
    ["an alias without its anchor", "a: *hunter2\n", "an alias (`*name`) without its anchor"],
    ["two documents", "version: 1\n---\na: 1\n", "a second YAML document"],
    [
      "a missing colon",
      "hunter2\nversion: 1\n",
      "a line that does not fit what is around it (indentation, or a colon)",
    ],
  ])("%s is a problem with a place, and no text of the file is shown", async (_, text, found) => {
    const problems = await problemsOf(text);
    expect(problems[0]).toMatchObject({ where: expect.stringMatching(/^shardlift\.yaml:\d+:\d+$/), found });
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });

  test("a missing file is a problem", async () => {
    await expect(loadConfig(join(directory, "nope.yaml"), {})).rejects.toMatchObject({
      problems: [{ where: join(directory, "nope.yaml"), found: "there is no such file" }],
    });
  });
});

describe("passwords", () => {
  const canary = "c4nary-Pa55";
  const literals = [
    `password: ${canary}`,
    `password: "${canary}"`,
    `password: {value: ${canary}}`,
    `password: [${canary}]`,
    `password: "\${ENV:X}${canary}"`,
    `passwd: ${canary}`,
    `passwordFile: s0.pw, password: ${canary}`,
    `hosts: ["root:${canary}@db1:3306"]`,
    `password: *${canary}`,
    `password: "${canary}`,
    `password: ${canary}: x`,
  ];

  test.each(literals)("never show: %s", async (literal) => {
    const problems = await problemsOf(good.replace("passwordFile: s0.pw", literal));
    expect(problems.length).toBeGreaterThan(0);
    expect(JSON.stringify(problems)).not.toContain(canary);
  });

  test("a literal password is refused with what is accepted instead", async () => {
    const problems = await problemsOf(good.replace("passwordFile: s0.pw", "password: 12345"));
    expect(problems).toEqual([
      {
        where: "shardlift.yaml:4:81",
        found: "shards.s0.password is no text (not shown)",
        accepted: "${ENV:NAME}, or passwordFile",
      },
    ]);
  });

  test("a missing, empty or unreadable password file is a problem that names the path", async () => {
    await writeFile(join(directory, "empty.pw"), "");
    const found = async (file: string): Promise<unknown> =>
      (await problemsOf(good.replace("s0.pw", file))).map((problem) => problem.found);
    expect(await found("nope.pw")).toEqual([`there is no password file ${directory}/nope.pw`]);
    expect(await found("empty.pw")).toEqual([`the password file ${directory}/empty.pw is empty`]);
    expect(await found(".")).toEqual([`the password file ${directory} is a directory`]);
  });

  test("a password file that others can read, and a shard without a password, are warnings", async () => {
    await chmod(join(directory, "s0.pw"), 0o644);
    const open = await load(good);
    expect(open.warnings).toEqual([expect.stringContaining(`shardlift.yaml:4:`)]);
    expect(open.warnings[0]).toContain(`chmod 600 ${directory}/s0.pw`);
    const none = await load(good.replace(', password: "${ENV:S1_PASSWORD}"', ""));
    expect(none.warnings[1]).toContain("shards.s1 has neither passwordFile nor password");
  });

  test("are read when an endpoint is resolved, are known as secrets, and are not in the configuration", async () => {
    const { config } = await load(good);
    const secrets = new Secrets();
    expect(resolveEndpoint(config, "s0", { secrets, env })).toEqual({
      shard: "s0",
      hosts: config.shards["s0"]?.hosts,
      user: "u0",
      password: "pass word",
      database: "shop",
    });
    expect(resolveEndpoint(config, "s1", { secrets, env }).password).toBe("s1-secret");
    expect(secrets.redact("pass word, s1-secret")).toBe("[redacted], [redacted]");
    expect(JSON.stringify(config)).not.toMatch(/pass word|s1-secret/);
  });

  test("that changed are picked up by the next connection", async () => {
    const { config } = await load(good);
    await writeFile(join(directory, "s0.pw"), "rotated\r\n");
    expect(resolveEndpoint(config, "s0", { secrets: new Secrets() }).password).toBe("rotated");
  });

  test("that vanished after the check are an error with the place", async () => {
    const { config } = await load(good);
    await rm(join(directory, "s0.pw"));
    expect(() => resolveEndpoint(config, "s0", { secrets: new Secrets() })).toThrow(InputError);
    expect(() => resolveEndpoint(config, "s1", { secrets: new Secrets(), env: {} })).toThrow(/S1_PASSWORD/);
  });

  test("of a shard that does not exist are refused with the closest name", async () => {
    const { config } = await load(good);
    const call = (): unknown => resolveEndpoint(config, "S1", { secrets: new Secrets() });
    expect(call).toThrow(ShardliftError);
    expect(call).toThrow(expect.objectContaining({ next: expect.stringContaining('did you mean "s1"') }));
  });
});
