import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { closest, editDistance } from "../../src/lib/closest.ts";
import { parseHostPort, serverKey } from "../../src/lib/host-port.ts";
import { printable } from "../../src/lib/printable.ts";
import { Secrets } from "../../src/lib/redact.ts";
import { durationText, parseDuration, parseRate, parseSize } from "../../src/lib/units.ts";

describe("durations", () => {
  test.each([
    ["500ms", 500],
    ["2s", 2000],
    ["1.5h", 5_400_000],
    ["1h30m", 5_400_000],
    ["24h", 86_400_000],
    ["7d", 604_800_000],
    ["0s", 0],
  ])("%s is read as %i ms", (text, ms) => expect(parseDuration(text)).toBe(ms));

  test.each(["500", "", "s", "-1s", "1 s", "1S", "1h 30m", "1y", "1e3s", "99999999999999d"])(
    "%j is refused",
    (text) => expect(parseDuration(text)).toBeUndefined(),
  );

  test("the text of a duration is read back to the same duration", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e12 }), (ms) => {
        expect(parseDuration(durationText(ms))).toBe(ms);
      }),
    );
  });
});

describe("sizes and rates", () => {
  test.each([
    ["512B", 512],
    ["20MB", 20_000_000],
    ["20MiB", 20_971_520],
    ["1.5 GB", 1_500_000_000],
    ["1kB", 1000],
  ])("%s is read as %i bytes", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test("20MB/s and unlimited are rates", () => {
    expect(parseRate("20MB/s")).toBe(20_000_000);
    expect(parseRate("unlimited")).toBe(Number.POSITIVE_INFINITY);
  });

  test.each(["20mb/s", "20Mb/s", "20MB", "20", "0B/s", "-1MB/s", "MB/s"])("the rate %j is refused", (text) =>
    expect(parseRate(text)).toBeUndefined(),
  );
});

describe("closest match", () => {
  test.each([
    ["tabels", "tables"],
    ["atbles", "tables"],
    ["usr", "user"],
    ["S0", "s0"],
    ["chunktarget", "chunkTarget"],
  ])("%s means %s", (word, meant) => {
    expect(closest(word, ["user", "tables", "s0", "chunkTarget"])).toBe(meant);
  });

  test("a word that resembles nothing has no match", () => {
    expect(closest("x", ["user", "tables"])).toBeUndefined();
    expect(closest("50%", ["100%"])).toBeUndefined();
    expect(closest("", ["a"])).toBeUndefined();
  });

  test("a swap of neighbours is one slip", () => {
    expect(editDistance("kye", "key")).toBe(1);
    expect(editDistance("", "abc")).toBe(3);
  });

  test("the distance is symmetric and zero only for equal words", () => {
    const word = fc.string({ maxLength: 8 });
    fc.assert(
      fc.property(word, word, (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
      }),
    );
  });
});

describe("hosts", () => {
  test("a host, its port and IPv6 brackets are taken apart", () => {
    expect(parseHostPort("db1:3307", 3306)).toEqual({ host: "db1", port: 3307 });
    expect(parseHostPort("db1", 3306)).toEqual({ host: "db1", port: 3306 });
    expect(parseHostPort("[::1]:3307", 3306)).toEqual({ host: "::1", port: 3307 });
  });

  test.each(["", "db1:", "db1:0", "db1:99999", "a b:1", "user@db1:3306", "::1", "db1:3306/shop"])(
    "%j is refused",
    (text) => expect(parseHostPort(text, 3306)).toBeUndefined(),
  );

  test("names of the loopback are one server", () => {
    expect(serverKey({ host: "LOCALHOST", port: 1 })).toBe(serverKey({ host: "127.0.0.1", port: 1 }));
    expect(serverKey({ host: "db1", port: 1 })).not.toBe(serverKey({ host: "db2", port: 1 }));
  });
});

describe("secrets", () => {
  test("a secret never survives, plain, in JSON or in a URL, whatever it is and wherever it stands", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.string(), fc.string(), (secret, before, after) => {
        const secrets = new Secrets();
        secrets.add(secret);
        // The mark itself is the only text that may contain a very short secret.
        const rest = secrets.redact(before + secret + after).replaceAll("[redacted]", "");
        expect(rest.length).toBeLessThan((before + secret + after).length);
        expect(secrets.redact(JSON.stringify({ p: secret }))).toContain("[redacted]");
      }),
    );
  });

  test("of two secrets, one inside the other, nothing is left over", () => {
    const secrets = new Secrets();
    secrets.add("abc");
    secrets.add("abcdef");
    expect(secrets.redact("x abcdef y abc")).toBe("x [redacted] y [redacted]");
  });

  test("data keeps its keys and its short values, and loses long secrets", () => {
    const secrets = new Secrets();
    secrets.add("shop");
    secrets.add("correct horse");
    expect(secrets.redactData({ shop: ["shop", "is correct horse!"], n: 1, at: null })).toEqual({
      shop: ["shop", "is [redacted]!"],
      n: 1,
      at: null,
    });
  });

  test("an empty password hides nothing", () => {
    const secrets = new Secrets();
    secrets.add("");
    expect(secrets.redact("abc")).toBe("abc");
  });
});

test("control characters and bidirectional overrides can not reach the terminal", () => {
  expect(printable("a\u001b[31mb\u009bc\u202ed\r\ne\tf")).toBe("a\\u001b[31mb\\u009bc\\u202ed\\u000d\ne\tf");
});
