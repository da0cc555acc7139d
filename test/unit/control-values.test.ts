import fc from "fast-check";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { hostIdentity, isSurelyDead, thisProcess } from "../../src/control/host-identity.ts";
import { canonicalJson, decodeJson, encodeJson } from "../../src/control/json.ts";
import {
  claimKey,
  intentKey,
  intentsOfJob,
  jobKey,
  journalKey,
  journalPrefix,
  sliceLockKey,
} from "../../src/control/keys.ts";
import { judgeFileSystem } from "../../src/control/sqlite-file.ts";
import { mapDocument, mapDocumentSchema } from "../../src/routing/map-codec.ts";

describe("canonical JSON", () => {
  test("does not depend on the order of keys, and loses nothing", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const turned = Object.fromEntries(Object.entries(value).toReversed());
        expect(canonicalJson(turned)).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("refuses numbers that JSON would turn into null", () => {
    expect(() => encodeJson({ a: Number.NaN })).toThrow("NaN");
    expect(() => encodeJson([Number.POSITIVE_INFINITY])).toThrow("Infinity");
  });

  test("that is not understood is named with its key and its field", () => {
    const schema = z.strictObject({ a: z.int() });
    expect(() => decodeJson(Buffer.from('{"a":"x"}'), schema, "map/7")).toThrow(
      /^map\/7 in the control store .* a: /,
    );
    expect(() => decodeJson(Buffer.from("{"), schema, "map/7")).toThrow(
      "map/7 in the control store is not JSON",
    );
    expect(() => decodeJson(encodeJson({ a: 1, b: 2 }), schema, "k")).toThrow("(top)");
  });
});

test("no name from outside reaches into another key's place", () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 30, unit: "grapheme" }),
      fc.string({ minLength: 1, maxLength: 30 }),
      (a, b) => {
        for (const key of [jobKey(a), claimKey(a), sliceLockKey(a), intentKey(a, 0), journalKey(a, 1)]) {
          expect(key).toMatch(/^[\x21-\x7e]+$/);
        }
        if (a === b) return;
        expect(jobKey(a)).not.toBe(jobKey(b));
        expect(journalKey(a, 1).startsWith(journalPrefix(b))).toBe(false);
        expect(intentKey(a, 1).startsWith(intentsOfJob(b))).toBe(false);
      },
    ),
  );
  expect(journalKey("j", 9) < journalKey("j", 10)).toBe(true);
});

test("a network file system is refused, a doubtful one is named, a local one passes", () => {
  expect(judgeFileSystem(0x6969)).toEqual({ refused: true, name: "NFS" });
  // As a sign-extended 32-bit number.
  expect(judgeFileSystem(0xff534d42 | 0)).toEqual({ refused: true, name: "SMB" });
  expect(judgeFileSystem(0x01021994)).toMatchObject({ refused: false });
  for (const local of [0xef53, 0x58465342, 0x9123683e, 0x794c7630])
    expect(judgeFileSystem(local)).toBeUndefined();
});

describe("a process", () => {
  const host = hostIdentity();

  test("that has ended is surely dead, also when its number lives on", async () => {
    const child = spawn(process.execPath, ["-e", ""]);
    const identity = { ...thisProcess(host), pid: child.pid ?? 0 };
    await once(child, "close");
    expect(isSurelyDead(identity, host)).toBe(true);
    expect(isSurelyDead(thisProcess(host), host)).toBe(false);
    expect(isSurelyDead({ ...thisProcess(host), startTicks: "1" }, host)).toBe(true);
  });

  test("of another namespace or another boot is never surely dead", () => {
    const gone = { ...thisProcess(host), pid: 4_194_305 };
    expect(isSurelyDead(gone, host)).toBe(true);
    expect(isSurelyDead({ ...gone, pidNamespace: "pid:[1]" }, host)).toBe(false);
    expect(isSurelyDead({ ...gone, bootId: "another" }, host)).toBe(false);
  });
});

test("a map document refuses ranges that do not cover the key space", () => {
  const keyspace = { function: "range" as const, keyType: "integer" as const, tables: {}, ranges: [] };
  expect(() => mapDocument({ epoch: 1, keyspaces: { shop: keyspace } }, "s")).toThrow("start at MIN");
  expect(
    mapDocumentSchema.safeParse({ schema: "shardlift.map/v2", store: "s", epoch: 1, keyspaces: {} }).success,
  ).toBe(false);
});
