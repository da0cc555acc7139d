import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { GateSpec } from "../../src/engines/engine.ts";
import {
  createTriggerSql,
  dropTriggerSql,
  gateTriggers,
  insertGateSql,
  triggerName,
} from "../../src/engines/mysql/gate-sql.ts";
import { boundAt, MIN } from "../../src/model/key.ts";
import { formatRefusal, parseRefusal, type Refusal } from "../../src/routing/refusal.ts";
import { gateSpec, tableShape } from "../support/gate-spec.ts";

const place = { job: "split-1", tool: "shardlift", database: "shop" };
const mirror: GateSpec = { ...gateSpec, role: "mirror", owned: [{ from: MIN, to: boundAt("10") }] };

function bodies(spec: GateSpec): Readonly<Record<string, string>> {
  const own = gateTriggers({ ...spec, tables: spec.tables.slice(0, 1) }, place);
  return Object.fromEntries(own.map(({ event, body }) => [event, body]));
}

describe("a gate's triggers", () => {
  test("are three on each table, under names that fit and that no two share", () => {
    const triggers = gateTriggers(gateSpec, place);
    const other = gateTriggers(gateSpec, { ...place, job: "split-2" });
    expect(triggers.map(({ table, event }) => `${table} ${event}`)).toEqual([
      "orders INSERT",
      "orders UPDATE",
      "orders DELETE",
      "items INSERT",
      "items UPDATE",
      "items DELETE",
    ]);
    const names = [...triggers, ...other].map(({ name }) => name);
    expect(new Set(names).size).toBe(12);
    for (const name of names) expect(name).toMatch(/^shardlift_[0-9a-f]{16}_[iud]$/);
    expect(triggerName("a-b", "c", "INSERT")).not.toBe(triggerName("a", "b-c", "INSERT"));
  });

  test("ask the slice first, then the account, and the row last and under a lock", () => {
    const body = bodies(gateSpec)["INSERT"] ?? "";
    const places = ["NEW.`user_id` >= 100", "USER()", "LOCK IN SHARE MODE", "<> 'open'", "SIGNAL"].map(
      (text) => body.indexOf(text),
    );
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
  });

  test("look at the row before and after the change", () => {
    const { INSERT, UPDATE, DELETE } = bodies(gateSpec);
    expect(INSERT).not.toContain("OLD.");
    expect(DELETE).not.toContain("NEW.");
    expect(UPDATE).toContain("OLD.`user_id` >= 100");
    expect(UPDATE).toContain("NEW.`user_id` >= 100");
  });

  test("are AFTER triggers in the server's own database, with quoted names", () => {
    const [trigger] = gateTriggers({ ...gateSpec, tables: [tableShape("o`x", "k`y")] }, place);
    if (trigger === undefined) throw new Error("no trigger");
    expect(createTriggerSql(trigger)).toContain(
      `CREATE TRIGGER \`shop\`.\`${trigger.name}\` AFTER INSERT ON \`shop\`.\`o\`\`x\` FOR EACH ROW BEGIN`,
    );
    expect(createTriggerSql(trigger)).toContain("NEW.`k``y`");
    expect(dropTriggerSql(trigger)).toBe(`DROP TRIGGER IF EXISTS \`shop\`.\`${trigger.name}\``);
  });

  test("stay the same for every runner and every epoch", () => {
    expect(gateTriggers({ ...gateSpec, afterEpoch: 99 }, place)).toEqual(gateTriggers(gateSpec, place));
  });

  test("compare the account by bytes, and refuse one that can not be compared", () => {
    expect(bodies(gateSpec)["INSERT"]).toContain(
      "CAST(SUBSTRING_INDEX(USER(), '@', 1) AS BINARY) <> 'shardlift'",
    );
    const quoted = gateTriggers(gateSpec, { ...place, tool: "o'tool" });
    expect(quoted[0]?.body).toContain("<> 'o''tool'");
    for (const tool of ["a@b", "größe", "", "two words"]) {
      expect(() => gateTriggers(gateSpec, { ...place, tool })).toThrow(/can not let the account/);
    }
  });

  test("refuse a job whose name could end a literal", () => {
    expect(() => gateTriggers(gateSpec, { ...place, job: "x' OR '1" })).toThrow(/not a job's name/);
  });

  test("of a mirror fence off what the shard does not own, and a gate's do not", () => {
    const { INSERT, UPDATE, DELETE } = bodies(mirror);
    const outside = (image: string): string =>
      `((${image}.\`user_id\` < 10) OR (${image}.\`user_id\` >= 100)) IS NOT TRUE`;
    expect(INSERT).toContain(`IF (${outside("NEW")}) AND`);
    expect(DELETE).toContain(`IF (${outside("OLD")}) AND`);
    expect(UPDATE).toContain(`IF (${outside("OLD")} OR ${outside("NEW")}) AND`);
    expect(INSERT).toContain("slice not open");
    expect(bodies(gateSpec)["INSERT"]).not.toContain("IS NOT TRUE");
  });
});

test("a gate begins open and a mirror closed", () => {
  const claim = { storeId: "s'1", job: "split-1", token: 7 };
  expect(insertGateSql(gateSpec, claim)).toContain("VALUES ('split-1', 's''1', 7, 'gate', 'open', 41)");
  expect(insertGateSql(mirror, claim)).toContain("'mirror', 'closed', 41)");
});

describe("a refusal", () => {
  const refusals = fc.record({
    kind: fc.constantFrom("moved", "not-open", "not-owned"),
    job: fc.stringMatching(/^[a-z0-9-]{1,64}$/),
    afterEpoch: fc.maxSafeNat(),
  }) satisfies fc.Arbitrary<Refusal>;

  test("is read back as it was written, and is never cut by the server", () => {
    fc.assert(
      fc.property(refusals, (refusal) => {
        const message = formatRefusal(refusal);
        expect(parseRefusal(message)).toEqual(refusal);
        expect(message.length).toBeLessThanOrEqual(128);
        expect(message).toContain(`after epoch ${refusal.afterEpoch}`);
      }),
    );
  });

  test("is not seen in other messages", () => {
    for (const message of [
      "",
      "Deadlock found when trying to get lock; try restarting transaction",
      "Duplicate entry 'shardlift: slice moved, job a after epoch 1' for key 'PRIMARY'",
      "shardlift: slice moved, job a after epoch",
      "shardlift: slice moved, job a b after epoch 1",
      "shardlift: something else, job a after epoch 1",
    ]) {
      expect(parseRefusal(message)).toBeUndefined();
    }
  });
});
