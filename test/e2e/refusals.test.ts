import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeServers } from "../support/servers.ts";
import { serverPicture } from "../support/server-picture.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

interface ErrorEnvelope {
  readonly schema: string;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly fix: string;
    readonly exit: number;
    readonly problems?: { readonly where: string }[];
    readonly findings?: {
      readonly check: string;
      readonly level: string;
      readonly where: string;
      readonly fix: string;
    }[];
  };
}

describeServers(
  "what can not be done is refused, with every reason, before anything is touched",
  (flavor) => {
    let lab: ShopLab;
    beforeAll(async () => {
      lab = await openShopLab(flavor, { rows: 500 });
    });
    afterAll(() => lab[Symbol.asyncDispose]());

    async function refused(...args: string[]): Promise<ErrorEnvelope["error"]> {
      const result = await lab.cli(...args, "--json");
      const envelope = JSON.parse(result.stdout) as ErrorEnvelope;
      expect(envelope.schema).toBe("shardlift.error/v1");
      expect(result.code).toBe(envelope.error.exit);
      return envelope.error;
    }

    test("wrong split arguments are told all at once: exit 2", async () => {
      const error = await refused("split", "s7", "--into", "s0,sx,s1", "--at", "20,10", "--yes");
      expect(error).toMatchObject({ code: "E_USAGE", exit: 2 });
      expect(error.problems?.map(({ where }) => where)).toEqual(["SHARD", "--into", "--at"]);
    });

    test("without a terminal and without --yes nothing is started: exit 2", async () => {
      expect(await refused("split", "s0", "--into", "s0,s1")).toMatchObject({ code: "E_USAGE", exit: 2 });
    });

    test("a wrong password and a dead server are named, the password is not: exit 4", async () => {
      const text = await readFile(lab.config, "utf8");
      await writeFile(join(lab.directory, "wrong"), "canary-7f3a\n", { mode: 0o600 });
      const broken = join(lab.directory, "broken.yaml");
      await writeFile(broken, text.replace("passwordFile: password", "passwordFile: wrong"), { mode: 0o600 });
      const error = await refused("check", "--config", broken);
      expect(error).toMatchObject({ code: "E_CONNECT", exit: 4 });
      expect(error.message).toMatch(/s0.*127\.0\.0\.1/);
      expect(JSON.stringify(error)).not.toContain("canary-7f3a");
      // A port that was free a moment ago, and that no server of ours listens on.
      await writeFile(broken, text.replace(`:${lab.source.port}`, ":1"), { mode: 0o600 });
      expect(await refused("check", "--config", broken)).toMatchObject({ code: "E_CONNECT", exit: 4 });
    });

    test("every problem of a bad configuration is told with its place: exit 2", async () => {
      const broken = join(lab.directory, "many.yaml");
      await writeFile(
        broken,
        [
          "version: 1",
          "control: {type: sqlite}",
          "shard: {}",
          "keyspaces: {shop: {function: hash, key: user_id, tables: {}}}",
          "",
        ].join("\n"),
      );
      const error = await refused("split", "s0", "--into", "s0,s1", "--yes", "--config", broken);
      expect(error).toMatchObject({ code: "E_CONFIG", exit: 2 });
      expect(error.problems?.length).toBeGreaterThanOrEqual(4);
      for (const { where } of error.problems ?? []) expect(where).toMatch(/many\.yaml(:\d+:\d+)?$/);
    });

    test("blockers carry the SQL that mends them, nothing is touched, and the slice stays free: exit 3", async () => {
      await using root = await lab.connect("s0");
      await root.query("ALTER TABLE order_items DROP INDEX by_buyer");
      await root.query(
        "CREATE TABLE refunds (id INT PRIMARY KEY, order_id BIGINT UNSIGNED, FOREIGN KEY (order_id) REFERENCES orders (id))",
      );
      const before = await serverPicture(root);
      const error = await refused("split", "s0", "--into", "s0,s1", "--at", "20", "--yes");
      expect(error).toMatchObject({ exit: 3 });
      const blockers = error.findings?.filter(({ level }) => level === "blocker") ?? [];
      expect(blockers.map(({ check }) => check)).toEqual(
        expect.arrayContaining(["foreign-keys", "shard-key"]),
      );
      for (const blocker of blockers) expect(blocker.fix).not.toBe("");
      expect(await serverPicture(root)).toEqual(before);

      await root.query("DROP TABLE refunds");
      await root.query("ALTER TABLE order_items ADD INDEX by_buyer (buyer_id)");
      const again = await lab.cli(
        "split",
        "s0",
        "--into",
        "s0,s1",
        "--at",
        "20",
        "--yes",
        "--until",
        "ready",
      );
      expect(again, again.stderr).toMatchObject({ code: 0 });
      expect(await lab.cli("abort", "--yes")).toMatchObject({ code: 0 });
    });

    test("a plan whose tables have changed since is stale: exit 9", async () => {
      const file = join(lab.directory, "s.plan.json");
      expect(
        await lab.cli("plan", "split", "s0", "--into", "s0,s1", "--at", "20", "--out", file),
      ).toMatchObject({ code: 0 });
      await using root = await lab.connect("s0");
      await root.query("ALTER TABLE orders ADD COLUMN later INT NULL");
      expect(await refused("run", file, "--yes")).toMatchObject({ code: "E_STALE_PLAN", exit: 9 });
      await root.query("ALTER TABLE orders DROP COLUMN later");
      const run = await lab.cli("run", file, "--yes", "--until", "copied");
      expect(run, run.stderr).toMatchObject({ code: 0 });
      expect(await lab.cli("abort", "--yes")).toMatchObject({ code: 0 });
    });

    test("two jobs can not move the same slice", async () => {
      expect(
        await lab.cli("split", "s0", "--into", "s0,s1", "--at", "20", "--yes", "--until", "copied"),
      ).toMatchObject({
        code: 0,
      });
      expect(await refused("split", "s0", "--into", "s0,s1", "--at", "10", "--yes")).toMatchObject({
        code: "E_SLICE_HELD",
      });
      expect(await lab.cli("abort", "--yes")).toMatchObject({ code: 0 });
    });
  },
);
