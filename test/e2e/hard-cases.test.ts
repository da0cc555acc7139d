import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { canonicalRows, hardCases, runFile, statementsOf, type HardCase } from "../support/hard-cases.ts";
import { connect, describeServers } from "../support/servers.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

/** Without a usable primary key, or with foreign keys: refused so far. */
const refused = new Set(["s10_keyless", "s14_fk_cascade"]);

const database = "hard";

describeServers("schemas and workloads that broke other tools", (flavor) => {
  const cases = hardCases.filter((one) => one.flavors.includes(flavor));
  let lab: ShopLab;
  let config: string;

  beforeAll(async () => {
    lab = await openShopLab(flavor, { rows: 10 });
    for (const server of [lab.source, lab.target]) {
      await using root = await connect(server, "root");
      await root.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
    }
    for (const one of cases) {
      await using root = await connect(lab.source, "root", { database, charset: "utf8mb4" });
      await runFile(root, one.id, "schema");
    }
    config = join(lab.directory, "hard.yaml");
    await writeFile(config, configText(lab, cases), { mode: 0o600 });
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  test.for(cases.filter((one) => !refused.has(one.id)).map((one) => [one.id, one] as const))(
    "%s is equal to the last byte after a split under its workload",
    async ([id, one]) => {
      const stop = new AbortController();
      let rounds = 0;
      const workload = (async () => {
        // Not root: the gate lets nobody pass but the tool.
        await using app = await connect(lab.source, "root", { database, charset: "utf8mb4" });
        while (!stop.signal.aborted) {
          for (const statement of statementsOf(id, "workload")) {
            await app.query(statement).catch((error: { errno?: number }) => {
              // Refused by the closed gate, or the case's own deadlocks and duplicates after a refused statement.
              if (![1644, 1213, 1205, 1062].includes(error.errno ?? 0)) throw error;
            });
          }
          rounds += 1;
        }
      })();
      try {
        await vi.waitFor(() => expect(rounds).toBeGreaterThan(0), { timeout: 60_000 });
        const split = await lab.cli(
          "split",
          "s0",
          "--into",
          "s0,s1",
          "--keyspace",
          one.id,
          "--at",
          one.from,
          "--yes",
          "--cutover",
          "auto",
          "--config",
          config,
        );
        expect(split, split.stderr).toMatchObject({ code: 0 });
      } finally {
        stop.abort();
        await workload;
      }
      await using source = await connect(lab.source, "root", { database, charset: "utf8mb4" });
      await using target = await connect(lab.target, "root", { database, charset: "utf8mb4" });
      const moved = `\`${one.shardKey}\` >= ${one.from}`;
      for (const table of one.tables) {
        // The old shard keeps its rows behind the closed gate exactly as they were when it closed.
        const before = await canonicalRows(source, id, table, moved);
        expect(before.length).toBeGreaterThan(0);
        expect(await canonicalRows(target, id, table, "TRUE")).toEqual(before);
      }
    },
  );

  test.for(cases.filter((one) => refused.has(one.id)).map((one) => [one.id, one] as const))(
    "%s is refused before anything is touched, naming the table",
    async ([, one]) => {
      const split = await lab.cli(
        "split",
        "s0",
        "--into",
        "s0,s1",
        "--keyspace",
        one.id,
        "--at",
        one.from,
        "--yes",
        "--config",
        config,
      );
      expect(split.code, split.stderr).toBe(3);
      expect(one.tables.some((table) => split.stderr.includes(table))).toBe(true);
    },
  );
});

/** One keyspace for each case: every table is cut at its own place. */
function configText(lab: ShopLab, cases: readonly HardCase[]): string {
  const shard = ({ port }: ShopLab["source"]): object => ({
    engine: "mysql",
    hosts: [`127.0.0.1:${port}`],
    user: "shardlift",
    passwordFile: join(lab.directory, "password"),
    database,
  });
  const keyspaces = cases.map(({ id, shardKey, tables }) => [
    id,
    {
      function: "range",
      key: shardKey,
      tables: Object.fromEntries(tables.map((table) => [table, {}])),
      map: [{ from: "MIN", to: "MAX", shard: "s0" }],
    },
  ]);
  return stringify({
    version: 1,
    control: { type: "sqlite", path: "hard/control.db" },
    shards: { s0: shard(lab.source), s1: shard(lab.target) },
    keyspaces: Object.fromEntries(keyspaces) as object,
  });
}
